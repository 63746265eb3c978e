"""Where no answer is ever right as a whole, candidates are told apart by single tokens, from the race to the end."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from advisor import recommend
from advisor.forecast.telling_metric import in_metric, judged_by, with_telling_metric
from advisor.training.train import train
from knowledge.schema import Curve, CurvePoint
from probes.racing.evidence import Evidence
from probes.schema import AllRows, Baseline, ProbeOutcome
from tests.advisor.curves import record
from tests.advisor.tiny_run import save_tiny
from tests.advisor.trainings import Silent

pytestmark = pytest.mark.usefixtures("forked_workers")

RACE = {"budget_minutes": 1, "max_steps": 40, "methods": ("lora",), "batch_size": 8, "show_progress": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Answers of twelve random letters, which nobody can know."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("data") / "letters.jsonl"
    rows = [{"prompt": f"{n}:", "completion": "".join(draw.choices("0123", k=12))} for n in range(120)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_single_tokens_are_told_where_no_answer_is_right(model, data, tmp_path):
    found = recommend(model, data, out=tmp_path, workers=1, **RACE)
    assert found.result.data.metric_name == found.result.training.metric_name == "token accuracy"
    [told] = [note for note in found.result.recommendation.warnings if "right as a whole" in note]
    assert told.endswith("token accuracy is told instead of exact match.")
    pick = found.pick
    assert pick.curve.metric_name == "token accuracy"
    assert pick.baseline_value < pick.curve.points[-1].metric < 1
    # The final run goes on from the race's probe and is judged by the same.
    report = train(tmp_path, live=(live := Silent()))
    assert report.curve.metric_name == "token accuracy" and all(p.metric > 0 for p in report.curve.points)
    assert report.curve.points[0] == pick.curve.points[0]
    assert any("the race" in said for said in live.said) or report.first_step == 40


def test_who_asks_for_exact_match_gets_it(model, data, tmp_path):
    found = recommend(model, data, out=tmp_path, workers=1, metric="exact match", **RACE)
    assert found.result.data.metric_name == found.pick.curve.metric_name == "exact match"
    assert not any("right as a whole" in note for note in found.result.recommendation.warnings)
    assert {p.metric for p in found.pick.curve.points} == {0.0}
    train(tmp_path, live=(live := Silent()))
    assert any("the race" in said for said in live.said)  # the race's journal is known again


@dataclass(frozen=True)
class Data:
    profile: SimpleNamespace

    def judged_by(self, metric_name, instead_of):
        return Data(SimpleNamespace(metric_name=metric_name))


@dataclass(frozen=True)
class Asked:
    data: Data
    request: SimpleNamespace


def test_what_was_measured_on_all_rows_is_judged_by_the_same():
    """And one right answer among all rows is enough to be told by whole answers."""
    wrong = CurvePoint(step=8, eval_loss=2.0, metric=0.0, token_accuracy=0.3)
    right, untuned = (
        wrong.model_copy(update=values) for values in ({"metric": 0.01}, {"step": 0, "token_accuracy": 0.2})
    )
    for end, name, values in ((wrong, "token accuracy", (0.3, 0.2)), (right, "exact match", (0.01, 0.0))):
        all_rows = AllRows(end=end, untuned=untuned, row_labels=(12,))
        evidence = Evidence(
            {"a": Curve(points=(wrong,), metric_name="exact match")},
            {"a": [ProbeOutcome(id="a", status="finished", all_rows=all_rows), ProbeOutcome(id="a", status="failed")]},
        )
        baseline = Baseline(eval_loss=3.0, metric=0.0, token_accuracy=0.2, load_s=1, eval_s=1, eval_tokens=1)
        survey = Asked(Data(SimpleNamespace(metric_name="exact match")), SimpleNamespace(metric=None))
        survey, evidence, baseline = with_telling_metric(survey, evidence, baseline, lambda words: None)
        assert survey.data.profile.metric_name == evidence.curves["a"].metric_name == name
        told, failed = (outcome.all_rows for outcome in evidence.outcomes["a"])
        assert (told.end.metric, told.untuned.metric) == values and failed is None


def test_a_curve_without_token_accuracy_stays_as_it_is():
    own = Curve(points=(CurvePoint(step=5, eval_loss=1.0, metric=3.0),), metric_name="letter overlap")
    assert judged_by("token accuracy", own) == own
    both = Curve(points=(CurvePoint(step=5, metric=0.0, token_accuracy=0.4),), metric_name="exact match")
    assert judged_by("exact match", both) == both
    assert judged_by("token accuracy", both).points == (CurvePoint(step=5, metric=0.4),)


def test_an_own_run_of_before_is_judged_by_single_tokens_where_those_were_counted():
    """Its end was not known again where no candidate of a new, shorter race had an answer right."""
    ended = Curve(
        points=(CurvePoint(step=5, eval_loss=1.0, metric=0.1, token_accuracy=0.4),), metric_name="exact match"
    )
    own = record("own", 1.0, 0.1).model_copy(update={"source": "own", "metric": 0.1, "curve": ended})
    told = in_metric("token accuracy", own)
    assert (told.curve.metric_name, told.metric, told.metric_name) == ("token accuracy", 0.4, "held-out token accuracy")
    without = own.model_copy(update={"curve": ended.model_copy(update={"points": (CurvePoint(step=5, metric=0.1),)})})
    published = own.model_copy(update={"source": "https://published"})
    for other in (without, published):
        assert in_metric("token accuracy", other) == other
    assert in_metric("exact match", own) == own
