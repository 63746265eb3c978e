"""The loss at the end of a planned run with its 80 % interval, and what of that is a candidate's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from advisor.recommendation import Prediction
from knowledge.intervals import Z_80

# Half-widths of 80 % intervals for the same candidate run again: .005 in log loss with another data order (published
# re-runs of Llama-3.2-3B on MetaMathQA).
RERUN_LOG_LOSS = Z_80 * 0.005
# The same in nats with another seed in short runs on little data: .015 is the median over the tasks of examples/study.
RERUN_NATS = Z_80 * 0.015


class Noise(NamedTuple):
    """80 % half-widths of what may set a candidate apart from others."""

    alike: float = 0.0
    """Beside those whose probes went as far: how the losses of a task go on falling cancels between them."""
    apart: float = 0.0
    """Beside those that went further, of which more of that is known."""

    @classmethod
    def same(cls, half: float) -> Noise:
        """Of what does not hang on how far others went."""
        return cls(half, half)

    def each(self, change: Callable[[float], float]) -> Noise:
        """With both half-widths changed."""
        return Noise(*map(change, self))


NO_NOISE = Noise()


@dataclass(frozen=True)
class FinalLoss:
    """The log of a final loss with the ends of its 80 % interval, and its noise beside others."""

    log_loss: float
    low: float
    high: float
    noise: Noise
    is_measured: bool
    extrapolated: bool

    @classmethod
    def measured(cls, log_loss: float) -> FinalLoss:
        """The end of a run that is over: what is open is how it would end if it were run again."""
        again = rerun(log_loss)
        return cls(
            log_loss, log_loss - again, log_loss + again, Noise.same(again), is_measured=True, extrapolated=False
        )

    @property
    def loss_noise(self) -> Noise:
        """In nats."""
        return self.noise.each(lambda half: math.exp(self.log_loss) * math.sinh(half))

    def prediction(self, name: str) -> Prediction:
        return prediction_of(name, *np.exp([self.log_loss, self.low, self.high]), self.extrapolated)


def rerun(log_loss: float) -> float:
    """The half-width in logs of what a run of that final loss would differ by if it were run again."""
    return math.hypot(RERUN_LOG_LOSS, math.asinh(RERUN_NATS / math.exp(log_loss)))


def prediction_of(name: str, value: float, low: float, high: float, extrapolated: bool) -> Prediction:
    return Prediction(metric=name, value=float(value), low=float(low), high=float(high), extrapolated=extrapolated)
