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

from advisor.forecast.conformal import error_bound
from knowledge.schema import Curve

Timed = list[tuple[int, float]]  # steps, and the seconds that all until there took


def time_bound(curves: Iterable[Curve]) -> float:
    """The half-width of the 80 % interval of the log of a run's time, from the curves of a race. Where fewer than four
    of them were measured in two halves, halves of their first halves count as well; infinite where all are too few."""
    parts = [[(p.step, p.elapsed_s) for p in curve.points if p.step and p.elapsed_s] for curve in curves]
    errors: list[float] = []
    while math.isinf(bound := error_bound(errors)) and (parts := [part for part in parts if len(part) > 1]):
        errors += [error for part in parts if (error := _error_of_halves(part)) is not None]
        parts = [_first_half(part) for part in parts]
    return bound


def time_interval(run_s: float, bound: float, done_share: float, speed_up: float = 1.0) -> tuple[float, float] | None:
    """Seconds of a run that is told to take `run_s`, of which that share is done; None where the bound is infinite.

    speed_up: how many times faster what is left may go than its probe did.
    """
    if math.isinf(bound):
        return None
    still_to_do = (1 - done_share) / speed_up
    return run_s * (done_share + still_to_do) * math.exp(-bound), run_s * math.exp(bound)


def _first_half(timed: Timed) -> Timed:
    """Up to the point that lies nearest to the middle."""
    steps = timed[-1][0]
    middle = min(range(len(timed) - 1), key=lambda i: abs(timed[i][0] - steps / 2))
    return timed[: middle + 1]


def _error_of_halves(timed: Timed) -> float | None:
    """The log of what a step after the middle took, as a multiple of what one before it did; None where the time did
    not grow: one that began anew is timed anew, perhaps on a machine that was less busy."""
    (middle, first_s), (steps, whole_s) = _first_half(timed)[-1], timed[-1]
    return math.log((whole_s - first_s) / (steps - middle) / (first_s / middle)) if whole_s > first_s else None
