"""How much a loss still falls from a share of the run to its end, on a task that nobody has run before.

Absolute losses do not carry over from task to task, but the shape of curves does, within limits: a run whose log loss
fell fast over the last doubling of its steps has more to go. The table's runs say how much; the candidates that the
race takes further say by which factor this task's curves fall more or less than the table's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from advisor.conformal import LocalBound
from advisor.end_model import loss_of
from advisor.local_line import LocalLine
from knowledge.prior import suite_of
from knowledge.schema import Curve, RunRecord

OTHER_TASK_WIDENING = 2.0  # of the error within one suite, as long as the table cannot show the error across suites
SCALE_PSEUDO_COUNT = 4.0  # how many candidates' falls the table's own scale is worth
SCALE_LIMITS = (0.1, 3.0)
SMALLEST_FALL = 0.01  # expected falls below that say nothing about the scale
FINISHED = 0.999


@dataclass(frozen=True)
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

    def fall(self, fraction: float) -> float | None:
        """How much the log loss fell over the last doubling of the steps; None where the curve starts later."""
        if not self.covers(fraction / 2):
            return None
        return self.at(fraction / 2) - self.at(fraction)


def log_curve(curve: Curve, max_steps: int) -> LogCurve | None:
    """None where no positive loss was measured after the start."""
    known = [(p.step / max_steps, loss) for p in curve.points if p.step > 0 and (loss := loss_of(p)) and loss > 0]
    if not known:
        return None
    fractions, losses = np.array(known).T
    return LogCurve(fractions, np.log(losses))


class ToGo(NamedTuple):
    """How much further a log loss is expected to fall, with half-widths of 80 % intervals: of the whole error, and of
    the part that is the candidate's own (all curves of a task fall more or less than expected, which does not matter
    where its candidates are compared)."""

    expected: float
    half: float
    own_half: float


@dataclass(frozen=True)
class _Learned:
    """The further fall at one share of a run as a line over the last fall, with bounds of its error."""

    line: LocalLine
    bound: LocalBound
    own_bound: LocalBound


class LossToGo:
    """Learned from the text runs of the table: image losses follow the noise level of the diffusion step instead."""

    def __init__(self, runs: Iterable[RunRecord]) -> None:
        self._curves: list[LogCurve] = []
        self._suites: list[str] = []
        self._groups: list[str] = []
        for run in runs:
            curve = log_curve(run.curve, run.max_steps)
            if run.task != "text-to-image" and curve is not None and curve.last_fraction >= FINISHED:
                self._curves.append(curve)
                self._suites.append(suite_of(run))
                self._groups.append(f"{suite_of(run)} {run.peft_type}")
        self._learned: dict[tuple[float, bool], _Learned] = {}

    @property
    def earliest_fraction(self) -> float:
        """The share of a run from which on the table has evidence; 1 where it has none."""
        return min((float(c.fractions[0]) for c in self._curves), default=1.0)

    def predict(self, curve: LogCurve, fraction: float | None = None) -> ToGo:
        """What is to come for an unscaled task, from the end of the curve or from `fraction` of the run; infinite
        half-widths where the table has nothing to learn from."""
        return self._predict(curve, curve.last_fraction if fraction is None else fraction)

    def scale(self, curves: Sequence[LogCurve], fraction: float) -> tuple[float, int]:
        """By which factor curves of this task fall more after `fraction` of the run than the table's do, and from how
        many curves that is known: from those that went at least twice as far."""
        ratios = []
        fraction = max(fraction, self.earliest_fraction)
        for curve in curves:
            if curve.last_fraction < 2 * fraction or not curve.covers(fraction):
                continue
            expected = self.predict(curve, fraction).expected - self.predict(curve).expected
            if expected > SMALLEST_FALL:
                ratios.append((curve.at(fraction) - curve.log_losses[-1]) / expected)
        scale = (SCALE_PSEUDO_COUNT + sum(ratios)) / (SCALE_PSEUDO_COUNT + len(ratios))
        return float(np.clip(scale, *SCALE_LIMITS)), len(ratios)

    def _predict(self, curve: LogCurve, fraction: float) -> ToGo:
        if not self._curves:
            return ToGo(0.0, np.inf, np.inf)
        fraction = max(fraction, self.earliest_fraction)
        if fraction >= FINISHED:
            return ToGo(0.0, 0.0, 0.0)
        # A probe's own curve may start earlier than any of the table: its fall then has nothing to be compared with.
        comparable = any(c.covers(fraction / 2) for c in self._curves)
        fall = curve.fall(min(fraction, curve.last_fraction)) if comparable else None
        key = (round(fraction, 3), fall is not None)
        if key not in self._learned:
            self._learned[key] = self._learn(*key)
        learned = self._learned[key]
        (to_go,) = learned.line.predict([fall or 0.0])
        return ToGo(float(to_go), learned.bound.at(to_go), learned.own_bound.at(to_go))

    def _learn(self, fraction: float, with_fall: bool) -> _Learned:
        usable = [i for i, c in enumerate(self._curves) if c.covers(fraction / 2 if with_fall else fraction)]
        curves = [self._curves[i] for i in usable]
        x = np.array([c.fall(fraction) if with_fall else 0.0 for c in curves])
        y = np.array([c.at(fraction) - c.log_losses[-1] for c in curves])
        suites = np.array([self._suites[i] for i in usable])
        across_suites = len(set(suites)) > 1
        held_out = suites if across_suites else np.array([self._groups[i] for i in usable])
        predicted = np.full(len(y), np.mean(y))
        for name in np.unique(held_out):
            out = held_out == name
            if not out.all():
                predicted[out] = LocalLine().fit(x[~out], y[~out]).predict(x[out])
        errors = (1.0 if across_suites else OTHER_TASK_WIDENING) * (y - predicted)
        # Without falls every prediction is the same mean, and none of the errors is nearer than another.
        level = predicted if with_fall else np.zeros(len(y))
        own = errors - np.array([np.mean(errors[suites == suite]) for suite in suites])
        return _Learned(LocalLine().fit(x, y), LocalBound(level, errors), LocalBound(level, own))
