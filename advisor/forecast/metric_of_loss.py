"""What a loss means in the task's metric: learned from the points of the probes themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from advisor.forecast.conformal import error_bound
from advisor.forecast.end_model import Probe, log_loss_of, loss_of
from advisor.forecast.final_loss import FinalLoss, Noise, prediction_of
from advisor.forecast.local_line import LocalLine
from advisor.recommendation import Prediction
from knowledge.intervals import Z_80, student_80
from knowledge.schema import CurvePoint
from probes.metrics import is_share

# Half-width of the 80 % interval for the same candidate run again, in accuracy (published re-runs of Llama-3.2-3B on
# MetaMathQA).
RERUN_METRIC = Z_80 * 0.007
FEWEST_POINTS = 8  # of loss and metric together, to learn what a loss means in the metric
METRIC_NEIGHBOURS = 20
ROUNDING = 1e-9  # of a metric's values: where all are equal, what is made of them differs in the last digits
SMALLEST_METRIC = 0.005  # about half of one row right in a hundred


class MetricOfLoss:
    """What a loss means in the task's metric, from all points of all probes: a falling local line."""

    def __init__(self, name: str, log_losses: np.ndarray, metrics: np.ndarray, bound: float) -> None:
        self._line = _metric_line().fit(log_losses, metrics)
        self._bound = bound
        self._range = range_of(metrics, name)
        self._lowest_seen = float(log_losses.min())
        self._name, self._perfect_without_loss = name, is_share(name)

    @classmethod
    def learn(cls, name: str, x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> MetricOfLoss | None:
        """From what `loss_and_metric` returns; None where that is fewer than FEWEST_POINTS."""
        owners = np.unique(owner)
        if len(y) < FEWEST_POINTS or len(owners) < 2:
            return None
        errors = np.empty(len(y))
        for i in owners:
            out = owner == i
            line = _metric_line().fit(x[~out], y[~out])
            errors[out] = y[out] - line.predict(x[out])
        least = RERUN_METRIC if is_share(name) else ROUNDING * float(np.abs(y).max())
        return cls(name, x, y, max(error_bound(errors), least))

    def predict(self, end: FinalLoss, last: CurvePoint, log_loss: float) -> Prediction:
        """The metric at the end of a run. What was measured last, at `log_loss`, stands where the run is over, and is
        the least that is foretold where its loss goes on falling."""
        value, worst, best = self._at([end.log_loss, end.high, end.low])
        measured = value if last.metric is None else last.metric
        if end.is_measured or (measured > value and end.log_loss <= log_loss):
            value, worst, best = measured, measured + worst - value, measured + best - value
        low = value - math.hypot(value - worst, self._bound)
        high = value + math.hypot(best - value, self._bound)
        low, high = np.clip([low, high], *self._range)
        unseen = not end.is_measured and end.log_loss < self._lowest_seen
        return prediction_of(self._name, value, low, high, end.extrapolated or unseen)

    def noise(self, end: FinalLoss) -> Noise:
        """How far the metric may be off beside what candidates share: by its own loss and by its own distance from
        the line, in which a re-run's is; where the run is over, what was measured is off by that of a re-run alone."""
        if end.is_measured and self._perfect_without_loss:
            return Noise.same(RERUN_METRIC)
        return end.noise.each(lambda half: math.hypot(self._change(end.log_loss, half), self._bound))

    def _change(self, log_loss: float, half: float) -> float:
        """By how much the metric changes where a loss does by `half` of its log, to either side."""
        worst, best = self._at([log_loss + half, log_loss - half])
        return (best - worst) / 2

    def _at(self, log_losses: Sequence[float]) -> np.ndarray:
        """The metric at log losses, both of shape (n,).

        Below the lowest loss seen the metrics of probes/metrics.py are on their way to 1, where the loss is 0: the
        logarithm of a share of right answers is taken as proportional to the loss, as that of their likelihood is. The
        line says nothing there: of short probes of a task that is hard at first it stays level, and of a classifier
        whose loss has hardly moved it is as steep as chance.
        """
        values = self._line.predict(log_losses)
        if self._perfect_without_loss:
            (start,) = np.clip(self._line.predict([self._lowest_seen]), *self._range)
            left = np.exp(np.minimum(np.array(log_losses) - self._lowest_seen, 0.0))
            values = np.where(left < 1, max(start, SMALLEST_METRIC) ** left, values)
        return np.clip(values, *self._range)


def loss_and_metric(probes: Sequence[Probe], baseline: CurvePoint | None) -> np.ndarray:
    """Log loss, metric and number of the probe of all points that have both, shape (3, points)."""
    points = [(p, i) for i, probe in enumerate(probes) for p in probe.curve.points]
    points += [(baseline, -1)] if baseline else []
    rows = [(log_loss_of(p), p.metric, i) for p, i in points if loss_of(p) is not None and p.metric is not None]
    return np.array(rows, dtype=float).reshape(-1, 3).T


def noise_by_few(name: str | None, end: FinalLoss, log_losses: np.ndarray, metrics: np.ndarray) -> Noise:
    """What `MetricOfLoss.noise` tells, from fewer points than that takes: by a straight line through them. Of shares
    more is known; an own metric may be in any unit, and its noise is in the same."""
    if name is None or is_share(name) or not len(metrics):
        return Noise.same(RERUN_METRIC)
    degree = int(np.ptp(log_losses) > 0 and len(metrics) > 2)  # two points lie on any line
    line = np.polynomial.Polynomial.fit(log_losses, metrics, degree)
    freedom = max(1, len(metrics) - degree - 1)
    left_over = float(np.square(metrics - line(log_losses)).sum()) / freedom
    around_it = student_80(freedom) * math.sqrt(left_over)
    least = ROUNDING * float(np.abs(metrics).max())

    def of(half: float) -> float:
        by_loss = abs(line(end.log_loss + half) - line(end.log_loss - half)) / 2
        return max(math.hypot(by_loss, around_it), least)

    return end.noise.each(of)


def _metric_line() -> LocalLine:
    """Goes on straight however far the end lies beyond the probes: the metric's own range is the limit."""
    return LocalLine(METRIC_NEIGHBOURS, falling=True, reach=math.inf)


def as_measured(name: str | None, end: FinalLoss, last: CurvePoint, noise: Noise) -> Prediction | None:
    """What a run that is over has measured, where too few points say what a loss means in the metric."""
    if name is None or last.metric is None or not end.is_measured:
        return None
    values = [last.metric + side * noise.alike for side in (0, -1, 1)]
    return prediction_of(name, *np.clip(values, *range_of([last.metric], name)), False)


def range_of(metrics: ArrayLike, name: str) -> tuple[float, float]:
    """What the metric can be: a share of right answers, or as the values seen show never below 0."""
    return 0.0 if is_share(name) or np.min(metrics) >= 0 else -math.inf, 1.0 if is_share(name) else math.inf
