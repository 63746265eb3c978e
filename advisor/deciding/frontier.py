"""The Pareto set of predicted quality against expected peak memory.

It is made of what is expected, as the decision is: a candidate belongs to it that is expected to end better than all
that need no more memory. Whether its lead is more than noise is told beside it. Memory counts in steps of one percent.
"""

from __future__ import annotations

from collections.abc import Sequence

from advisor.deciding.quality import Point, QualityField, point_of
from advisor.recommendation import CandidateReport

COMPARABLE = ("finished", "eliminated", "from table")


def is_eligible(candidate: CandidateReport, quality: QualityField) -> bool:
    """True for a candidate that may be recommended: measured or known, within memory, with finite numbers."""
    point = point_of(candidate, quality)
    return candidate.status in COMPARABLE and candidate.fits is not False and point is not None and point.is_finite


def pareto_members(points: Sequence[Point], least_lead: float = 0.0) -> list[int]:
    """Indices of the Pareto set, by rising memory; points with a non-finite number never enter.

    Going up in memory, a point is a member if its value is by more than `least_lead` ahead of every member so far. So
    no member is dominated by another (each costs more than the ones it is ahead of), and each finite non-member has a
    member that costs no more (in steps of one percent) and that it is not ahead of. The result does not depend on the
    order of `points`.
    """
    finite = [index for index, point in enumerate(points) if point.is_finite]
    finite.sort(key=lambda i: _by_memory_then_quality(points[i]))
    members: list[int] = []
    for index in finite:
        if all(points[index].value - points[member].value > least_lead for member in members):
            members.append(index)
    return members


def _by_memory_then_quality(point: Point) -> tuple[float, ...]:
    return point.memory_step, -point.value, -point.low, -point.high, point.peak_bytes, point.noise or 0.0
