"""`advisor knowledge` as a user runs it: show, import, export, record."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from advisor.cli.knowledge import app
from knowledge.errors import BadInput
from knowledge.schema import RunRecord
from tests.knowledge.suite_files import llm_run, write


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path / "own"))
    return tmp_path / "own"


def run(*arguments: str):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def test_show_reproduces_published_figures():
    lines = {line.split()[1]: line for line in run("show").stdout.splitlines() if "2026-0" in line and "llama" in line}
    text = run("show", "--benchmark", "transformers5-cuda12.8", "--method", "lily,beft").stdout
    assert "54.9 %" in text and "25.6" in text and "32.9 %" in text and "20.2" in text
    text = run("show", "--benchmark", "image-gen", "--method", "oft").stdout
    assert "0.708" in text and "9.01" in text
    assert len(lines) == 63  # one line per experiment name, none folded


def test_show_as_json_gives_records_and_nothing_else():
    records = [RunRecord.model_validate(r) for r in json.loads(run("show", "--json", "--method", "dora").stdout)]
    assert {r.method for r in records} == {"dora"}
    assert {r.source for r in records} == {"peft-method-comparison", "probe-study"}


def test_methods_are_shown_by_their_titles_too():
    assert run("show", "--json", "--method", "DoRA").stdout == run("show", "--json", "--method", "dora").stdout


def test_an_imported_run_is_shown(tmp_path):
    folder = write(tmp_path / "results", good=llm_run(experiment="lora/my-own-run"), bad={"r": 8})
    first = run("import", folder)
    assert "1 added" in first.stdout and "Files left out: 1" in first.stdout
    assert "bad.json: not a known result format" in first.stderr
    assert "lora/my-own-run" in run("show").stdout
    assert "lora/my-own-run" not in run("show", "--shipped").stdout
    assert json.loads(run("import", folder, "--json").stdout)["unchanged"] == 1


def test_import_into_a_named_table_leaves_the_own_one_alone(tmp_path, own_folder):
    folder = write(tmp_path / "results", good=llm_run())
    outcome = json.loads(run("import", folder, "--into", tmp_path / "table.jsonl", "--json").stdout)
    assert outcome["table"] == str(tmp_path / "table.jsonl") and outcome["added"] == 1
    assert not own_folder.exists()


def test_a_differing_run_is_kept_unless_replace_is_given(tmp_path):
    run("import", write(tmp_path / "a", run=llm_run(accuracy=0.1)))
    assert "kept as stored" in run("import", write(tmp_path / "b", run=llm_run(accuracy=0.2))).stdout
    assert "replaced" in run("import", tmp_path / "b", "--replace").stdout
    assert json.loads(run("import", tmp_path / "b", "--json").stdout)["differing"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "--method", "lroa"), "Did you mean .*'lora'"),
        (("show", "--benchmark", "nothing"), "Benchmarks: .*image-gen"),
        (("show", "--benchmark", "image-gen", "--method", "osf"), "No run of osf .*Benchmarks of osf: metamathqa"),
        (("import", "missing-folder"), "There is no missing-folder"),
    ],
)
def test_bad_input_names_the_next_step(arguments, message):
    with pytest.raises(BadInput, match=message):
        run(*arguments)


def test_a_folder_with_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(BadInput, match=r"No run could be read.*bad\.json"):
        run("import", write(tmp_path / "results", bad={"r": 8}))


def test_a_table_travels_from_one_person_to_another(tmp_path, monkeypatch):
    run("import", write(tmp_path / "results", one=llm_run(experiment="lora/one"), two=llm_run(experiment="lora/two")))
    assert "2 runs written" in run("export", tmp_path / "shared.jsonl").stdout
    with pytest.raises(BadInput, match="--force"):
        run("export", tmp_path / "shared.jsonl")
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path / "somebody-else"))
    with pytest.raises(BadInput, match="no runs of your own"):
        run("show", "--mine")
    assert "2 added" in run("import", tmp_path / "shared.jsonl").stdout
    mine = run("show", "--mine").stdout
    assert "lora/one" in mine and "lora/two" in mine and "image-gen" not in mine
    assert "2 already there" in run("import", tmp_path / "shared.jsonl").stdout
    with pytest.raises(BadInput, match="no runs of your own"):
        monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path / "nobody"))
        run("export", tmp_path / "empty.jsonl")
