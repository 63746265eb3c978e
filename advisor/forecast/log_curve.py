"""A run as shares of its planned steps and logs of its loss: so runs of any length and any task can be compared."""

from __future__ import annotations

import math
from functools import cache, cached_property

import numpy as np
from numpy.typing import ArrayLike

from advisor.forecast import explosion
from advisor.forecast.end_model import log_loss_of, loss_of
from knowledge.schema import Curve

FINISHED = 0.999  # of the run: evaluations need not fall on its very last step


class LogCurve:
    """A run as shares of the planned steps and natural logs of the loss, both of shape (n,), n > 0.

    label_mean_tokens: of how many tokens of a row the loss is the mean. A curve does not change, and is asked for the
    same shares again and again: answers are kept.
    """

    def __init__(self, fractions: ArrayLike, log_losses: ArrayLike, label_mean_tokens: float = 1.0) -> None:
        self.label_mean_tokens = label_mean_tokens
        self.fractions, self.log_losses = np.asarray(fractions, dtype=float), np.asarray(log_losses, dtype=float)
        self.first_fraction, self.last_fraction = float(self.fractions[0]), float(self.fractions[-1])
        self.at = cache(self._at)
        self.until = cache(self._until)

    def _at(self, fraction: float) -> float:
        """Log loss at a share of the run, straight in the log of the steps between points."""
        return float(np.interp(np.log(fraction), np.log(self.fractions), self.log_losses))

    def covers(self, fraction: float) -> bool:
        return self.first_fraction <= fraction * 1.01

    def _until(self, fraction: float) -> LogCurve:
        """The beginning of the run, at least one point of it."""
        count = max(1, int(np.sum(self.fractions <= fraction * 1.01)))
        return LogCurve(self.fractions[:count], self.log_losses[:count], self.label_mean_tokens)

    def log_nats(self, fraction: float) -> float:
        """Log of what whole labels cost, in nats: minus the log of how likely the right answers are."""
        return self.at(fraction) + math.log(self.label_mean_tokens)

    @cached_property
    def has_exploded(self) -> bool:
        """Whether the loss is a multiple of what it has been."""
        return bool(self.log_losses[-1] > self.log_losses.min() + math.log(explosion.FACTOR))


def log_curve(curve: Curve, max_steps: int, label_mean_tokens: float | None = None) -> LogCurve | None:
    """None where no loss was measured after the start."""
    known = [(p.step / max_steps, log_loss_of(p)) for p in curve.points if p.step > 0 and loss_of(p) is not None]
    return LogCurve(*np.array(known).T, label_mean_tokens or 1.0) if known else None
