"""What a candidate costs besides quality, in steps so coarse that what nobody can feel does not decide."""

from __future__ import annotations

import math
from dataclasses import dataclass

from advisor.quality import QualityField, point_of
from advisor.recommendation import CandidateReport
from advisor.request import Objective

TIME_STEP = 0.05
FELT_S = 60.0  # under a minute nobody waits for another method, however short the run
FELT_SHARE = 0.01  # of a card's memory: less makes no room for anything


@dataclass(frozen=True)
class Scale:
    """What counts as a step of each cost in one decision: under an objective, on a device with so much memory."""

    objective: Objective
    quality: QualityField
    limit_bytes: int

    def costs(self, candidate: CandidateReport) -> tuple[float, float, int]:
        """What is paid, most important first: memory, time and the effort of deployment; where speed is the objective,
        time before memory."""
        memory, duration, effort = self.memory_step(candidate), self.time_step(candidate), self.effort(candidate)
        return (duration, memory, effort) if self.objective == "speed" else (memory, duration, effort)

    def effort(self, candidate: CandidateReport) -> int:
        """Of deployment: least where vLLM serves the adapter as it is, more where it has to be merged first."""
        served = {"adapter": 0, "merged": 1}.get(str(candidate.capabilities.get("vllm")), 2)
        return served + (0 if candidate.capabilities.get("mergeable") else 1)

    def memory_step(self, candidate: CandidateReport) -> int:
        """Peak memory in steps of one percent of the device, or of itself where memory is the objective."""
        if self.objective == "memory":
            return point_of(candidate, self.quality).memory_step
        return round(candidate.memory.peak_bytes / (FELT_SHARE * self.limit_bytes))

    def time_step(self, candidate: CandidateReport) -> float:
        """Duration of the planned run in steps of five percent and of a minute at least, or of five percent alone
        where speed is the objective; infinite where it is not known."""
        seconds = candidate.planned_run_s
        if seconds is None:
            return math.inf
        if self.objective == "speed":
            return round(math.log(max(seconds, 1e-3)) / math.log1p(TIME_STEP))
        return round(math.log1p(seconds * TIME_STEP / FELT_S) / math.log1p(TIME_STEP))
