"""The law by which losses go on falling: fitted over the tasks of the table, at one share of the run.

How much the log losses of a task still fall follows on average from how much they fell over the last doubling of their
steps, and from how many nats its labels cost as a whole, which is minus the log of how likely the right answers are: a
power of each. Where right answers are hardly ever guessed, as of open-ended texts, most of a loss stays. Of what was
tried that carried over best from task to task (`python -m tests.benchmarks.new_task`): without the nats mean errors at
a tenth and a fifth of the cost of fourteen sweeps are .298 and .239 nats, with them .261 and .211, and intervals of
picks hold in 81 and 94 % instead of 89 and 99. The loss of a token in place of that of a label triples the error on
MetaMathQA. Parts of losses, in place of falls of their logs, expect too much where most of a loss stays.

How far off the law is on tasks that it was not fitted to is told in log-odds of the share of its loss that a run still
loses. So a forecast that little goes is off by little, one that half of it goes by much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from advisor.forecast.log_curve import LogCurve

# A curve that is flat while it warms up, or at full rates, has as much to go as one whose log loss fell by this much in
# the last doubling of its steps; less so, the more of the run, with the decay of its rate, is over. With .2 errors on
# tasks left out are the same to 3 %; races whose survivors stand still are forecast higher, which holds less often.
SMALLEST_CAUSE = 0.3
SMALLEST_FALL = 0.01  # of a task's log losses, so that its logarithm says something
POWER_RIDGE = 1.0  # a sum of squared logs of causes: with less between the tasks, falls are taken as proportional
NATS_RIDGE = 1.0  # the same of nats: with less, they say nothing. With 3 errors are the same to 2 %
LEVEL_RIDGE = 0.0003  # a variance of log losses: where curves hardly differ nothing follows from it
LEAST_SHARE = 0.02  # of a loss that goes, or stays: smaller ones are not told apart, nor from a rise of that size
LEAST_LEFT = 0.01  # of its present loss, at any end: no forecast goes lower


@dataclass(frozen=True)
class Law:
    """What follows from a share of the run.

    The log losses of a task still fall by `scale` times a `power` of what they fell over the last doubling of their
    steps, times a `nats_power` of the nats that its labels cost, all on average over its curves. carried: how much of
    the distance of a curve's log loss from its task's average is there at the end as well, not more than all of it.
    spread: the variance of log losses that this was learned from.
    """

    scale: float = 0.0
    power: float = 1.0
    nats_power: float = 0.0
    carried: float = 1.0
    spread: float = 0.0

    @classmethod
    def fit(cls, tasks: Sequence[Sequence[LogCurve]], fraction: float, with_cause: bool) -> Law:
        """Least squares in logs of falls, and in distances of log losses; all tasks count alike. Without a cause all
        tasks fall as their average does."""
        if not tasks:
            return cls()
        causes = np.log([np.mean([cause(c, fraction) for c in curves]) if with_cause else 1.0 for curves in tasks])
        falls = np.log([max(SMALLEST_FALL, np.mean([c.at(fraction) - c.at(1.0) for c in curves])) for curves in tasks])
        nats = np.array([np.mean([c.log_nats(fraction) for c in curves]) for curves in tasks])
        apart = np.column_stack([causes - causes.mean(), nats - nats.mean()])
        ridge = np.array([POWER_RIDGE, NATS_RIDGE])
        power, nats_power = np.linalg.solve(apart.T @ apart + np.diag(ridge), apart.T @ falls + ridge * [1, 0])
        seen, end = ([np.array([c.at(f) for c in curves]) for curves in tasks] for f in (fraction, 1.0))
        products = np.mean([np.mean((x - x.mean()) * y) for x, y in zip(seen, end, strict=True)])
        spread = np.mean([np.var(x) for x in seen])
        return cls(
            scale=math.exp(falls.mean() - power * causes.mean() - nats_power * nats.mean()),
            power=float(power),
            nats_power=float(nats_power),
            carried=float(np.clip(products / (spread + LEVEL_RIDGE), 0.0, 1.0)),
            spread=float(spread),
        )

    def further(self, cause: float, log_nats: float) -> float:
        """The expected further fall of a task's log losses."""
        return self.scale * cause**self.power * math.exp(self.nats_power * log_nats)


def cause(curve: LogCurve, fraction: float) -> float:
    """What the further fall is told by: how much the log loss fell over the last doubling of the steps."""
    return max(SMALLEST_CAUSE * (1 - fraction), curve.at(fraction / 2) - curve.at(fraction))


def log_odds_of(fall: float) -> float:
    """Of the share of a loss that goes against what stays, where its logarithm falls by this much."""
    share = min(max(-math.expm1(-fall), LEAST_SHARE), 1 - LEAST_SHARE)
    return math.log(share / (1 - share))


def fall_of(log_odds: float) -> float:
    """The fall of a log loss whose share that goes has these odds."""
    share = 1 / (1 + math.exp(-log_odds))
    return limited(-math.log1p(-share if share > LEAST_SHARE + 1e-9 else LEAST_SHARE))


def limited(fall: float) -> float:
    """A loss may grow to its double at most, and something is always left of it."""
    return float(np.clip(fall, -math.log(2), -math.log(LEAST_LEFT)))
