"""What befalls the data and the tokenizer: the race goes on without the bad rows, or ends before any work, in words."""

import json

import pytest

from tests.advisor.tiny_run import write_rows

ROWS = 400
HUGE_BYTES = 20_000_000
BAD_LINES = {
    "cut off": b'{"prompt": "1+1=", "compl',
    "no JSON": b"\xff\xfe\x00\x01",
    "huge": b'{"prompt": "' + b"1" * HUGE_BYTES + b'", "completion": "1"}',
}


@pytest.fixture
def rows(tmp_path):
    """A file of good rows."""
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"prompt": f"{i % 20}+{i // 20}=", "completion": str(i % 20 + i // 20)}) for i in range(ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.fault("corrupt and huge lines")
def test_a_race_goes_on_without_corrupt_and_huge_lines(bench, rows, record_property):
    record_property("injected", len(BAD_LINES))
    good = rows.read_bytes().splitlines()
    rows.write_bytes(b"\n".join([*good[:100], *BAD_LINES.values(), *good[100:]]))
    bench.data = rows
    assert bench.run(worker=bench.stub(), methods=("lora",)).code == 0
    data = bench.result()["data"]
    assert data["usable_rows"] == ROWS
    assert sum(data["dropped"].values()) == len(BAD_LINES)


@pytest.mark.fault("too many bad lines, no rows, all rows filtered")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ('{"prompt": "1+1=", "completion": "2"}\n{"broken\n' * 50, "50 of 100 rows"),
        ('{"prompt": "1+1=", "completion": ""}\n' * 50, "0 rows are left to train on"),
        ('{"prompt": "' + "1" * 400 + '", "completion": "2"}\n', "0 rows are left to train on"),
    ],
)
def test_data_without_use_ends_before_the_model_loads(bench, tmp_path, content, words):
    bench.data = tmp_path / "data.jsonl"
    bench.data.write_text(content)
    advisor = bench.run(worker=bench.stub())
    assert advisor.code == 2
    assert words in advisor.messages.read_text()
    assert "Traceback" not in advisor.said
    assert not bench.pids.exists()  # no worker was started
    assert not bench.out.exists()


@pytest.mark.fault("no pad token")
def test_a_tokenizer_without_a_pad_token_pads_with_its_end_and_the_script_knows(bench, tmp_path):
    from tests.advisor.tiny_run import save_tiny

    bench.model = save_tiny(tmp_path / "model", "llama")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = bench.model / name
        if path.exists():
            settings = json.loads(path.read_text())
            settings.pop("pad_token", None)
            path.write_text(json.dumps(settings))
    bench.data = write_rows(tmp_path / "sums.jsonl", "causal-lm")
    assert bench.run(methods=("lora",)).code == 0
    assert bench.result()["training"]["pad_token"] == "</s>"
    assert "</s>" in (bench.out / "train.py").read_text()
