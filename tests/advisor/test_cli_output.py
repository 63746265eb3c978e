"""`advisor export` and `advisor report` on a saved recommendation."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from advisor.cli import build
from advisor.cli._several import several
from advisor.exporters import NotExpressible
from advisor.recommendation import Result
from advisor.save import save
from knowledge.errors import BadInput
from tests.advisor.factories import result
from tests.advisor.trainings import report_of


@pytest.fixture
def folder(tmp_path):
    save(result(files=()), tmp_path / "out", targets=("peft",))
    return tmp_path / "out"


def run(*arguments):
    done = CliRunner().invoke(build(), [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_export_lists_its_targets(folder):
    listed = dict(line.split(maxsplit=1) for line in run("export", folder).output.splitlines())
    assert listed["script"] == "training script"
    assert json.loads(run("export", folder, "--json").output)["peft"] == "PEFT adapter config"


def test_export_says_what_was_written_before_a_target_that_cannot_say_it(folder, tmp_path, capsys):
    with pytest.raises(NotExpressible, match="LLaMA-Factory"):
        build()(["export", str(folder), "--to", "peft,llama-factory", "--out", str(tmp_path)], standalone_mode=False)
    assert capsys.readouterr().out == f"{tmp_path / 'adapter_config.json'}\n"


def test_export_writes_what_was_asked_and_says_where(folder, tmp_path):
    done = run("export", folder, "--to", "script", "--to", "peft", "--out", tmp_path / "here", "--json")
    assert json.loads(done.output) == [str(tmp_path / "here" / name) for name in ("train.py", "adapter_config.json")]
    assert (tmp_path / "here" / "train.py").exists()


def test_an_unknown_target_writes_nothing(folder, tmp_path):
    with pytest.raises(BadInput, match="Did you mean 'peft'"):
        run("export", folder, "--to", "script", "--to", "pefd", "--out", tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_report_shows_the_summary_and_writes_the_page(folder):
    done = run("report", folder)
    assert "rsLoRA at learning rate 1e-4" in done.output
    assert str(folder / "report.html") in done.output.replace("\n", "")
    assert "<svg" in (folder / "report.html").read_text()


def test_report_and_export_to_a_place_that_is_taken(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run("report", folder, "--out", elsewhere, "--quiet").output.rstrip().endswith("report.html")
    page = (elsewhere / "report.html").read_text(encoding="utf-8")
    assert str(folder) in page and str(elsewhere) not in page
    (tmp_path / "file").write_text("mine")
    command = [sys.executable, "-m", "advisor", "export", folder, "--to", "peft", "--out", tmp_path / "file"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "file cannot be used" in done.stderr and "Traceback" not in done.stderr


def test_report_as_json_is_the_whole_result_and_writes_nothing(folder):
    before = (folder / "report.html").stat().st_mtime_ns
    assert Result.model_validate_json(run("report", folder, "--json").output).recommendation == result().recommendation
    assert (folder / "report.html").stat().st_mtime_ns == before


def test_a_folder_without_a_recommendation_is_refused(tmp_path):
    for command in (("export", tmp_path, "--to", "peft"), ("report", tmp_path)):
        with pytest.raises(BadInput, match=r"recommendation\.json"):
            run(*command)


def test_of_a_trained_recommendation_it_shows_what_was_reached(folder):
    save(result(files=()), folder)
    assert "advisor train" in run("report", folder).output
    (folder / "adapter").mkdir()
    made = result()
    reached = report_of(folder, name=made.pick.name, learning_rate=made.pick.learning_rate)
    (folder / "training.json").write_text(reached.model_dump_json())
    other = reached.model_copy(update={"learning_rate": 0.5})
    shown = run("report", folder).output
    (folder / "training.json").write_text(other.model_dump_json())
    assert "advisor train" in run("report", folder).output, "another recommendation was trained"
    assert "advisor train" not in shown and "reached" in shown and "60.0 %" in shown


@pytest.mark.parametrize(
    "command", [("export", "FOLDER", "--to", "peft"), ("choose", "FOLDER", "lora"), ("report", "FOLDER")]
)
def test_a_tilde_that_the_shell_leaves_is_the_home_folder(command, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home" / "here").mkdir(parents=True)
    run(*(folder if word == "FOLDER" else word for word in command), "--out=~/here")
    assert any((tmp_path / "home" / "here").iterdir()) and not (tmp_path / "~").exists()


def test_a_report_takes_the_place_of_no_other_file_of_the_recommendation(folder):
    before = (folder / "recommendation.json").read_bytes()
    with pytest.raises(BadInput, match=r"ends in \.html"):
        run("report", folder, "--out", folder / "recommendation.json")
    assert (folder / "recommendation.json").read_bytes() == before


@pytest.mark.parametrize("command", [["methods", "--json"], ["knowledge", "show"]])
def test_a_reader_that_goes_away_is_no_failure(command):
    code = f"from advisor.cli import main; main({command})"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer.stdout.readline()
    writer.stdout.close()
    assert writer.wait(60) == 0 and b"Traceback" not in writer.stderr.read()


def test_several_values_come_with_commas_or_by_repeating_the_option():
    assert several(["lora, ia3", "oft"]) == ["lora", "ia3", "oft"]
    assert several(None) == several([]) == []
    with pytest.raises(typer.BadParameter, match="names nothing"):
        several([","])  # as of a variable that is not set: not the same as no option
