"""`advisor inspect` and `advisor doctor`: tables for people, JSON for programs, and no weights loaded."""

import json
import sys

import pytest

from advisor.cli import main
from tests.probes.tokenizers import CHAT_TEMPLATE, byte_tokenizer
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model("llama", trained=False).save_pretrained(folder)
    tokenizer = byte_tokenizer(chat_template=CHAT_TEMPLATE)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": len(tokenizer)}))
    # Whoever reads the weights fails: only config and tokenizer are needed here.
    (folder / "model.safetensors").write_bytes(b"no weights")
    return folder


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows [bold].jsonl"
    rows = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(capsys, *arguments):
    """(exit code, stdout, stderr) of the command line."""
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_json_holds_model_data_device_and_methods(capsys, model_folder, data):
    code, out, err = run(capsys, "inspect", "--model", model_folder, "--data", data, "--json")
    assert code == 0 and err == ""
    found = json.loads(out)
    assert found["schema_version"] == 1
    assert found["model"]["model_type"] == "llama" and found["model"]["source"] == "local folder"
    assert found["data"]["format"] == "prompt-completion" and found["data"]["rows"] == 60
    assert found["row"]["text"].endswith(found["row"]["trained"][0]) and found["row"]["trained"][0].startswith(" ")
    assert found["device"]["total_bytes"] > 0
    methods = {method["name"]: method for method in found["methods"]}
    assert methods["lora"]["applies"] and methods["lora"]["reason"] is None
    assert all((method["reason"] is None) == method["applies"] for method in methods.values())


def test_the_table_takes_names_from_outside_literally(capsys, model_folder, data):
    code, out, _ = run(capsys, "inspect", "--model", model_folder, "--data", data)
    assert code == 0
    assert "[bold]" in out
    learned = 'it learns         " '
    for part in ("llama, 2 layers", "60 read, 60 usable", "exact match", "methods can apply", "lora", learned):
        assert part in out


def test_own_held_out_rows_are_named_and_what_they_share_with_the_data_too(capsys, model_folder, data, tmp_path):
    own = tmp_path / "own.jsonl"
    rows = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(57, 90)]
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = run(capsys, "inspect", "--model", model_folder, "--data", data, "--eval-data", own)
    told = "".join(out.split())
    assert code == 0 and f"57totrainon,33heldoutofthe33in{own}" in told
    assert f"Leftoutoftraining,for{own}hasrowswiththesameprompt:3rowsofthedata." in told


def test_of_many_classes_the_first_are_shown(capsys, model_folder, tmp_path):
    path = tmp_path / "classes.jsonl"
    path.write_text("".join(json.dumps({"text": f"{i} or so", "label": f"c{i:03}"}) + "\n" for i in range(100)))
    code, out, _ = run(capsys, "inspect", "--model", model_folder, "--data", path)
    assert code == 0 and "c011 and 88 more" in " ".join(out.split()) and "c012" not in out


def test_another_card_is_planned_for(capsys, model_folder):
    code, out, _ = run(capsys, "inspect", "--model", model_folder, "--vram", "24GB", "--json")
    found = json.loads(out)
    assert code == 0 and found["data"] is None
    assert found["device"]["planned"] and found["device"]["limit_bytes"] == 24 * 10**9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "/nowhere"), "No such model"),
        (("--model", "MODEL", "--data", "missing.jsonl"), "No such file"),
        (("--model", "MODEL", "--data", "DATA", "--format", "xml"), "Unknown data format 'xml'"),
        (("--model", "MODEL", "--vram", "lots"), "24GB"),
    ],
)
def test_bad_input_ends_with_a_message_and_code_2(capsys, model_folder, data, arguments, words):
    places = {"MODEL": model_folder, "DATA": data}
    code, out, err = run(capsys, "inspect", *(places.get(argument, argument) for argument in arguments))
    assert code == 2 and out == "" and words in err and "Traceback" not in err


def test_doctor_names_versions_devices_and_space(capsys):
    code, out, _ = run(capsys, "doctor", "--json")
    report = json.loads(out)
    packages = {package["name"]: package for package in report["packages"]}
    assert code == 0 and report["problems"] == []
    assert packages["torch"]["state"] == "ok" and packages["torch"]["extra"] is None
    assert packages["bitsandbytes"]["extra"] == "quantized" and "hypothesis" not in packages
    assert report["devices"][0]["dtypes"] and report["cache"]["free_bytes"] > 0
    code, out, _ = run(capsys, "doctor")
    assert code == 0 and "transformers" in out


def test_doctor_names_what_is_missing_also_where_devices_cannot_be_read_for_it(capsys, monkeypatch):
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["no-such-package>=2"])
    monkeypatch.setitem(sys.modules, "psutil", None)
    code, out, _ = run(capsys, "doctor")
    assert code == 1 and "pip install 'no-such-package>=2'" in " ".join(out.split())


def test_doctor_fails_where_something_is_missing_or_too_old(capsys, monkeypatch):
    import importlib.metadata

    wanted = ["no-such-package>=2", "numpy>=999", "typer>=0.1", 'no-such-extra>=1; extra == "quantized"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    code, out, _ = run(capsys, "doctor", "--json")
    report = json.loads(out)
    assert code == 1 and report["problems"] == ["no-such-package>=2", "numpy>=999"]
    assert [package["state"] for package in report["packages"]] == ["missing", "wrong version", "ok", "missing"]
    code, out, _ = run(capsys, "doctor")
    assert code == 1 and "pip install 'no-such-package>=2' 'numpy>=999'" in " ".join(out.split())
