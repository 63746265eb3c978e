"""How much a loss still falls from a share of the run to its end, on a task that nobody has run before.

The table's word is a law of falls (fall_law.py), and how wrong it was on tasks that it was not fitted to.
Within a task the ends lie closer together than the beginnings: of a curve's distance from the others a third is left
where it was seen at 5 % of the run, seven tenths where it was seen at 10. (Its own last fall says less: who has hardly
begun has the most to go.) Tasks still differ by factors, which a few of them cannot foretell, but the candidates that a
race takes further show it for theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from advisor.forecast.fall_law import Law, cause, fall_of, limited, log_odds_of
from advisor.forecast.log_curve import FINISHED, LogCurve, log_curve
from knowledge.intervals import Z_80, student_80
from knowledge.prior import suite_of
from knowledge.schema import RunRecord, Task

OTHER_TASK_WIDENING = 2.0  # of the error within one suite, as long as the table cannot show the error across suites
# How many candidates' falls the word of the table is worth. Where errors across tasks are w times those within one, the
# task's own part has a variance of w^2 - 1 of these, and the best weight of a guess without it is the inverse.
PSEUDO_COUNT = 1 / (OTHER_TASK_WIDENING**2 - 1)
FEWEST_OF_A_KIND = 3  # tasks; from fewer nothing is learned of how tasks differ
FURTHER = 1.2  # times as far: from there on a curve shows a part of what is to come
FEWEST_WITNESSES = 3  # candidates that must have gone further for what is to come to count as shown
PROVEN_TO = (1.0, 0.6, 0.4, 0.2, 0.1)  # how far others have gone, in steps, for errors that are measured once each
SLOPE_COUNT = 3  # finished curves of a task that the table's word on distances is worth
WITNESSES = 6  # candidates that a race takes further


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
        """Of the interval's two sides, which may differ, the root of the mean square, as of `own_half`."""
        return math.hypot(self.high - self.expected, self.expected - self.low) / math.sqrt(2)


@dataclass(frozen=True)
class _Errors:
    """Half-widths of 80 % intervals of the log-odds of the share that a loss still loses: where more was lost than
    expected, where less was, and of the part that is a run's own."""

    more: float
    less: float
    own: float


class LossToGo:
    """Learned from the text runs of the table whose learning rates fall: without that losses end otherwise
    (`python -m tests.benchmarks.schedules`), and those of images follow the noise level of the diffusion step.

    Where it holds FEWEST_OF_A_KIND tasks that are classifications, or no classifications, as `task` is, it is learned
    from these alone: a new head begins at chance, and all of the warm-up may pass before its loss moves.
    """

    def __init__(self, runs: Iterable[RunRecord], task: Task = "causal-lm") -> None:
        every: dict[str, list[LogCurve]] = {}
        alike: dict[str, list[LogCurve]] = {}
        for run in runs:
            curve = log_curve(run.curve, run.max_steps, run.label_mean_tokens)
            if run.task == "text-to-image" or run.scheduler == "constant":
                continue
            if curve is None or curve.last_fraction < FINISHED:
                continue
            every.setdefault(suite_of(run), []).append(curve)
            if (run.task == "sequence-classification") == (task == "sequence-classification"):
                alike.setdefault(suite_of(run), []).append(curve)
        self.tasks = alike if len(alike) >= FEWEST_OF_A_KIND else every
        # The share of a run from which on the table has evidence; 1 where it has none.
        earliest = sorted(min(c.first_fraction for c in curves) for curves in self.tasks.values())
        self.earliest_fraction = earliest[self._fewest_tasks - 1] if earliest else 1.0
        self.law = cache(self._fit)
        self.errors = cache(self._measure_errors)

    def has_falls(self, fraction: float) -> bool:
        """Whether the table knows what was lost over the last doubling before a share of the run."""
        tasks = sum(any(c.covers(fraction / 2) for c in curves) for curves in self.tasks.values())
        return tasks >= max(1, self._fewest_tasks)

    @property
    def _fewest_tasks(self) -> int:
        """A single task that was evaluated early must not speak for all others."""
        return min(FEWEST_OF_A_KIND, len(self.tasks))

    def _usable(self, fraction: float, with_fall: bool) -> dict[str, list[LogCurve]]:
        start = fraction / 2 if with_fall else fraction
        usable = {name: [c for c in curves if c.covers(start)] for name, curves in self.tasks.items()}
        return {name: curves for name, curves in usable.items() if curves}

    def _fit(self, fraction: float, with_fall: bool, without: str | None) -> Law:
        usable = self._usable(fraction, with_fall)
        return Law.fit([curves for name, curves in usable.items() if name != without], fraction, with_fall)

    def _measure_errors(self, fraction: float, with_fall: bool, proven: float | None) -> _Errors:
        """Of tasks that the law was not fitted to, where the best other curves of a task were known until `proven`."""
        by_task = []
        for name, curves in self._usable(fraction, with_fall).items():
            best, errors = sorted(curves, key=lambda c: c.at(2 * fraction)), []
            for curve in curves:
                seen, others = curve.until(fraction), [c for c in best if c is not curve]
                race = [c.until((proven or fraction) if i < WITNESSES else fraction) for i, c in enumerate(others)]
                task = TaskToGo(self, [*race, seen], without=name if len(self.tasks) > 1 else None)
                to_go = float(seen.log_losses[-1]) - curve.at(1.0)  # from where it was measured last
                errors.append(log_odds_of(to_go) - log_odds_of(task.expected(seen)))
            by_task.append(np.array(errors))
        return _summary(by_task)


class TaskToGo:
    """How much the losses of one task still fall, by the table and by what the curves of a race show of the task."""

    def __init__(self, table: LossToGo, race: Sequence[LogCurve], without: str | None = None) -> None:
        """without: the name of a task of the table that is not known here."""
        self._table, self._all, self._without = table, race, without
        # One that explodes shows nothing of its task, unless all do.
        self._race = [c for c in race if not c.has_exploded] or race
        self._cause = cache(self._average_cause)
        self.average = cache(self._average_fall)

    def without(self, curve: LogCurve) -> TaskToGo:
        """What would be known if one of the curves were not."""
        return TaskToGo(self._table, [c for c in self._all if c is not curve], self._without)

    def predict(self, curve: LogCurve) -> ToGo:
        """What is to come from the end of a curve; an infinite interval where the table has nothing to learn from."""
        if not self._table.tasks:
            return ToGo(0.0, -math.inf, math.inf, math.inf)
        if curve.last_fraction >= FINISHED:
            return ToGo(0.0, 0.0, 0.0, 0.0)
        fraction = self._fraction(curve.last_fraction)
        expected = self.expected(curve)
        errors = self._table.errors(_in_steps(fraction), self._cause(fraction) is not None, self.proven_to(fraction))
        odds = log_odds_of(expected)
        # Errors were measured with all curves of a task at hand; the average of a few tells less.
        of_few = errors.own / math.sqrt(max(1, len(self._reached(fraction, since=fraction))))
        less, more = math.hypot(errors.less, of_few), math.hypot(errors.more, of_few)
        low, high = fall_of(odds - less), fall_of(odds + more)
        if expected < 0:  # log-odds know no rise: above it the interval is as wide as where a loss stands still
            low = expected - fall_of(log_odds_of(0.0) + more)
        own_half = (fall_of(odds + errors.own) - fall_of(odds - errors.own)) / 2
        return ToGo(expected, min(low, expected), max(high, expected), own_half)

    def expected(self, curve: LogCurve) -> float:
        """The expected fall of a curve's log loss from its end on."""
        return limited(self._expected_from(curve, self._fraction(curve.last_fraction)))

    def _expected_from(self, curve: LogCurve, fraction: float) -> float:
        return self.average(fraction) + self._beyond_average(curve, fraction)

    def _beyond_average(self, curve: LogCurve, fraction: float) -> float:
        """How much more than the task's average a curve is expected to fall after a share of the run."""
        if not (others := self._reached(fraction, since=fraction)):
            return 0.0
        distance = curve.at(fraction) - float(np.mean([c.at(fraction) for c in others]))
        return (1 - self._carried(fraction)) * distance

    def _carried(self, fraction: float) -> float:
        """How much of a distance is left at the end: the table's word, and what finished curves show of this task."""
        law = self._law(fraction)
        finished = self._reached(1.0, since=fraction)
        by_table = SLOPE_COUNT * law.spread
        if not finished or not by_table:
            return law.carried
        seen, end = (np.array([c.at(f) for c in finished]) for f in (fraction, 1.0))
        distance = seen - seen.mean()
        return float(max(0.0, by_table * law.carried + distance @ end) / (by_table + distance @ distance))

    def _average_fall(self, fraction: float) -> float:
        """How much the task's log losses fall after a share of the run: what those that went further have shown, with
        what is expected of them from there, and the table's word."""
        if fraction >= FINISHED or not self._table.tasks:
            return 0.0
        cause, reached = self._cause(fraction), self._reached(fraction, since=fraction) or self._race
        log_nats = float(np.mean([c.log_nats(fraction) for c in reached]))
        by_table = self._law(fraction).further(1.0 if cause is None else cause, log_nats)
        further = sorted(self.further(fraction, FURTHER), key=lambda c: -c.last_fraction)
        witnesses = [c for c in further if c.last_fraction >= further[:WITNESSES][-1].last_fraction]
        shown = [
            c.at(fraction)
            - float(c.log_losses[-1])
            + self._expected_from(c, c.last_fraction)
            - self._beyond_average(c, fraction)
            for c in witnesses
        ]
        return (PSEUDO_COUNT * by_table + sum(shown)) / (PSEUDO_COUNT + len(shown))

    def further(self, fraction: float, times: float = 2.0) -> list[LogCurve]:
        """The curves that went at least so many times as far as `fraction` of the run."""
        fraction = self._fraction(fraction)
        return [c for c in self._race if c.last_fraction >= times * fraction and c.covers(fraction)]

    def proven_to(self, fraction: float) -> float | None:
        """How far the race's candidates have shown what comes after `fraction` of the run, at least twice as far; None
        where too few have."""
        reached = sorted((c.last_fraction for c in self.further(fraction)), reverse=True)
        if len(reached) < FEWEST_WITNESSES:
            return None
        return next((g for g in PROVEN_TO if g <= reached[FEWEST_WITNESSES - 1] * 1.01), None)

    def _fraction(self, fraction: float) -> float:
        return max(fraction, self._table.earliest_fraction)

    def _law(self, fraction: float) -> Law:
        return self._table.law(_in_steps(fraction), self._cause(fraction) is not None, self._without)

    def _average_cause(self, fraction: float) -> float | None:
        """None where no curve was measured early enough, here or in the table: what was lost over the last doubling is
        unknown then, or has nothing to be compared with."""
        if not self._table.has_falls(fraction):
            return None
        reached = self._reached(fraction, since=fraction / 2)
        return float(np.mean([cause(c, fraction) for c in reached])) if reached else None

    def _reached(self, fraction: float, since: float) -> list[LogCurve]:
        """The curves that went as far as a share of the run and were measured from another on."""
        return [c for c in self._race if c.covers(since) and c.last_fraction >= fraction / 1.01]


def _in_steps(fraction: float) -> float:
    """What is fitted is fitted once for fractions that are nearly alike, nearly enough for curves that begin there."""
    return round(fraction, 4) if fraction >= 0.01 else float(f"{fraction:.3g}")


def _summary(by_task: Sequence[np.ndarray]) -> _Errors:
    """Every task counts as much as any other; few of them tell little about the next."""
    factor = student_80(len(by_task)) if len(by_task) > 1 else OTHER_TASK_WIDENING * Z_80
    # Twice the mean over one sign is the variance where errors of both signs are alike.
    more = np.mean([2 * np.mean(np.maximum(errors, 0) ** 2) for errors in by_task])
    less = np.mean([2 * np.mean(np.minimum(errors, 0) ** 2) for errors in by_task])
    own = np.mean([np.var(errors) for errors in by_task])
    return _Errors(*(factor * math.sqrt(variance) for variance in (more, less, own)))
