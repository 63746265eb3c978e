"""Predicts loss and metric at the end of the planned run from probes, with 80 % intervals.

Two situations. Where the table holds enough finished runs of the very same task, published ones or the user's own,
their ends teach what a beginning leads to (advisor/end_model.py). On a task that nobody has run, which is what users
bring, the table only teaches how losses go on falling (advisor/loss_to_go.py), and the race's own points teach what a
loss means in the task's metric; such predictions have wide intervals and are marked as extrapolated until some
candidate has gone far. A few finished runs of the very task (advisor/same_task.py) say how much of that holds there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from advisor.conformal import error_bound
from advisor.end_model import KnownEnds, Probe, log_loss_of, loss_of, probe_of
from advisor.local_line import LocalLine
from advisor.log_curve import FINISHED, LogCurve, log_curve
from advisor.loss_to_go import FEWEST_WITNESSES, LossToGo, TaskToGo
from advisor.recommendation import Prediction
from advisor.same_task import SameTask
from knowledge.intervals import Z_80
from knowledge.prior import in_one_era, suite_of, without_repeats
from knowledge.schema import CurvePoint, RunRecord, Task
from probes.metrics import is_share

# Half-widths of 80 % intervals for the same candidate run again: .005 in log loss with
# another data order, .007 in accuracy (published re-runs of Llama-3.2-3B on MetaMathQA).
RERUN_LOG_LOSS = Z_80 * 0.005
RERUN_METRIC = Z_80 * 0.007
# The same in nats with another seed in short runs on little data: .015 is the median over the tasks of examples/study.
RERUN_NATS = Z_80 * 0.015
FEWEST_POINTS = 8  # of loss and metric together, to learn what a loss means in the metric
METRIC_NEIGHBOURS = 20
ROUNDING = 1e-9  # of a metric's values: where all are equal, what is made of them differs in the last digits
SMALLEST_METRIC = 0.005  # about half of one row right in a hundred
SHOWN_FROM = 0.5  # of the run: a task where nobody went this far is extrapolated
EQUALLY_FAR = 0.9  # as a share of the longest probe


@dataclass(frozen=True)
class Forecast:
    """The end of one candidate's planned run. None where nothing can be said.

    The intervals are for the values themselves. Most of their width is shared by all candidates of a race (how this
    task's losses will go on falling), so they are far too wide to compare candidates by: `loss_noise` and
    `metric_noise` are for that, the half-widths of what is a candidate's own: how differently it may go on falling, and
    what would differ if it were run again.
    """

    loss: Prediction | None
    metric: Prediction | None
    loss_noise: float = 0.0
    metric_noise: float = 0.0


class Predictor:
    """Fitted from runs of the benchmark table, shipped and own; deterministic.

    benchmark: what the probes are of, 'suite/software era'. Runs of that suite are of the very task: their ends are
    learned from where they are FEWEST_RUNS, with the offset between eras taken out of their metrics; however few, they
    are used. task: its kind. label_mean_tokens: of how many tokens of a row its loss is the mean.
    """

    def __init__(
        self,
        runs: Iterable[RunRecord],
        benchmark: str | None = None,
        task: Task = "causal-lm",
        label_mean_tokens: float = 1.0,
    ) -> None:
        runs = list(runs)
        suite = (benchmark or "").rpartition("/")[0]
        self._own = without_repeats(run for run in runs if suite and suite_of(run) == suite)
        self._ends = KnownEnds(in_one_era(self._own, benchmark or ""))
        self._to_go = LossToGo((run for run in runs if not suite or suite_of(run) != suite), task)
        self._label_mean_tokens = label_mean_tokens
        self._same_task = SameTask(self._own)

    def predict(
        self,
        probes: Mapping[str, Probe],
        max_steps: int,
        metric_name: str | None = None,
        baseline: CurvePoint | None = None,
    ) -> dict[str, Forecast]:
        """The end of a run of `max_steps` for each probe, by id. The probes are of one task and may differ in length.

        baseline: the untuned model's held-out loss and metric, a further point of the relation between the two.
        """
        known = {id: self._known_task(probe, max_steps, metric_name) for id, probe in probes.items()}
        if None not in known.values():
            return known
        return self._new_task(probes, max_steps, metric_name, baseline) | {id: f for id, f in known.items() if f}

    def _known_task(self, probe: Probe, max_steps: int, metric_name: str | None) -> Forecast | None:
        """None where too few runs of the very task have come to their ends, or where the probe itself has and shows the
        metric; of the test set of a published benchmark no curve tells."""
        if metric_name and probe.curve.last_step >= FINISHED * max_steps:
            return None
        found = self._ends.predict(probe, max_steps, metric_name)
        if found is None:
            return None
        log_loss, half = found.log_loss, found.log_loss_half
        end = _End(log_loss, log_loss - half, log_loss + half, half, is_measured=False, extrapolated=found.is_outside)
        name = metric_name or self._own[0].metric_name
        limits = _range(self._ends.metrics(metric_name), name)
        values = np.clip([found.metric + side * found.metric_half for side in (0, -1, 1)], *limits)
        return Forecast(
            loss=end.prediction(_loss_name(probe)),
            metric=_prediction(name, *values, found.is_outside),
            loss_noise=end.loss_noise,
            metric_noise=max(found.metric_half, ROUNDING * abs(found.metric)),
        )

    def _new_task(
        self, probes: Mapping[str, Probe], max_steps: int, metric_name: str | None, baseline: CurvePoint | None
    ) -> dict[str, Forecast]:
        own = [probe_of(run) for run in self._own if run.curve.metric_name == metric_name]
        curves = {id: log_curve(probe.curve, max_steps, self._label_mean_tokens) for id, probe in probes.items()}
        race = [curve for curve in curves.values() if curve is not None]
        task = TaskToGo(self._to_go, [*race, *self._same_task.curves])
        longest = max((curve.last_fraction for curve in race), default=0.0)
        points = _loss_and_metric([*probes.values(), *own], baseline) if metric_name else np.empty((3, 0))
        relation = _Relation.learn(metric_name, *points) if metric_name else None
        forecasts = {}
        for id, curve in curves.items():
            end = self._end(curve, task, longest) if curve else None
            if end is None:
                forecasts[id] = Forecast(None, None)
                continue
            last = probes[id].curve.points[-1]
            noise = relation.noise(end) if relation else _noise_by_few(metric_name, end, *points[:2])
            forecasts[id] = Forecast(
                loss=end.prediction(_loss_name(probes[id])),
                metric=relation.predict(end, last, float(curve.log_losses[-1]))
                if relation
                else _as_measured(metric_name, end, last, noise),
                loss_noise=end.loss_noise,
                metric_noise=noise,
            )
        return forecasts

    def _is_shown(self, longest: float) -> bool:
        """Whether somebody went far enough on this task, now or in an own run of before."""
        return longest >= SHOWN_FROM or bool(self._same_task.curves)

    def _end(self, curve: LogCurve, task: TaskToGo, longest: float) -> _End | None:
        """The end of one curve, given its task and how far the longest of its race went; None where the table has
        nothing to learn from."""
        if curve.last_fraction >= FINISHED:
            return _End.measured(float(curve.log_losses[-1]))
        to_go = task.predict(curve)
        if math.isinf(to_go.high):
            return None
        shown = len(task.further(curve.last_fraction)) >= FEWEST_WITNESSES
        proven = shown and self._is_shown(longest)
        to_go = self._same_task.interval(to_go, curve.last_fraction, task)
        # What the curves of a task have in common cancels only between candidates that went equally far.
        own_half = to_go.own_half if curve.last_fraction >= EQUALLY_FAR * longest else to_go.half
        log_loss = float(curve.log_losses[-1]) - to_go.expected
        again = _rerun(log_loss)
        return _End(
            log_loss=log_loss,
            low=log_loss - math.hypot(to_go.high - to_go.expected, again),
            high=log_loss + math.hypot(to_go.expected - to_go.low, again),
            own_half=math.hypot(own_half, again),
            is_measured=False,
            extrapolated=not proven or curve.last_fraction < self._to_go.earliest_fraction,
        )


@dataclass(frozen=True)
class _End:
    """The log of a final loss with the ends of its 80 % interval, and the half-width of the part that is its own."""

    log_loss: float
    low: float
    high: float
    own_half: float
    is_measured: bool
    extrapolated: bool

    @classmethod
    def measured(cls, log_loss: float) -> _End:
        """The end of a run that is over: what is open is how it would end if it were run again."""
        again = _rerun(log_loss)
        return cls(log_loss, log_loss - again, log_loss + again, again, is_measured=True, extrapolated=False)

    @property
    def loss_noise(self) -> float:
        """The half-width of its own part, in nats."""
        return math.exp(self.log_loss) * math.sinh(self.own_half)

    def prediction(self, name: str) -> Prediction:
        return _prediction(name, *np.exp([self.log_loss, self.low, self.high]), self.extrapolated)


def _rerun(log_loss: float) -> float:
    """The half-width in logs of what a run of that final loss would differ by if it were run again."""
    return math.hypot(RERUN_LOG_LOSS, math.asinh(RERUN_NATS / math.exp(log_loss)))


class _Relation:
    """What a loss means in the task's metric, from all points of all probes: a falling local line."""

    def __init__(self, name: str, log_losses: np.ndarray, metrics: np.ndarray, bound: float) -> None:
        self._line = _metric_line().fit(log_losses, metrics)
        self._bound = bound
        self._range = _range(metrics, name)
        self._lowest_seen = float(log_losses.min())
        self._name, self._perfect_without_loss = name, is_share(name)

    @classmethod
    def learn(cls, name: str, x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> _Relation | None:
        """From what `_loss_and_metric` returns; None where that is fewer than FEWEST_POINTS."""
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

    def predict(self, end: _End, last: CurvePoint, log_loss: float) -> Prediction:
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
        return _prediction(self._name, value, low, high, end.extrapolated or unseen)

    def noise(self, end: _End) -> float:
        """How far the metric may be off beside what all candidates share: by its own loss and by its own distance from
        the line, in which a re-run's is."""
        worst, best = self._at([end.log_loss + end.own_half, end.log_loss - end.own_half])
        return math.hypot((best - worst) / 2, self._bound)

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


def _loss_and_metric(probes: Sequence[Probe], baseline: CurvePoint | None) -> np.ndarray:
    """Log loss, metric and number of the probe of all points that have both, shape (3, points)."""
    points = [(p, i) for i, probe in enumerate(probes) for p in probe.curve.points]
    points += [(baseline, -1)] if baseline else []
    rows = [(log_loss_of(p), p.metric, i) for p, i in points if loss_of(p) is not None and p.metric is not None]
    return np.array(rows, dtype=float).reshape(-1, 3).T


def _noise_by_few(name: str | None, end: _End, log_losses: np.ndarray, metrics: np.ndarray) -> float:
    """What `_Relation.noise` tells, from fewer points than that takes: by a straight line through them. Of shares more
    is known; an own metric may be in any unit, and its noise is in the same."""
    if name is None or is_share(name) or not len(metrics):
        return RERUN_METRIC
    degree = int(np.ptp(log_losses) > 0)
    line = np.polynomial.Polynomial.fit(log_losses, metrics, degree)
    left_over = float(np.square(metrics - line(log_losses)).sum()) / max(1, len(metrics) - degree - 1)
    by_loss = abs(line(end.log_loss + end.own_half) - line(end.log_loss - end.own_half)) / 2
    return max(math.hypot(by_loss, Z_80 * math.sqrt(left_over)), ROUNDING * float(np.abs(metrics).max()))


def _metric_line() -> LocalLine:
    """Goes on straight however far the end lies beyond the probes: the metric's own range is the limit."""
    return LocalLine(METRIC_NEIGHBOURS, falling=True, reach=math.inf)


def _as_measured(name: str | None, end: _End, last: CurvePoint, noise: float) -> Prediction | None:
    """What a run that is over has measured, where too few points say what a loss means in the metric."""
    if name is None or last.metric is None or not end.is_measured:
        return None
    values = [last.metric + side * noise for side in (0, -1, 1)]
    return _prediction(name, *np.clip(values, *_range([last.metric], name)), False)


def _range(metrics: ArrayLike, name: str) -> tuple[float, float]:
    """What the metric can be: a share of right answers, or as the values seen show never below 0."""
    return 0.0 if is_share(name) or np.min(metrics) >= 0 else -math.inf, 1.0 if is_share(name) else math.inf


def _loss_name(probe: Probe) -> str:
    return "train loss" if probe.curve.points[-1].eval_loss is None else "eval loss"


def _prediction(name: str, value: float, low: float, high: float, extrapolated: bool) -> Prediction:
    return Prediction(metric=name, value=float(value), low=float(low), high=float(high), extrapolated=extrapolated)
