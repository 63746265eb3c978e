"""The loop closes: outcomes that are recorded make the next prediction closer and its interval worth its name.

Real curves: one suite of the shipped table plays the user's own task, unknown at first, and its runs are recorded one
after the other. What is predicted are other methods' runs of it, probed to a fifth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pytest

from advisor.forecast.end_model import loss_of, probe_of
from advisor.forecast.own_task import suite_name
from advisor.forecast.predictor import Predictor
from advisor.own_runs import finished_runs, record_outcomes
from advisor.save import save
from advisor.training.training_report import REPORT_FILE
from knowledge import table
from knowledge.errors import BadInput
from knowledge.importers.peft_method_comparison import read
from knowledge.prior import method_priors, suite_of
from knowledge.schema import Curve, RunRecord
from tests.advisor.factories import candidate, curve, device, result
from tests.advisor.trainings import report_of
from tests.knowledge.suite_files import llm_run

SHARE = 0.2
RACES = 6
METHODS_PER_RACE = 4


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path / "own"))


class Measured(NamedTuple):
    """Means over races: the log loss' error, its interval's half-width and how often it holds; the metric's error."""

    error: float
    half_width: float
    coverage: float
    metric_error: float


def measure(
    benchmark: str, recorded: int, races: int = RACES, evaluated: Sequence[float] = (), until: float = SHARE
) -> Measured:
    """Predictions with that many outcomes in the user's store, which is read as `recommend` reads it: evaluated after
    these shares of the run, or as often as in the table."""
    # An own run's metric is that of its last point, where published ones have another set of rows for it.
    own = [
        r.model_copy(update={"metric": r.curve.points[-1].metric}) for r in table.shipped() if r.benchmark == benchmark
    ]
    suite = suite_of(own[0])
    others = [r for r in table.shipped() if suite_of(r) != suite]
    rows = []
    for seed in range(races):
        methods = sorted({str(r.method) for r in own})
        random.Random(seed).shuffle(methods)
        race = [r for r in own if str(r.method) in methods[:METHODS_PER_RACE]]
        outcomes = [r for r in own if r not in race]
        random.Random(seed).shuffle(outcomes)
        table.user_store().path.unlink(missing_ok=True)
        table.user_store().add([evaluated_after(run, evaluated) for run in outcomes[:recorded]])
        known = [*others, *table.user_store().runs()]
        tokens = own[0].label_mean_tokens or 1.0
        rows += predictions(race, Predictor(known, benchmark, task=own[0].task, label_mean_tokens=tokens), until)
    return Measured(*(fmean(column) for column in zip(*rows, strict=True)))


def evaluated_after(run: RunRecord, shares: Sequence[float]) -> RunRecord:
    steps = {round(share * run.max_steps) for share in shares}
    points = tuple(p for p in run.curve.points if p.step in steps or not steps)
    return run.model_copy(update={"curve": run.curve.model_copy(update={"points": points})})


def predictions(race: list[RunRecord], predictor: Predictor, until: float) -> list[tuple[float, float, bool, float]]:
    probes = {str(i): probe_of(run, until) for i, run in enumerate(race)}
    forecasts = predictor.predict(probes, race[0].max_steps, race[0].curve.metric_name)
    rows = []
    for id, forecast in forecasts.items():
        end = race[int(id)].curve.points[-1]
        value, low, high = np.log([forecast.loss.value, forecast.loss.low, forecast.loss.high])
        truth = np.log(loss_of(end))
        metric_error = abs(forecast.metric.value - end.metric)
        rows.append((abs(value - truth), (high - low) / 2, low <= truth <= high, metric_error))
    return rows


def test_what_nobody_could_foresee_of_a_task_is_learned_from_its_outcomes():
    """A task whose losses fall more than any interval foresaw."""
    before, one, many = (measure("spell_backward/smollm2-135m/transformers5-cpu", n) for n in (0, 1, 16))
    assert before.coverage + 0.2 < one.coverage and many.coverage >= 0.75
    assert one.error < 0.8 * before.error and many.error < 0.7 * one.error
    assert one.metric_error < 0.8 * before.metric_error and many.metric_error < 0.7 * one.metric_error


@pytest.mark.parametrize(
    "benchmark",
    ["metamathqa/llama-3.2-3b/transformers5-cuda13.0", "debian_sections/all-minilm-l6-v2/transformers5-cpu"],
)
def test_what_was_foreseen_is_told_more_narrowly_with_its_outcomes(benchmark):
    before, many = (measure(benchmark, n) for n in (0, 16))
    assert min(before.coverage, many.coverage) >= 0.75
    assert many.error < before.error and many.half_width < 0.8 * before.half_width
    assert max(before.metric_error, many.metric_error) < 0.1


def test_from_enough_outcomes_the_ends_themselves_are_learned():
    """Two fifths less error than where they are witnesses only of how much is still to come."""
    few, many = (measure("debian_sections/all-minilm-l6-v2/transformers5-cpu", n) for n in (16, 26))
    assert many.error < 0.6 * few.error and many.half_width < 0.6 * few.half_width
    assert many.metric_error < 0.8 * few.metric_error and many.coverage >= 0.75


def test_a_race_may_stop_at_other_steps_than_those_at_which_outcomes_were_evaluated():
    """Losses at 60 % of the run are not compared with losses at 20 %, the last that are known of the others."""
    evaluated = (0.05, 0.1, 0.2, 1.0)
    made = measure("debian_sections/all-minilm-l6-v2/transformers5-cpu", 30, races=1, evaluated=evaluated, until=0.6)
    assert made.coverage >= 0.75 and made.error < 0.1


def test_the_same_run_again_is_no_further_evidence():
    own = [r for r in table.shipped() if r.benchmark.startswith("debian_sections/")]
    known = [r for r in table.shipped() if not r.benchmark.startswith("debian_sections/")]
    later = [r.model_copy(update={"created_at": "2999-01-01T00:00:00+00:00"}) for r in own[:2]]
    probes = {"x": probe_of(own[9], SHARE)}
    once, twice = (
        Predictor([*known, *runs], own[0].benchmark).predict(probes, own[0].max_steps)["x"]
        for runs in (own[:2], [*own[:2], *later])
    )
    assert once == twice


def judged_otherwise(run: RunRecord, era: str | None = None) -> RunRecord:
    """The same run, or that of another software era, in a metric that is .3 higher."""
    points = tuple(p.model_copy(update={"metric": p.metric + 0.3}) for p in run.curve.points)
    changes = {"curve": Curve(points=points, metric_name="other"), "metric": run.metric + 0.3, "metric_name": "other"}
    changes |= {"created_at": "2999-01-01T00:00:00+00:00"}
    return run.model_copy(update=changes | ({"benchmark": f"{suite_of(run)}/{era}"} if era else {}))


@pytest.mark.parametrize("era", [None, "later"])
def test_runs_that_were_judged_by_another_metric_change_no_forecast_of_this_one(era):
    """Neither are they repeats of its runs, nor does the difference of two metrics pass for that of two eras."""
    own = [r for r in table.shipped() if r.benchmark.startswith("debian_sections/")]
    probes = {"x": probe_of(own[9], SHARE)}
    alone, beside = (
        Predictor(runs, f"{suite_of(own[0])}/later").predict(probes, own[0].max_steps, own[0].curve.metric_name)["x"]
        for runs in (own, [*own, *(judged_otherwise(run, era) for run in own)])
    )
    assert alone.metric is not None and beside.metric == alone.metric


def test_own_runs_of_another_task_are_no_runs_of_this_one():
    own = [r for r in table.shipped() if r.benchmark.startswith("debian")]
    probes = {"x": probe_of(own[0], SHARE)}
    known, unknown = (
        Predictor(table.shipped(), f"{suite}/any-era").predict(probes, own[0].max_steps)["x"].loss
        for suite in (suite_of(own[0]), "another/task")
    )
    assert unknown == Predictor(table.shipped()).predict(probes, own[0].max_steps)["x"].loss
    assert known != unknown


class TestPriors:
    def own(self, method: str, accuracy: float) -> RunRecord:
        made = read(llm_run({"peft_type": method.upper()}, experiment=method, accuracy=accuracy))
        return made.model_copy(update={"method": method, "benchmark": "mine-1a2b/llama/transformers5-cpu"})

    def test_what_won_on_the_very_data_comes_first_the_next_time(self):
        runs = [self.own("ia3", 0.6), self.own("lora", 0.4), self.own("rslora", 0.3)]
        before = method_priors(table.shipped(), "causal-lm")
        after = method_priors([*table.shipped(), *runs], "causal-lm", "mine-1a2b/llama")
        elsewhere = method_priors([*table.shipped(), *runs], "causal-lm", "other/llama")
        assert after["ia3"].score > after["rslora"].score > 0
        assert before["ia3"].score < before["rslora"].score
        assert before["ia3"].score < elsewhere["ia3"].score < after["ia3"].score
        assert after["ia3"].knows_task and not elsewhere["ia3"].knows_task and not after["oft"].knows_task

    def test_the_best_own_rate_is_the_best_in_one_metric(self):
        """Where no answer was right, a race is judged by single tokens, of which a bad rate has many."""
        rates = {3e-4: (0.4, "exact match"), 1e-3: (0.3, "exact match"), 3e-3: (0.55, "token accuracy")}
        runs = [
            self.own("lora", value).model_copy(update={"learning_rate": rate, "metric_name": f"held-out {metric}"})
            for rate, (value, metric) in rates.items()
        ]
        assert method_priors(runs, "causal-lm", "mine-1a2b/llama")["lora"].own_learning_rate == 3e-4

    def test_a_few_runs_of_another_task_do_not_overturn_what_published_ones_say(self):
        """Those of a small race: what won it among four is no winner among all."""
        raced = {"last-layers": 0.44, "lora": 0.42, "rslora": 0.42, "lora-all-linear": 0.42}
        own = [self.own(name, accuracy).model_copy(update={"source": "own"}) for name, accuracy in raced.items()]
        shipped = table.shipped()
        before, after = (method_priors([*shipped, *runs], "causal-lm") for runs in ((), own))
        of_classes = [run.model_copy(update={"task": "sequence-classification"}) for run in own]
        elsewhere = method_priors([*shipped, *of_classes], "causal-lm")
        assert elsewhere["last-layers"].score < after["last-layers"].score < before["rslora"].score
        for name in ("rslora", "lora-all-linear"):
            assert before[name].score - 0.06 < after[name].score < elsewhere[name].score <= before[name].score

    def test_a_single_method_was_compared_with_nothing(self):
        before = method_priors(table.shipped(), "causal-lm")
        after = method_priors([*table.shipped(), self.own("rslora", 0.1)], "causal-lm", "mine-1a2b/llama")
        assert after["rslora"].score == before["rslora"].score and not after["rslora"].knows_task
        assert method_priors([self.own("rslora", 0.1)], "causal-lm")["rslora"].score == 0.5


class TestRecording:
    def folder(self, tmp_path, **changes):
        went_to_the_end = candidate("lora", 0.5, title="LoRA", curve=curve(1.2, steps=600))
        also = candidate("dora", 0.5, title="DoRA", status="eliminated", curve=curve(1.3, steps=600))
        short = candidate("ia3", 0.4, title="IA3")
        failed = candidate("oft", 0.4, title="OFT", status="diverged", curve=curve(1.3, steps=600))
        made = result([went_to_the_end, also, short, failed])
        fields = {"benchmark": "my-1a2b3c4d/llama", "created_at": "2026-11-22T00:00:00+00:00", **changes}
        save(made.model_copy(update=fields), tmp_path)
        return tmp_path

    def test_only_what_went_to_the_end_is_truth(self, tmp_path):
        runs = finished_runs(self.folder(tmp_path))
        assert [r.experiment for r in runs] == ["lora/lr0.0001-seed0", "dora/lr0.0001-seed0"]
        assert {r.benchmark for r in runs} == {"my-1a2b3c4d/llama/transformers5-cpu"}
        assert runs[0].curve.points[-1].eval_loss == pytest.approx(1.2)
        assert runs[0].drift == 0.12 and runs[0].source == "own"
        assert runs[0].label_mean_tokens == pytest.approx(result().data.label_mean_tokens, abs=0.01)

    def test_recording_again_changes_nothing_and_a_training_takes_the_place_of_its_probe(self, tmp_path):
        folder = self.folder(tmp_path)
        assert record_outcomes(folder).added == 2
        assert record_outcomes(folder).unchanged == 2
        (folder / "adapter").mkdir()
        report = report_of(folder, curve=curve(1.1, steps=600))
        (folder / REPORT_FILE).write_text(report.model_dump_json())
        record_outcomes(folder)
        runs = {r.method: r for r in table.user_store().runs()}
        assert sorted(runs) == ["dora", "lora"]
        assert runs["lora"].curve.points[-1].eval_loss == pytest.approx(1.1)
        assert runs["lora"].train_s == 1200
        measured = runs["lora"].trainable_parameters, runs["lora"].adapter_bytes
        assert measured == (report.trainable_parameters, report.adapter_bytes)

    def test_a_race_for_a_card_that_is_not_here_tells_nothing_of_it(self, tmp_path):
        folder = self.folder(tmp_path, device=device(planned=True))
        with pytest.raises(BadInput, match="advisor train"):
            finished_runs(folder)

    def test_an_answer_without_data_has_nothing_to_record(self, tmp_path):
        with pytest.raises(BadInput, match="no runs to record"):
            finished_runs(self.folder(tmp_path, benchmark=""))


def test_a_task_is_known_again_by_its_data_and_its_run(tmp_path):
    from tests.advisor.tiny_run import Case

    case = Case(tmp_path, "llama", "lora")
    name = suite_name(case.data, "owner/Tiny Llama", case.run, None)
    assert name.startswith("data-") and name.endswith("/tiny-llama")
    assert suite_name(case.data, "/elsewhere/Tiny Llama", case.run, None) == name
    same = case.run.model_copy(update={"seed": 1, "dtype": "bfloat16", "gradient_checkpointing": True})
    assert suite_name(case.data, "owner/Tiny Llama", same, None) == name
    tuned, other = tmp_path / "a" / "merged", tmp_path / "b" / "merged"
    for folder, content in ((tuned, b"one"), (other, b"two")):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(content)
    of_tuned = suite_name(case.data, str(tuned), case.run, None)
    assert of_tuned != suite_name(case.data, str(other), case.run, None)
    moved = tuned.rename(tmp_path / "merged")
    assert suite_name(case.data, str(moved), case.run, None) == of_tuned
    longer = case.run.model_copy(update={"max_steps": 2 * case.run.max_steps})
    assert suite_name(case.data, "owner/Tiny Llama", longer, None) != name
