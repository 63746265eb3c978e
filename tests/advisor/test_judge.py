"""What the evidence says of a candidate, beside its forecast."""

from __future__ import annotations

import numpy as np
import pytest

from advisor.held_out import held_out_noise
from advisor.judge import _metric_noise, _step_s
from advisor.predictor import Forecast
from advisor.recommendation import Prediction
from probes.schema import ProbeOutcome


def forecast(value, metric):
    return Forecast(None, Prediction(metric=metric, value=value, low=value, high=value, extrapolated=False))


def test_whole_answers_vary_as_counts_do_and_less_data_never_tells_more():
    noise = [_metric_noise(forecast(0.5, "exact match"), rows, None) for rows in (1, 2, 50, 200)]
    assert noise == sorted(noise, reverse=True) and noise[2] == pytest.approx(1.28 * (0.25 / 50) ** 0.5, rel=0.01)


def test_right_tokens_vary_from_row_to_row_in_what_candidates_do_not_share():
    draw = np.random.default_rng(0)
    common = draw.integers(10, 40, 50)
    right = {id: tuple(common + draw.integers(0, 3, 50)) for id in ("a", "b", "c")}
    share = held_out_noise(right)["a"]
    noise = _metric_noise(forecast(0.5, "token accuracy"), 50, share)
    assert 0 < noise < 0.02 < _metric_noise(forecast(0.5, "token accuracy"), 50, None)


def test_how_an_own_metric_varies_is_not_known():
    assert _metric_noise(forecast(0.5, "f1"), 50, None) == 0


def test_rates_of_a_method_take_the_same_time():
    outcomes = [
        ProbeOutcome(id="a", status="finished", last_step=8, train_s=16.0),
        ProbeOutcome(id="b", status="finished", last_step=92, train_s=84.0),
        ProbeOutcome(id="c", status="failed"),
    ]
    assert _step_s(outcomes) == 1.0
    assert _step_s(outcomes[2:]) is None
