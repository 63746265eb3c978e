"""How much a loss still falls from a share of the run to its end, on a task that nobody has run before.

Told in shares of the present loss, what the curves of a task still lose is on average proportional to what they lost
over the last doubling of their steps. Of what was tried (log losses, roots, lines with an intercept, local lines) that
carried over best from task to task (`python -m tests.benchmarks.new_task`). Within a task a curve's own last fall says
much less. Tasks still differ by factors, which a few of them cannot foretell, but the candidates that a race takes
further show it for theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from advisor.end_model import loss_of
from knowledge.intervals import Z_80
from knowledge.prior import suite_of
from knowledge.schema import Curve, RunRecord

OTHER_TASK_WIDENING = 2.0  # of the error within one suite, as long as the table cannot show the error across suites
# Quantiles of Student's t that leave 10 % above them, by degrees of freedom: few tasks tell little of the next one.
STUDENT_90 = (3.08, 1.89, 1.64, 1.53, 1.48, 1.44, 1.41, 1.40, 1.38, 1.37)
# How many candidates' falls the word of the table is worth. Where errors across tasks are w times those within one, the
# task's own part has a variance of w^2 - 1 of these, and the best weight of a guess without it is the inverse.
PSEUDO_COUNT = 1 / (OTHER_TASK_WIDENING**2 - 1)
SMALLEST_CAUSE = 0.05  # a curve that is flat while it warms up has as much to go as this one
FEWEST_WITNESSES = 3  # candidates that must have gone further for what is to come to count as shown
PROVEN_TO = (1.0, 0.6, 0.4, 0.2, 0.1)  # how far others have gone, in steps, for errors that are measured once each
WITHIN_RIDGE = 0.0003  # a variance: where curves hardly differ in their last fall nothing follows from it
RATES = np.geomspace(0.1, 100, 200)  # of falls per part lost, tried for a law
WITNESSES = 6  # candidates that a race takes further
SMALLEST_SPREAD = 0.01  # as a variance
LEAST_LEFT = 0.01  # of its present loss, at any end: no forecast goes lower
FINISHED = 0.999


@dataclass(frozen=True, eq=False)
class LogCurve:
    """A run as shares of the planned steps and natural logs of the loss, both of shape (n,), n > 0."""

    fractions: np.ndarray
    log_losses: np.ndarray

    @property
    def last_fraction(self) -> float:
        return float(self.fractions[-1])

    def at(self, fraction: float) -> float:
        """Log loss at a share of the run, straight in the log of the steps between points."""
        return float(np.interp(np.log(fraction), np.log(self.fractions), self.log_losses))

    def covers(self, fraction: float) -> bool:
        return bool(self.fractions[0] <= fraction * 1.01)

    def until(self, fraction: float) -> LogCurve:
        """The beginning of the run, at least one point of it."""
        count = max(1, int(np.sum(self.fractions <= fraction * 1.01)))
        return LogCurve(self.fractions[:count], self.log_losses[:count])

    def lost(self, start: float, end: float) -> float:
        """What part of the loss at the share `start` of the run was gone at the share `end`."""
        return -math.expm1(self.at(end) - self.at(start))


def log_curve(curve: Curve, max_steps: int) -> LogCurve | None:
    """None where no positive loss was measured after the start."""
    known = [(p.step / max_steps, loss) for p in curve.points if p.step > 0 and (loss := loss_of(p)) and loss > 0]
    if not known:
        return None
    fractions, losses = np.array(known).T
    return LogCurve(fractions, np.log(losses))


class ToGo(NamedTuple):
    """How much further a log loss is expected to fall, with the ends of its 80 % interval, and the half-width of the
    part of the error that is the candidate's own (all curves of a task fall more or less than expected, which does not
    matter where its candidates are compared)."""

    expected: float
    low: float
    high: float
    own_half: float

    @property
    def half(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class _Law:
    """What follows from the parts of their losses that a task's curves lost over the last doubling of their steps.

    between: the log losses' further fall, per part lost on average over the task. within: how much more than the
    average a curve's log loss still falls, per part that it lost more.
    """

    between: float
    within: float


@dataclass(frozen=True)
class _Errors:
    """Half-widths of 80 % intervals of the share that a loss still loses: where more was lost than expected, where
    less was, and of the part that is a run's own, in parts of its task's spread."""

    more: float
    less: float
    own: float


class LossToGo:
    """Learned from the text runs of the table: image losses follow the noise level of the diffusion step instead."""

    def __init__(self, runs: Iterable[RunRecord]) -> None:
        self.tasks: dict[str, list[LogCurve]] = {}
        for run in runs:
            curve = log_curve(run.curve, run.max_steps)
            if run.task != "text-to-image" and curve is not None and curve.last_fraction >= FINISHED:
                self.tasks.setdefault(suite_of(run), []).append(curve)
        self.law = cache(self._fit)
        self.errors = cache(self._measure_errors)

    @property
    def earliest_fraction(self) -> float:
        """The share of a run from which on the table has evidence; 1 where it has none."""
        return min((float(c.fractions[0]) for curves in self.tasks.values() for c in curves), default=1.0)

    def has_falls(self, fraction: float) -> bool:
        """Whether the table knows what was lost over the last doubling before a share of the run."""
        return any(c.covers(fraction / 2) for curves in self.tasks.values() for c in curves)

    def _usable(self, fraction: float, with_fall: bool) -> dict[str, list[LogCurve]]:
        start = fraction / 2 if with_fall else fraction
        usable = {name: [c for c in curves if c.covers(start)] for name, curves in self.tasks.items()}
        return {name: curves for name, curves in usable.items() if curves}

    def _fit(self, fraction: float, with_fall: bool, without: str | None) -> _Law:
        """Least squares in shares of the loss, in which every task counts as much as any other."""
        tasks = []
        for name, curves in self._usable(fraction, with_fall).items():
            if name != without:
                causes = np.array([_cause(c, fraction) if with_fall else 1.0 for c in curves])
                tasks.append((causes, np.array([c.lost(fraction, 1.0) for c in curves])))
        if not tasks:
            return _Law(0.0, 0.0)
        x, y = (np.array([values.mean() for values in column]) for column in zip(*tasks, strict=True))
        misses = np.mean((1 - np.exp(-np.outer(RATES, x)) - y) ** 2, axis=1)
        products = [(np.mean((x - x.mean()) * (y - y.mean())), np.var(x)) for x, y in tasks]
        dxdy, dxdx = np.mean(products, axis=0)
        return _Law(float(RATES[misses.argmin()]), float(max(0.0, dxdy) / (dxdx + WITHIN_RIDGE)))

    def _measure_errors(self, fraction: float, with_fall: bool, proven: float | None) -> _Errors:
        """Of tasks that the law was not fitted to, where the best other curves of a task were known until `proven`."""
        by_task = []
        for name, curves in self._usable(fraction, with_fall).items():
            best, lost, errors = sorted(curves, key=lambda c: c.at(2 * fraction)), [], []
            for curve in curves:
                seen, others = curve.until(fraction), [c for c in best if c is not curve]
                race = [c.until((proven or fraction) if i < WITNESSES else fraction) for i, c in enumerate(others)]
                task = TaskToGo(self, [*race, seen], without=name if len(self.tasks) > 1 else None)
                lost.append(curve.lost(fraction, 1.0))
                errors.append(lost[-1] + math.expm1(-task.expected(seen)))
            by_task.append((np.array(errors), _spread(float(np.mean(lost)))))
        return _summary(by_task)


class TaskToGo:
    """How much the losses of one task still fall, by the table and by what the curves of a race show of the task."""

    def __init__(self, table: LossToGo, race: Sequence[LogCurve], without: str | None = None) -> None:
        """without: the name of a task of the table that is not known here."""
        self._table, self._race, self._without = table, race, without
        self._level = cache(self._average_cause)
        self.average = cache(self._average_fall)

    def without(self, curve: LogCurve) -> TaskToGo:
        """What would be known if one of the curves were not."""
        return TaskToGo(self._table, [c for c in self._race if c is not curve], self._without)

    def predict(self, curve: LogCurve) -> ToGo:
        """What is to come from the end of a curve; an infinite interval where the table has nothing to learn from."""
        if not self._table.tasks:
            return ToGo(0.0, -math.inf, math.inf, math.inf)
        if curve.last_fraction >= FINISHED:
            return ToGo(0.0, 0.0, 0.0, 0.0)
        fraction = self._fraction(curve.last_fraction)
        expected = self.expected(curve)
        errors = self._table.errors(round(fraction, 3), self._level(fraction) is not None, self.proven_to(fraction))
        share = -math.expm1(-expected)
        # The half-width in logs whose ends are as far apart, in shares of the present loss, as the error is wide.
        own_half = math.asinh(errors.own * _spread(share) * math.exp(expected))
        return ToGo(expected, _limited(_fall(share - errors.less)), _limited(_fall(share + errors.more)), own_half)

    def expected(self, curve: LogCurve) -> float:
        """The expected fall of a curve's log loss from its end on."""
        fraction = self._fraction(curve.last_fraction)
        return _limited(self.average(fraction) + self._beyond_average(curve, fraction))

    def _beyond_average(self, curve: LogCurve, fraction: float) -> float:
        """How much more than the task's average a curve is expected to fall after a share of the run."""
        level = self._level(fraction)
        if level is None or not curve.covers(min(fraction, curve.last_fraction) / 2):
            return 0.0
        return self._law(fraction).within * (_cause(curve, fraction) - level)

    def _average_fall(self, fraction: float) -> float:
        """How much the task's log losses fall after a share of the run: what those that went further have shown, with
        what is expected of them from there, and the table's word."""
        if fraction >= FINISHED or not self._table.tasks:
            return 0.0
        level = self._level(fraction)
        by_table = self._law(fraction).between * (1.0 if level is None else level)
        further = sorted(self.further(fraction), key=lambda c: -c.last_fraction)
        witnesses = [c for c in further if c.last_fraction >= further[:WITNESSES][-1].last_fraction]
        shown = [
            c.at(fraction) - float(c.log_losses[-1]) - self._beyond_average(c, fraction) + self.average(c.last_fraction)
            for c in witnesses
        ]
        return (PSEUDO_COUNT * by_table + sum(shown)) / (PSEUDO_COUNT + len(shown))

    def further(self, fraction: float) -> list[LogCurve]:
        """The curves that went at least twice as far as `fraction` of the run."""
        fraction = self._fraction(fraction)
        return [c for c in self._race if c.last_fraction >= 2 * fraction and c.covers(fraction)]

    def proven_to(self, fraction: float) -> float | None:
        """How far the race's candidates have shown what comes after `fraction` of the run, at least twice as far; None
        where too few have."""
        reached = sorted((c.last_fraction for c in self.further(fraction)), reverse=True)
        if len(reached) < FEWEST_WITNESSES:
            return None
        return next((g for g in PROVEN_TO if g <= reached[FEWEST_WITNESSES - 1] * 1.01), None)

    def _fraction(self, fraction: float) -> float:
        return max(fraction, self._table.earliest_fraction)

    def _law(self, fraction: float) -> _Law:
        return self._table.law(round(fraction, 3), self._level(fraction) is not None, self._without)

    def _average_cause(self, fraction: float) -> float | None:
        """None where no curve was measured early enough, here or in the table: what was lost over the last doubling is
        unknown then, or has nothing to be compared with."""
        if not self._table.has_falls(fraction):
            return None
        reached = [c for c in self._race if c.covers(fraction / 2) and c.last_fraction >= fraction / 1.01]
        return float(np.mean([_cause(c, fraction) for c in reached])) if reached else None


def _cause(curve: LogCurve, fraction: float) -> float:
    """What the further fall is told by: the part of the loss that was lost over the last doubling of the steps."""
    return max(SMALLEST_CAUSE, curve.lost(fraction / 2, fraction))


def _fall(share: float) -> float:
    """The fall of a log loss that loses this share of itself."""
    return math.inf if share >= 1 else -math.log1p(-share)


def _limited(fall: float) -> float:
    """A loss may grow to its double at most, and something is always left of it."""
    return float(np.clip(fall, -math.log(2), -math.log(LEAST_LEFT)))


def _spread(share: float) -> float:
    """What a task's curves differ by is proportional to: little where little is lost still, or nearly all."""
    return math.sqrt(max(share * (1 - share), SMALLEST_SPREAD))


def _summary(by_task: Sequence[tuple[np.ndarray, float]]) -> _Errors:
    """Every task, by its errors and its spread, counts as much as any other; few of them tell little about the next."""
    factor = STUDENT_90[min(len(by_task), len(STUDENT_90)) - 1] if len(by_task) > 1 else OTHER_TASK_WIDENING * Z_80
    # Twice the mean over one sign is the variance where errors of both signs are alike.
    more = np.mean([2 * np.mean(np.maximum(e, 0) ** 2) for e, _ in by_task])
    less = np.mean([2 * np.mean(np.minimum(e, 0) ** 2) for e, _ in by_task])
    own = np.mean([np.mean((e - e.mean()) ** 2) / spread**2 for e, spread in by_task])
    return _Errors(*(factor * math.sqrt(variance) for variance in (more, less, own)))
