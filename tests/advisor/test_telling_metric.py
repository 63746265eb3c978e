"""Where no answer is ever right as a whole, candidates are told apart by single tokens, from the race to the end."""

from __future__ import annotations

import json
import random

import pytest

from advisor import recommend
from advisor.telling_metric import judged_by
from advisor.train import train
from knowledge.schema import Curve, CurvePoint
from tests.advisor.test_export_script import save_tiny
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
    pick = found.pick
    assert pick.curve.metric_name == "token accuracy"
    assert pick.baseline_value < pick.curve.points[-1].metric < 1
    # The final run goes on from the race's probe and is judged by the same.
    report = train(tmp_path, live=(live := Silent()))
    assert report.curve.metric_name == "token accuracy" and all(p.metric > 0 for p in report.curve.points)
    assert report.curve.points[0] == pick.curve.points[0]
    assert any("where the race stopped" in said for said in live.said) or report.first_step == 40


def test_who_asks_for_exact_match_gets_it(model, data, tmp_path):
    found = recommend(model, data, out=tmp_path, workers=1, metric="exact match", **RACE)
    assert found.result.data.metric_name == found.pick.curve.metric_name == "exact match"
    assert {p.metric for p in found.pick.curve.points} == {0.0}
    train(tmp_path, live=(live := Silent()))
    assert any("where the race stopped" in said for said in live.said)  # the race's journal is known again


def test_a_curve_without_token_accuracy_stays_as_it_is():
    own = Curve(points=(CurvePoint(step=5, eval_loss=1.0, metric=3.0),), metric_name="letter overlap")
    assert judged_by("token accuracy", own) == own
    both = Curve(points=(CurvePoint(step=5, metric=0.0, token_accuracy=0.4),), metric_name="exact match")
    assert judged_by("exact match", both) == both
    assert judged_by("token accuracy", both).points == (CurvePoint(step=5, metric=0.4),)
