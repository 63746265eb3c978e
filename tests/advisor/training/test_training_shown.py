"""What `advisor train` shows: its progress, the report on the terminal, the model card, and the command's words."""

from __future__ import annotations

import ast
import io
import json
import re

import pytest
import typer
from rich.console import Console

from advisor.cli.train import command
from advisor.report.live_training import LiveTraining
from advisor.report.next_steps import Step
from advisor.report.training import print_training
from advisor.training.model_card import model_card
from knowledge.schema import Curve
from probes.schema import Schedule
from tests.advisor.factories import candidate, result
from tests.advisor.trainings import point, report_of


def test_what_was_forgotten_and_whether_it_was_to_be_is_told_in_the_end(tmp_path):
    def shown(**fields):
        out = io.StringIO()
        print_training(report_of(tmp_path, **fields), tmp_path, Console(file=out, width=200))
        return out.getvalue()

    words = "On texts that the base model wrote itself the loss has grown by 0.450 ± 0.020 nats per token."
    assert words in shown(forgetting=0.45, forgetting_noise=0.02) and "wrote" not in shown(forgetting=None)
    note = "note: what was required does not hold at the end: it forgets 0.450 nats per token, over 0.3"
    assert note in shown(unmet="forgets 0.450 nats per token, over 0.3") and "required" not in shown()


def test_progress_without_a_terminal_is_plain_lines():
    out, now = io.StringIO(), iter(range(0, 10_000, 10))
    live = LiveTraining(console=Console(file=out, width=80), clock=lambda: next(now))
    with live:
        live.message("loading [bold]x[/bold]")
        so_far = Curve(points=(point(4, 2.0),))
        live.begin(Schedule(shape="cosine", total_steps=20, warmup_steps=2), 1e-3, "exact match", so_far)
        for step in range(5, 9):
            live.step(step, 1.5)
        live.point(point(8, 1.25))
        live.step(9, 1.4)
        live.step(10, 1.4)
    text = out.getvalue()
    assert "loading [bold]x[/bold]" in text and "\x1b" not in text
    assert "step 8/20: held-out loss 1.250, exact match 50.0 % (best so far)" in text
    last = text.splitlines()[-1]
    assert "loss 1.400" in last and "rate " in last and "left" in last and "best 1.250 at 8" in last


@pytest.mark.parametrize("end", [None, point(600, 1.2), point(600, 1.25)])
def test_an_end_that_was_measured_on_further_rows_is_told(end, tmp_path):
    """The last line of the progress is of the first of them."""
    out = io.StringIO()
    print_training(report_of(tmp_path, end=end, eval_rows=200), tmp_path, Console(file=out, width=80))
    is_told = "The end is measured on all 200 held-out rows." in out.getvalue()
    assert is_told == (end == point(600, 1.25))


def test_beside_what_was_predicted_of_the_first_rows_the_end_on_all_is_told(tmp_path):
    out = io.StringIO()
    report = report_of(tmp_path, eval_rows=64, end_on_all=point(600, 1.31), held_out_rows=150)
    print_training(report, tmp_path, Console(file=out, width=80))
    told = " ".join(out.getvalue().split())
    assert "of the first 64 held-out rows. On all 150 held-out rows it ends at loss 1.310, exact match 50.0 %" in told


def test_the_model_card_says_what_was_predicted_and_reached(tmp_path):
    hostile = result()
    hostile = hostile.model_copy(
        update={"model": hostile.model.model_copy(update={"reference": "evil`|<script>](x)\n---", "source": "hub"})}
    )
    card = model_card(hostile, report_of(tmp_path))
    assert "| exact match | 50.0 % | 45.0 % to 55.0 % | 60.0 % | outside |" in card
    assert "| eval loss | 1.200 | 1.100 to 1.300 | 1.250 | inside |" in card
    assert '"peft_type": "LORA"' in card
    assert "1,600 for training" in card and "peft 0.21.2" in card
    assert "<script>" not in card and card.split("\n---\n")[0].startswith("---\nlibrary_name: peft")
    local = hostile.model.model_copy(update={"source": "local folder", "location": "/home/me/secret/llama"})
    card = model_card(hostile.model_copy(update={"model": local}), report_of(tmp_path))
    assert "/home/me" not in card and "base_model:" not in card
    of_classes = hostile.training.model_copy(update={"label_names": ("a", 'b"\n```', "ç")})
    card = model_card(hostile.model_copy(update={"training": of_classes}), report_of(tmp_path))
    names = re.search(r", id2label=(\{.*\}), ignore_mismatched_sizes=True\)\n", card)[1]
    assert list(ast.literal_eval(names)) == [0, 1, 2] and ast.literal_eval(names)[2] == "ç"
    assert card.count("```python") == 1 and 'b"```' not in card
    bare = result([candidate("bitfit", peft_type=None, peft_config=None)])
    head, card = model_card(bare, report_of(tmp_path)).split("\n---\n")
    assert "library_name" not in head and "- peft\n" not in head, "peft loads no such folder"
    assert "`trained.safetensors` holds the trained parameters" in card


def test_the_card_of_a_model_with_code_of_its_own_lets_it_run(tmp_path):
    made = result()
    assert "trust_remote_code" not in model_card(made, report_of(tmp_path))
    trusted = made.model_copy(update={"request": {**made.request, "trust_remote_code": True}})
    assert 'Llama-3.2-3B", trust_remote_code=True)' in model_card(trusted, report_of(tmp_path))


def test_a_run_that_was_longer_than_its_data_carries_says_so(tmp_path):
    rising = Curve(points=(point(300, 1.1), point(600, 1.2)), metric_name="exact match")
    report = report_of(tmp_path, curve=rising)
    assert "lowest at step 300 (1.100)" in report.overtrained
    assert report_of(tmp_path).overtrained is None
    flat = Curve(points=(point(300, 1.195), point(600, 1.2)), metric_name="exact match")
    assert report_of(tmp_path, curve=flat).overtrained is None


def test_predicted_against_reached_on_the_terminal(tmp_path):
    out = io.StringIO()
    serve = Step("Serve", "vLLM loads it.", "vllm serve base")
    print_training(report_of(tmp_path, reload_difference=0.5), tmp_path, Console(file=out, width=80), serve)
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines() if "adapter:" not in line) <= 80
    rows = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert "outside" in rows["exact match"] and "inside" in rows["eval loss"]
    assert "0.5000 nats off" in text
    assert "Ranges are intervals of 80 %." in text
    assert text.endswith("vllm serve base\n")


def test_the_command_says_how_to_go_on_when_it_is_stopped(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("advisor.training.train.train", stop)
    with pytest.raises(typer.Exit) as exit:
        command(tmp_path, resume=False, force=False, record=False, json=False, quiet=True)
    assert exit.value.exit_code == 130
    assert "--resume" in capsys.readouterr().err


def test_the_command_prints_json_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("advisor.training.train.train", lambda *arguments, **options: report_of(tmp_path))
    command(tmp_path, resume=False, force=False, record=False, json=True, quiet=True)
    assert json.loads(capsys.readouterr().out)["title"] == "LoRA"


def test_a_run_that_cannot_be_recorded_is_finished_all_the_same(tmp_path, monkeypatch, capsys):
    """As where the home folder is read-only, or the recommendation is of a version that named no benchmark."""

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("advisor.training.train.train", lambda *arguments, **options: report_of(tmp_path))
    monkeypatch.setattr("advisor.own_runs.record_outcomes", refuse)
    command(tmp_path, resume=False, force=False, record=True, json=True, quiet=True)
    captured = capsys.readouterr()
    assert json.loads(captured.out)["title"] == "LoRA"
    assert "not recorded" in captured.err and f"advisor knowledge record {tmp_path}" in captured.err
