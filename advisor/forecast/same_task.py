"""What finished runs of the very task say about the end of a new one: the user's own table at work.

How much losses still fall differs most from task to task, and one run of the task that came to its end shows most of
that: it counts like a candidate of the race that went all the way (loss_to_go.py). From the fourth run on, how
well the runs predict each other is known by split conformal prediction, and the interval is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from advisor.forecast.conformal import error_bound
from advisor.forecast.log_curve import FINISHED, LogCurve, log_curve
from advisor.forecast.loss_to_go import TaskToGo, ToGo
from knowledge.schema import Curve, RunRecord


class SameTask:
    """Finished runs of one task, beside what the table says of other tasks."""

    def __init__(self, runs: Iterable[RunRecord]) -> None:
        curves = ((run.curve, log_curve(run.curve, run.max_steps, run.label_mean_tokens)) for run in runs)
        finished = [(of, curve) for of, curve in curves if curve is not None and curve.last_fraction >= FINISHED]
        self.curves: tuple[LogCurve, ...] = tuple(curve for _, curve in finished)
        self._known = [of for of, _ in finished]

    def __contains__(self, curve: Curve) -> bool:
        """Whether it is the curve of one of the runs."""
        return curve in self._known

    def interval(self, predicted: ToGo, fraction: float, task: TaskToGo) -> ToGo:
        """`predicted` with the interval that the runs have earned, where they are enough; `task` knows them too."""
        known = [c for c in self.curves if c.covers(fraction)]
        # A forecast begins where a run was measured last, which may be before `fraction`.
        seen = [c.until(fraction) for c in known]
        falls = [float(s.log_losses[-1]) - c.at(1.0) for c, s in zip(known, seen, strict=True)]
        bound = error_bound([f - task.without(c).expected(s) for f, c, s in zip(falls, known, seen, strict=True)])
        if math.isinf(bound):
            return predicted
        expected = predicted.expected
        return ToGo(expected, expected - bound, expected + bound, bound)
