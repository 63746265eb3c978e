"""From the first held-out rows, which probes are compared on, to all of them, which the ends of runs are measured on.

A probe is evaluated on a few rows, for more of them cost more than they tell of it. What has come to the end of the
planned run is worth a longer look: all held-out rows are evaluated once (probes/session.py), and what was told of the
first rows is carried over to all of them by what the finished runs show of both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from advisor.forecast.end_model import log_loss_of
from advisor.forecast.predictor import Forecast
from advisor.measured import Measured
from advisor.recommendation import Prediction
from knowledge.schema import CurvePoint
from probes.metrics import is_share


@dataclass(frozen=True)
class Shift:
    """By what the rows that were not looked at before are harder, or easier, than those that were."""

    log_loss: float
    metric: float

    @classmethod
    def between(cls, first: CurvePoint, every: CurvePoint) -> Shift:
        """Of one run: its last evaluation on the first rows, and the one on all."""
        return cls(_change(log_loss_of(first), log_loss_of(every)), _change(first.metric, every.metric))

    @classmethod
    def mean(cls, shifts: Collection[Shift]) -> Shift:
        """For a run that was not evaluated on all rows: what others saw."""
        return cls(fmean(s.log_loss for s in shifts), fmean(s.metric for s in shifts))

    def of(self, forecast: Forecast) -> Forecast:
        """What was told of the first rows, of all of them."""
        factor = math.exp(self.log_loss)
        loss, metric = forecast.loss, forecast.metric
        return replace(
            forecast,
            loss=loss and _with(loss, factor * np.array(_values(loss))),
            metric=metric and _with(metric, np.array(_values(metric)) + self.metric),
            loss_noise=forecast.loss_noise.each(lambda half: factor * half),
        )


def shifts_of(found: Iterable[Measured]) -> dict[str, Shift]:
    """By id, of the candidates that were evaluated on all held-out rows, at the ends of their runs."""
    return {
        one.candidate.id: Shift.between(one.curve.points[-1], measured.end)
        for one in found
        if (measured := one.all_rows) and measured.end.step == one.curve.last_step
    }


def on_all_rows(forecasts: Mapping[str, Forecast], shifts: Mapping[str, Shift]) -> Mapping[str, Forecast]:
    """All forecasts on the same rows: on all of them where any candidate was evaluated on these."""
    if not shifts:
        return forecasts
    mean = Shift.mean(shifts.values())
    return {id: shifts.get(id, mean).of(forecast) for id, forecast in forecasts.items()}


def _change(first: float | None, every: float | None) -> float:
    """Nothing where one of them was not measured."""
    return 0.0 if first is None or every is None else every - first


def _values(told: Prediction) -> tuple[float, float, float]:
    return told.value, told.low, told.high


def _with(told: Prediction, values: np.ndarray) -> Prediction:
    """The prediction with these values in place of its own; shares stay within 0 and 1."""
    value, low, high = (np.clip(values, 0.0, 1.0) if is_share(told.metric) else values).tolist()
    return told.model_copy(update={"value": value, "low": low, "high": high})
