"""What a candidate costs besides quality, and which differences anyone feels: what nobody does must not decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advisor.quality import MEMORY_STEP, QualityField
from advisor.recommendation import CandidateReport
from advisor.request import Objective

TIME_STEP = 0.05
FELT_S = 60.0  # under a minute nobody waits for another method, however short the run
FELT_SHARE = 0.01  # of a card's memory: less makes no room for anything

IsLess = Callable[[CandidateReport, CandidateReport], bool]


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
    def first(self) -> IsLess:
        """What is paid first: memory, or time where speed is the objective."""
        return self.is_faster if self.objective == "speed" else self.needs_less

    def cheapest(
        self,
        candidates: Sequence[CandidateReport],
        after_first: Callable[[list[CandidateReport]], list[CandidateReport]] = list,
    ) -> list[CandidateReport]:
        """Those that no other of them is felt to be cheaper than: by what is paid first, then, of these and what
        `after_first` leaves of them, by the other of memory and time, then by the effort of deployment."""
        second = self.needs_less if self.objective == "speed" else self.is_faster
        left = after_first(_not_dearer(candidates, self.first))
        return _not_dearer(_not_dearer(left, second), self.is_easier)


def _effort(candidate: CandidateReport) -> int:
    """Least where vLLM serves the adapter as it is, more where it has to be merged first."""
    served = {"adapter": 0, "merged": 1}.get(str(candidate.capabilities.get("vllm")), 2)
    return served + (0 if candidate.capabilities.get("mergeable") else 1)


def _not_dearer(candidates: Sequence[CandidateReport], is_less: IsLess) -> list[CandidateReport]:
    return [c for c in candidates if not any(is_less(other, c) for other in candidates)]
