"""A run as shares of its planned steps and logs of its loss: so runs of any length and any task can be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from advisor import explosion
from advisor.end_model import loss_of
from knowledge.schema import Curve

FINISHED = 0.999  # of the run: evaluations need not fall on its very last step


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

    @property
    def has_exploded(self) -> bool:
        """Whether the loss is a multiple of what it has been."""
        return bool(self.log_losses[-1] > self.log_losses.min() + math.log(explosion.FACTOR))


def log_curve(curve: Curve, max_steps: int) -> LogCurve | None:
    """None where no positive loss was measured after the start."""
    known = [(p.step / max_steps, loss) for p in curve.points if p.step > 0 and (loss := loss_of(p)) and loss > 0]
    if not known:
        return None
    fractions, losses = np.array(known).T
    return LogCurve(fractions, np.log(losses))
