"""What was worked out once is read again, unless anything that it depends on differs."""

import pytest

from knowledge.schema import PlannedRun
from probes.memory import cache, estimate_peak
from probes.memory import estimate as estimate_module
from tests.tiny import tiny_model

RUN = PlannedRun(max_steps=4, batch_size=2, max_length_tokens=32)
LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_in_memory", {})
    return tmp_path / "memory"


@pytest.fixture
def replays(monkeypatch):
    """One entry for each estimate that had to be worked out."""
    done, summarise = [], estimate_module.summarise

    def counted(*arguments, **options):
        done.append(arguments)
        return summarise(*arguments, **options)

    monkeypatch.setattr(estimate_module, "summarise", counted)
    return done


def peak(run=RUN, **options):
    return estimate_peak(tiny_model("llama", trained=False).config, LORA, run, **options)


def test_an_equal_run_is_worked_out_once(cache_folder, replays):
    first = peak()
    assert peak() == first and len(replays) == 1
    [stored] = cache_folder.glob("*.json")
    assert not list(cache_folder.glob("*.tmp"))
    stored.write_text(stored.read_text()[:40])  # as a full disk or a power cut may leave it
    assert peak() == first and len(replays) == 2


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:200] + b"x" * 99 + b[299:]])
def test_a_damaged_trace_is_made_anew(cache_folder, replays, monkeypatch, damage):
    first = peak()
    for stored in cache_folder.glob("*.npz"):
        stored.write_bytes(damage(stored.read_bytes()))
    [estimate] = cache_folder.glob("*.json")
    estimate.unlink()
    monkeypatch.setattr(cache, "_in_memory", {})
    assert peak() == first and len(replays) == 2


def test_what_could_not_be_written_whole_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="full"), cache._whole_or_not_at_all(tmp_path / "a.json") as file:
        file.write(b"half")
        raise OSError("full")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        {"run": RUN.model_copy(update={"batch_size": 4})},
        {"run": RUN.model_copy(update={"seed": 1})},
        {"lengths_tokens": [32] * 8},
        {"optimizer_settings": {"amsgrad": True}},
    ],
    ids=["batch size", "order of the rows", "lengths", "optimizer"],
)
def test_another_run_is_another_estimate(cache_folder, replays, other):
    peak()
    peak(**other)
    assert len(replays) == 2


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch, replays):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(cache, "_in_memory", {})
    assert peak() == peak() and len(replays) == 2
