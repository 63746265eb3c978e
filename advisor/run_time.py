"""How long the planned run takes where its probes ran, with an 80 % interval.

A run is told to go on as fast as its probe went. How far that may be off the race itself shows: of each candidate, by
how much the second half of what it trained took longer, or less long, than the first half foretold. Batches differ in
their lengths, the first steps of a process are slower, and other programs come and go. As two halves differ more than
a probe and a long run do, the interval is rather too wide (`python -m tests.benchmarks.run_times` has the figures).
Where probes shared a processor or a GPU, the run that has it alone may be faster; its interval reaches down to that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from advisor.conformal import error_bound
from knowledge.schema import Curve


def time_bound(curves: Iterable[Curve]) -> float:
    """The half-width of the 80 % interval of the log of a run's time, from the curves of a race; infinite where fewer
    than four of them were measured twice."""
    return error_bound([error for curve in curves if (error := _error_of_halves(curve)) is not None])


def time_interval(run_s: float, bound: float, done_share: float, speed_up: float = 1.0) -> tuple[float, float] | None:
    """Seconds of a run that is told to take `run_s`, of which that share is done; None where the bound is infinite.

    speed_up: how many times faster what is left may go than its probe did.
    """
    if math.isinf(bound):
        return None
    still_to_do = (1 - done_share) / speed_up
    return run_s * (done_share + still_to_do) * math.exp(-bound), run_s * math.exp(bound)


def _error_of_halves(curve: Curve) -> float | None:
    """The log of what the steps after the middle took, as a multiple of what those before it did; None where there is
    no point of the kind."""
    timed = [(p.step, p.elapsed_s) for p in curve.points if p.step and p.elapsed_s]
    if len(timed) < 2:
        return None
    steps, whole_s = timed[-1]
    middle, first_s = min(timed[:-1], key=lambda point: abs(point[0] - steps / 2))
    if whole_s <= first_s:  # one that began anew is timed anew, perhaps on a machine that was less busy
        return None
    return math.log((whole_s - first_s) / (steps - middle) / (first_s / middle))
