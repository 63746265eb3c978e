"""`advisor train`: the final run is a probe that goes to the end, and nothing of the user's is lost on the way."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save as to_bytes

from advisor.exporters import base
from advisor.exporters.base import recommended
from advisor.gather import JOURNAL_FILE
from advisor.save import load, save
from advisor.training import final_run
from advisor.training.final_run import STATE_FOLDER, FinalRun, eval_steps, prepare_run, read_data, take_over_probe
from advisor.training.train import TrainingFailed, train
from advisor.training.training_report import ADAPTER_FOLDER, REPORT_FILE, TrainingReport, finished_report
from knowledge.errors import BadInput
from knowledge.schema import PlannedRun
from probes.racing.journal import InUse, Journal
from probes.session import Session
from tests.advisor.tiny_run import STEPS
from tests.advisor.trainings import Silent, planned, point, report_of
from tests.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.mark.parametrize(
    ("architecture", "method"), [("llama", "lora"), ("llama", "pissa"), ("gpt2", "bitfit"), ("bert", "lora")]
)
def test_it_reaches_what_the_probe_reaches_and_the_adapter_reloads_to_it(architecture, method, tmp_path):
    from probes.adapters import load_adapter

    case, folder = planned(tmp_path, architecture, method)
    report = train(folder, live=Silent())
    _, _, tuned = case.probe()
    assert report.last.step == STEPS
    assert report.last.eval_loss == pytest.approx(tuned, abs=1e-6)
    assert report.reloads
    assert not (folder / STATE_FOLDER).exists()
    assert {p.suffix for p in (folder / ADAPTER_FOLDER).iterdir()} <= {".md", ".json", ".safetensors"}
    fresh = load_adapter(tiny_model(architecture), folder / ADAPTER_FOLDER)
    assert Session(case.context)._evaluate(fresh).loss == pytest.approx(report.last.eval_loss, abs=1e-5)
    assert TrainingReport.model_validate_json((folder / REPORT_FILE).read_text()) == report


@pytest.mark.parametrize("of_all", [False, True])
def test_the_end_is_measured_on_as_many_held_out_rows_as_the_prediction_is_of(of_all, tmp_path, monkeypatch):
    for module in (final_run, base):
        monkeypatch.setattr(module, "EVAL_ROWS", 8)
    case, folder = planned(tmp_path)
    made, rows = load(folder), len(case.data.eval) if of_all else 8
    told = {
        field: getattr(made.pick, field).model_copy(update={"rows": rows}) for field in ("predicted", "predicted_loss")
    }
    save(made.model_copy(update={"candidates": (made.pick.model_copy(update=told),)}), folder)
    report = train(folder, live=Silent())
    _, _, on_all = case.probe()
    assert report.eval_rows == rows and len(case.data.eval) > 8
    assert report.last.step == report.curve.last_step == STEPS
    assert (report.last.eval_loss == pytest.approx(on_all, abs=1e-5)) == of_all
    assert (report.last == report.curve.points[-1]) != of_all
    reached = {c.quantity: c.reached for c in report.comparisons}
    assert reached["eval loss"] == report.last.eval_loss
    assert report.baseline_loss == pytest.approx(Session(case.context).baseline().eval_loss, abs=1e-5) or not of_all
    card = (folder / ADAPTER_FOLDER / "README.md").read_text()
    assert f"On {rows} held-out rows, from the untuned model to this one: loss" in card
    assert (report.end_on_all is None) == of_all
    if not of_all:
        assert report.end_on_all.eval_loss == pytest.approx(on_all, abs=1e-5)
        assert f"On all {len(case.data.eval)} held-out rows it ends at loss {report.end_on_all.eval_loss:.3f}" in card


def test_a_killed_run_goes_on_where_it_stopped_and_ends_the_same(tmp_path):
    case, folder = planned(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(folder, live=Silent(stop_after=4))
    with pytest.raises(BadInput, match="--resume"):
        train(folder, live=Silent())
    live = Silent()
    report = train(folder, resume=True, live=live)
    assert report.first_step >= 1  # the first checkpoint is written after the first step
    assert live.steps == list(range(report.first_step + 1, STEPS + 1))
    assert report.last.eval_loss == pytest.approx(case.probe()[2], abs=1e-6)
    assert [p.step for p in report.curve.points] == sorted({p.step for p in report.curve.points})


def test_a_run_without_a_checkpoint_begins_anew_and_says_so(tmp_path):
    case, folder = planned(tmp_path, "llama", "monteclora")
    with pytest.raises(KeyboardInterrupt):
        train(folder, live=Silent(stop_after=4))
    live = Silent()
    report = train(folder, resume=True, live=live)
    assert any("begins anew" in said for said in live.said)
    assert report.first_step == 0 and live.steps == list(range(1, STEPS + 1))
    assert report.last.eval_loss == pytest.approx(case.probe()[2], abs=1e-6)


def test_half_a_checkpoint_is_none(tmp_path):
    """As a power cut leaves it: that the run begins anew is said before it does."""
    run = SimpleNamespace(state=tmp_path, job=SimpleNamespace(id="one"))
    (tmp_path / "one").mkdir()
    whole = to_bytes({"weight/a": torch.zeros(8)}, metadata={"progress": "{}"})
    for content, is_there in ((whole, True), (whole[:-1], False), (b"", False)):
        (tmp_path / "one" / "checkpoint.safetensors").write_bytes(content)
        assert FinalRun.has_checkpoint.fget(run) is is_there


def test_a_run_that_was_stopped_between_its_last_step_and_the_record_of_it_is_evaluated_again(tmp_path):
    case, folder = planned(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(folder, live=Silent(stop_after=4))
    run = prepare_run(recommended(load(folder)), folder, lambda text: None)
    job = run.job.model_copy(update={"save_to": None})  # it leaves a checkpoint of its last step, and no record
    assert Session(run.context).run(job, lambda *step: None, lambda *point: None).last_step == STEPS
    report = train(folder, resume=True, live=Silent())
    assert report.first_step == STEPS
    assert report.last.step == STEPS
    assert report.last.eval_loss == pytest.approx(case.probe()[2], abs=1e-6)


def test_the_rest_of_another_run_is_refused(tmp_path):
    _, folder = planned(tmp_path)
    with Journal(folder / STATE_FOLDER / "journal.jsonl", "another run", resume=False):
        pass
    with pytest.raises(BadInput, match="another run"):
        train(folder, resume=True, live=Silent())
    with (
        Journal(folder / STATE_FOLDER / "journal.jsonl", "another run", resume=True),
        pytest.raises(BadInput, match="Another training is writing"),
    ):
        train(folder, resume=True, live=Silent())


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"force": True}])
def test_a_training_in_progress_is_not_taken_for_one_that_was_stopped(options, tmp_path):
    _, folder = planned(tmp_path)
    with (
        Journal(folder / STATE_FOLDER / JOURNAL_FILE, "in progress", resume=False),
        pytest.raises(InUse, match=r"Another training is writing to .* Wait for it"),
    ):
        train(folder, live=Silent(), **options)
    assert (folder / STATE_FOLDER / JOURNAL_FILE).exists()


def test_rows_that_the_worker_of_another_training_reads_are_not_written_over(tmp_path):
    """Of two that tokenise at the same time the second finds the files of the first, which has begun to train."""
    _, folder = planned(tmp_path)
    state = folder / STATE_FOLDER
    prepare_run(recommended(load(folder)), folder, str)
    assert not state.exists()
    with ExitStack() as first:

        class Second(Silent):
            def message(self, text):
                if "tokenising" in text:
                    first.enter_context(Journal(state / JOURNAL_FILE, "in progress", resume=False))

        with pytest.raises(InUse, match="Another training is writing"):
            train(folder, live=Second())
        assert {path.name for path in state.iterdir()} <= {JOURNAL_FILE, "journal.lock"}


def test_a_probe_is_not_left_aside_for_a_journal_that_cannot_be_read(tmp_path, monkeypatch):
    """Hours of probing are in it; of another race's it is none."""
    _, folder = planned(tmp_path)
    on_processor = load(folder).device.model_copy(update={"kind": "cpu"})
    save(load(folder).model_copy(update={"device": on_processor}), folder)
    run = prepare_run(recommended(load(folder)), folder, lambda text: None)
    monkeypatch.setattr("probes.checkpoint.is_readable", lambda place: place == folder / run.job.id)
    said: list[str] = []
    for identity, damage in (("another", ""), (run.identity, "{\n{}\n")):
        (folder / JOURNAL_FILE).unlink(missing_ok=True)
        with Journal(folder / JOURNAL_FILE, identity, resume=False) as race:
            race.add_point(run.job.id, point(3, 1.0), "exact match")
        with (folder / JOURNAL_FILE).open("a") as file:
            file.write(damage)
        with run.open_journal() as journal:
            if damage:
                with pytest.raises(BadInput, match="line 3, is damaged"):
                    take_over_probe(run, journal, said.append)
            else:
                take_over_probe(run, journal, said.append)
    assert said == ["the race trained other rows, as of a large file it trains a sample: this begins at the first step"]


def test_it_goes_on_from_the_probe_of_the_race(tmp_path):
    """With the journal and the checkpoint as a race leaves them."""
    case, folder = planned(tmp_path)
    run = prepare_run(recommended(load(folder)), folder, lambda text: None)
    job = run.job.model_copy(update={"stop_step": 3, "eval_steps": (3,), "save_to": None})
    session = Session(case.context.model_copy(update={"work_folder": str(folder)}))
    with Journal(folder / JOURNAL_FILE, run.identity, resume=False) as race:
        session.run(job, lambda *step: None, lambda id, point: race.add_point(id, point, "exact match"))
    on_processor = load(folder).device.model_copy(update={"kind": "cpu"})
    save(load(folder).model_copy(update={"device": on_processor}), folder)
    report = train(folder, live=Silent())
    assert report.first_step == 3
    assert report.curve.points[0].step == 3
    assert report.last.eval_loss == pytest.approx(case.probe()[2], abs=1e-6)


def test_batches_that_ran_out_of_memory_in_the_race_are_done_in_the_same_parts(tmp_path):
    _, folder = planned(tmp_path)
    facts = recommended(load(folder))
    facts = replace(facts, pick=facts.pick.model_copy(update={"micro_batches": 2}))
    assert prepare_run(facts, folder, str).job.micro_batches == 2


def test_evaluations_take_a_small_part_of_the_time_and_the_end_is_always_one():
    long, short = PlannedRun(max_steps=3000, batch_size=8), PlannedRun(max_steps=16, batch_size=4)
    assert eval_steps(long, 64) == (75, 150, 300, 600, 900, 1200, 1650, 2100, 2550, 3000)
    assert eval_steps(short, 64) == (16,)
    assert eval_steps(PlannedRun(max_steps=200, batch_size=8), 64) == (20, 40, 60, 80, 110, 140, 170, 200)
    assert eval_steps(PlannedRun(max_steps=1, batch_size=8), 1) == (1,)


def test_what_lies_in_the_way_is_never_lost(tmp_path):
    _, folder = planned(tmp_path)
    (folder / ADAPTER_FOLDER).mkdir()
    (folder / ADAPTER_FOLDER / "mine.txt").write_text("hours of work")
    with pytest.raises(BadInput, match="--force"):
        train(folder, live=Silent())
    assert finished_report(folder, load(folder)) is None
    with pytest.raises(BadInput, match="one of them"):
        train(folder, resume=True, force=True, live=Silent())
    report = train(folder, force=True, live=Silent())
    assert (folder / "adapter.1.bak" / "mine.txt").read_text() == "hours of work"
    before = (folder / ADAPTER_FOLDER / "adapter_model.safetensors").stat().st_mtime_ns
    # It has come to its end.
    assert train(folder, resume=True, live=Silent()) == report == finished_report(folder, load(folder))
    assert (folder / ADAPTER_FOLDER / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(KeyboardInterrupt):
        train(folder, force=True, live=Silent(stop_after=2))
    with pytest.raises(BadInput, match=r"holds a run that was stopped. Go on with it by --resume"):
        train(folder, live=Silent())  # and the advice is not the one that would give it up
    again = train(folder, resume=True, live=Silent())  # which goes on with what was stopped, and moves this one aside
    assert again.created_at >= report.created_at
    of_the_kept = (folder / "adapter.2.bak" / REPORT_FILE).read_text(encoding="utf-8")
    assert TrainingReport.model_validate_json(of_the_kept) == report


def test_a_report_of_another_recommendation_is_not_shown_for_this_one(tmp_path):
    _, folder = planned(tmp_path)
    report, result = report_of(folder), load(folder)
    (folder / ADAPTER_FOLDER).mkdir()
    (folder / ADAPTER_FOLDER / "weights").write_text("hours of work")
    pick, steps = result.pick, result.planned_run.max_steps
    of_this = report.model_copy(
        update={
            "name": pick.name,
            "learning_rate": pick.learning_rate,
            "max_steps": steps,
            "benchmark": result.benchmark,
        }
    )
    for other in ({"name": "vera"}, {"learning_rate": 9.0}, {"max_steps": 99}, {"benchmark": "other/task"}):
        (folder / REPORT_FILE).write_text(of_this.model_copy(update=other).model_dump_json())
        assert finished_report(folder, result) is None
        with pytest.raises(BadInput, match="already holds files"):
            train(folder, resume=True, live=Silent())
    (folder / REPORT_FILE).write_text(of_this.model_dump_json())
    assert finished_report(folder, result) == of_this
    (folder / REPORT_FILE).write_text('{"schema_version": 1}')
    with pytest.raises(BadInput, match="another version"):
        finished_report(folder, result)


def test_data_of_which_the_race_saw_a_part_is_known_again_and_a_changed_row_is_not(tmp_path):
    """More rows than a race tokenises: the longest of all need not be among those that it saw."""
    from transformers import AutoTokenizer

    from advisor.forecast.own_task import suite_name
    from probes.data.dataset import prepare

    case, folder = planned(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(case.context.model_reference)
    settings = {"task": case.run.task, "max_length_tokens": 24}
    with case.data_path.open("a") as rows:  # which is not held out
        rows.write(json.dumps({"prompt": "7 + 1 + 1 =", "completion": "9"}) + "\n")
    whole = prepare(case.data_path, tokenizer, **settings)
    part = prepare(case.data_path, tokenizer, max_train_rows=4, **settings)
    assert part.profile.length_max_tokens < whole.profile.length_max_tokens
    result = load(folder)
    benchmark = suite_name(part, result.model.location, case.run, None)
    plan = result.training.model_copy(update={"held_out_key": part.held_out_key, "eval_rows": len(part.eval)})
    save(result.model_copy(update={"data": part.profile, "training": plan, "benchmark": benchmark}), folder)
    facts = recommended(load(folder))
    assert len(read_data(facts, str).train) == len(whole.train)
    held_out = tokenizer.decode(part.eval.tokens[part.eval.offsets[0] : part.eval.offsets[1]], skip_special_tokens=True)
    prompt = held_out.partition("=")[0] + "="
    lines = case.data_path.read_text().splitlines()
    changed = [
        json.dumps(json.loads(line) | {"completion": "7777"}) if json.dumps(prompt) in line else line for line in lines
    ]
    assert changed != lines
    case.data_path.write_text("\n".join(changed) + "\n")
    with pytest.raises(BadInput, match="not the data of the recommendation"):
        read_data(facts, str)


def test_a_metric_of_ones_own_is_known_again_until_its_code_changes(tmp_path):
    from advisor.forecast.own_task import suite_name

    case, folder = planned(tmp_path, metric_name="right")
    metric = tmp_path / "own.py"
    metric.write_text("def right(predicted, references):\n    return 0.25\n")
    place, made = f"{metric}:right", load(folder)
    benchmark = suite_name(case.data, made.model.location, case.run, place)
    save(made.model_copy(update={"request": {**made.request, "metric": place}, "benchmark": benchmark}), folder)
    report = train(folder, live=Silent())
    assert (report.last.metric, report.curve.metric_name) == (0.25, "right")
    metric.write_text("def right(predicted, references):\n    return 0.5\n")
    with pytest.raises(BadInput, match=r"code of the metric .*own\.py:right"):
        read_data(recommended(load(folder)), str)


def test_all_rows_that_a_run_sees_are_read_and_what_has_no_room_is_told(tmp_path, monkeypatch):
    case, folder = planned(tmp_path)
    monkeypatch.setattr("probes.data.scan.MAX_SAMPLE_BYTES", 50)  # as if the sample of a race held a part of the file
    facts, said = recommended(load(folder)), []
    assert len(read_data(facts, said.append).train) == len(case.data.train)
    assert not any("fit into memory" in text for text in said)
    monkeypatch.setattr("advisor.training.final_run.free_host_bytes", lambda: 1600)
    assert 0 < len(read_data(facts, said.append).train) < len(case.data.train)
    assert "rows fit into memory: these are trained on" in said[-1]


def test_data_that_has_changed_is_refused(tmp_path):
    case, folder = planned(tmp_path)
    rows = [line for line in case.data_path.read_text().splitlines() if line.endswith("}")]
    case.data_path.write_text("\n".join(rows[: len(rows) // 2]) + "\n")
    with pytest.raises(BadInput, match="not the data of the recommendation"):
        train(folder, live=Silent())
    stopped = folder / STATE_FOLDER / JOURNAL_FILE
    stopped.parent.mkdir()
    stopped.write_text("hours of work")
    with pytest.raises(BadInput, match="not the data of the recommendation"):
        train(folder, force=True, live=Silent())
    assert stopped.read_text() == "hours of work", "which is not given up for a run that cannot begin"


def test_a_diverging_run_ends_with_the_reason_and_leaves_no_adapter(tmp_path):
    _, folder = planned(tmp_path, method="full", rate=1e18)
    with pytest.raises(TrainingFailed, match=r"diverged.*lower learning rate"):
        train(folder, live=Silent())
    assert not (folder / ADAPTER_FOLDER).exists()
