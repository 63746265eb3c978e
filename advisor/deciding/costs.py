"""What a candidate costs besides quality, and which differences anyone feels: what nobody does must not decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from advisor.deciding.forgetting import forgets_more
from advisor.deciding.quality import MEMORY_STEP, QualityField
from advisor.recommendation import CandidateReport
from advisor.request import Objective

TIME_STEP = 0.05
FELT_S = 60.0  # under a minute nobody waits for another method, however short the run
FELT_SHARE = 0.01  # of a card's memory: less makes no room for anything

KEPT_GAIN = {"memory": 0.8, "speed": 0.9}  # the least memory, or the fastest, that keeps this much of the gain

Cost = Literal["memory", "forgetting", "time", "effort"]
IsLess = Callable[[CandidateReport, CandidateReport], bool]


@dataclass(frozen=True)
class Step:
    """One of the costs, and those that it took out of the comparison."""

    cost: Cost
    dearer: tuple[CandidateReport, ...]


@dataclass(frozen=True)
class Scale:
    """Which difference of each cost counts in one decision: under an objective, on a device with so much memory."""

    objective: Objective
    quality: QualityField
    limit_bytes: int

    def needs_less(self, one: CandidateReport, other: CandidateReport) -> bool:
        """By more than one percent of the device's memory, or of its own where memory is the objective."""
        ours, theirs = one.memory.peak_bytes, other.memory.peak_bytes
        return theirs - ours > (MEMORY_STEP * ours if self.objective == "memory" else FELT_SHARE * self.limit_bytes)

    def share_of_memory(self, candidate: CandidateReport) -> float:
        """Of what the device has, as a peak."""
        return candidate.memory.peak_bytes / self.limit_bytes

    def is_faster(self, one: CandidateReport, other: CandidateReport) -> bool:
        """By more than five percent of the planned run and a minute, or by five percent alone where speed is the
        objective; a time that is not known counts as longer than any that is."""
        ours, theirs = one.planned_run_s, other.planned_run_s
        if ours is None or theirs is None:
            return ours is not None
        return theirs - ours > max(TIME_STEP * ours, 0.0 if self.objective == "speed" else FELT_S)

    def is_easier(self, one: CandidateReport, other: CandidateReport) -> bool:
        """To deploy."""
        return _effort(one) < _effort(other)

    @property
    def in_order(self) -> tuple[tuple[Cost, IsLess], ...]:
        """What is paid first: memory, or time where speed is the objective; then the others."""
        memory, time = ("memory", self.needs_less), ("time", self.is_faster)
        first, third = (time, memory) if self.objective == "speed" else (memory, time)
        return first, ("forgetting", _forgets_less), third, ("effort", self.is_easier)

    def least(self, candidates: Sequence[CandidateReport]) -> list[CandidateReport]:
        """The candidates that no other undercuts noticeably in what is paid first."""
        return _not_dearer(candidates, self.in_order[0][1])

    def cheapest(self, candidates: Sequence[CandidateReport]) -> tuple[list[CandidateReport], list[Step]]:
        """Those that are left when cost after cost takes out what is felt to be dearer than another that is left; and
        what each took out, where it took out something."""
        left, steps = list(candidates), []
        for cost, is_less in self.in_order:
            kept = _not_dearer(left, is_less)
            if len(kept) < len(left):
                steps.append(Step(cost, tuple(c for c in left if c not in kept)))
            left = kept
        return left, steps


def _forgets_less(one: CandidateReport, other: CandidateReport) -> bool:
    return forgets_more(other, one)


def _effort(candidate: CandidateReport) -> int:
    """Least where vLLM serves the adapter as it is, more where it has to be merged first."""
    served = {"adapter": 0, "merged": 1}.get(str(candidate.capabilities.get("vllm")), 2)
    return served + (0 if candidate.capabilities.get("mergeable") else 1)


def _not_dearer(candidates: Sequence[CandidateReport], is_less: IsLess) -> list[CandidateReport]:
    return [c for c in candidates if not any(is_less(other, c) for other in candidates)]
