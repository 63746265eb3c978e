"""What was told of the first held-out rows, told of all of them."""

from __future__ import annotations

import pytest

from advisor.candidates import Candidate
from advisor.forecast.all_rows import Shift, on_all_rows, shifts_of
from advisor.forecast.final_loss import Noise
from advisor.forecast.predictor import Forecast
from advisor.measured import Measured
from advisor.recommendation import Prediction
from knowledge.methods import get_method
from knowledge.schema import Curve, CurvePoint
from probes.schema import AllRows, ProbeOutcome


def told(metric, value):
    return Prediction(metric=metric, value=value, low=0.9 * value, high=1.1 * value)


def forecast(loss=1.0, metric=0.5, name="accuracy"):
    return Forecast(
        told("eval loss", loss), told(name, metric), loss_noise=Noise(0.1, 0.2), metric_noise=Noise(0.05, 0.1)
    )


def point(loss, metric, step=60):
    return CurvePoint(step=step, eval_loss=loss, metric=metric)


def measured(name, last, end=None):
    all_rows = end and AllRows(end=end, untuned=point(3.0, 0.1, step=0), row_labels=(1,))
    outcome = ProbeOutcome(id=name, status="finished", last_step=60, all_rows=all_rows)
    return Measured(Candidate(name, get_method("lora"), 1e-4, {}, None), Curve(points=(last,)), [outcome], None)


def test_what_was_measured_on_all_rows_is_what_is_told():
    found = [measured("a", point(1.0, 0.5), point(1.2, 0.4)), measured("b", point(2.0, 0.3), point(2.2, 0.35))]
    told = on_all_rows({"a": forecast(1.0, 0.5), "b": forecast(2.0, 0.3)}, shifts_of(found))
    assert [(told[id].loss.value, told[id].metric.value) for id in "ab"] == [
        (pytest.approx(1.2), pytest.approx(0.4)),
        (pytest.approx(2.2), pytest.approx(0.35)),
    ]
    assert told["a"].loss_noise == pytest.approx((0.12, 0.24)) and told["a"].metric_noise == (0.05, 0.1)
    assert (told["a"].loss.low, told["a"].loss.high) == (pytest.approx(1.08), pytest.approx(1.32))
    assert (told["a"].metric.low, told["a"].metric.high) == (pytest.approx(0.35), pytest.approx(0.45))


def test_who_left_early_is_told_by_what_the_others_saw():
    """The other rows are harder: in log loss by .1 and .3, in accuracy by .1 and .05."""
    shifts = {"a": Shift(0.1, -0.1), "b": Shift(0.3, -0.05)}
    early = on_all_rows({"a": forecast(), "b": forecast(), "early": forecast(3.0, 0.2)}, shifts)["early"]
    assert early.loss.value == pytest.approx(3.0 * 1.2214, rel=1e-4)
    assert early.metric.value == pytest.approx(0.125)


def test_shares_stay_shares_and_an_own_metric_may_be_anything():
    shift = {"a": Shift(0.0, -0.4)}
    low, own = (on_all_rows({"a": forecast(metric=0.2, name=name)}, shift)["a"].metric for name in ("accuracy", "bleu"))
    assert (low.value, low.low, low.high) == (0.0, 0.0, 0.0)
    assert own.value == pytest.approx(-0.2)


def test_nothing_changes_where_no_run_came_to_its_end():
    forecasts = {"a": forecast(), "b": Forecast(None, None)}
    found = [measured("a", point(1.0, 0.5)), measured("b", point(1.0, 0.5), point(1.1, 0.4, step=40))]
    assert shifts_of(found) == {}
    assert on_all_rows(forecasts, {}) == forecasts
    assert on_all_rows(forecasts, {"a": Shift(0.1, 0.1)})["b"] == Forecast(None, None)


def test_a_run_without_a_metric_or_a_loss_is_told_as_far_as_it_is_known():
    """Of a classifier that float32 sees no loss of, and of one whose metric was not measured."""
    assert Shift.between(point(1.0, None), point(1.5, None)).metric == 0.0
    assert Shift.between(point(0.0, 1.0), point(1e-6, 1.0)).log_loss == pytest.approx(0.0)
