"""What finished runs of the very task say about the end of a new one: the user's own table at work.

How much losses still fall differs most from task to task (see advisor/loss_to_go.py), and one run of the task that came
to its end shows most of that. What it fell more or less than the table expected is taken as a task's own offset, drawn
towards zero by PSEUDO_COUNT runs that showed none. From the fourth run on, how well the runs predict each other is
known by split conformal prediction, and the interval is theirs.

Measured on the published MetaMathQA runs as the user's own, with the rest of the table known (mean error of the final
log loss of unseen methods, probed to a fifth): .263 without, .070 after one run, .061 after eight
(tests/advisor/test_own_outcomes.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from advisor.conformal import error_bound
from advisor.loss_to_go import FINISHED, OTHER_TASK_WIDENING, LogCurve, TaskToGo, ToGo, log_curve
from knowledge.schema import RunRecord

# Where the errors across tasks are w times those within one, the task's own part has a variance of w^2 - 1 of these,
# and the best weight of "no offset" is its inverse.
PSEUDO_COUNT = 1 / (OTHER_TASK_WIDENING**2 - 1)


class SameTask:
    """Finished runs of one task, beside what the table says of other tasks."""

    def __init__(self, runs: Iterable[RunRecord]) -> None:
        curves = (log_curve(run.curve, run.max_steps) for run in runs)
        self.curves: tuple[LogCurve, ...] = tuple(c for c in curves if c is not None and c.last_fraction >= FINISHED)

    def correct(self, predicted: ToGo, fraction: float, task: TaskToGo) -> ToGo:
        """What is to come after `fraction` of the run; `predicted` is what the table and the race say."""
        known = [c for c in self.curves if c.covers(fraction)]
        if not known:
            return predicted
        scale, _ = task.scale(fraction)
        residuals = np.array([c.at(fraction) - c.log_losses[-1] - scale * task.unscaled(c, fraction) for c in known])
        others = residuals.sum() - residuals
        left_out = residuals - others / (len(known) - 1 + PSEUDO_COUNT)
        expected = predicted.expected + float(residuals.sum()) / (len(known) + PSEUDO_COUNT)
        bound = error_bound(left_out)
        if math.isinf(bound):  # too few to judge each other by, but enough to show that the table is too sure
            worst = float(abs(left_out).max())
            low = min(expected - worst, predicted.low)
            return ToGo(expected, low, max(expected + worst, predicted.high), max(predicted.own_half, worst))
        return ToGo(expected, expected - bound, expected + bound, bound)
