"""What a race has found out so far, candidate by candidate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from knowledge.schema import Curve
from probes.racing.race import at_step
from probes.schema import ProbeOutcome


@dataclass
class Evidence:
    """Of a race that has come to its end, or not yet: curves and outcomes by candidate ids, oldest outcomes first."""

    curves: dict[str, Curve]
    outcomes: dict[str, list[ProbeOutcome]]
    failed: dict[str, ProbeOutcome] = field(default_factory=dict)
    """The last outcome of those that are out for it."""
    rungs: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    out_of_time: bool = False
    ended_by: str = ""
    """Why the race could not go on, where something else than the user or the clock ended it."""

    def done_step(self, id: str) -> int:
        """How far a candidate is on record. Points that no outcome followed are of a probe that was cut off."""
        return max((o.last_step for o in self.outcomes.get(id, ()) if o.status == "finished"), default=0)

    def ran_out_of_memory(self, id: str) -> bool:
        return any(o.status == "out of memory" for o in self.outcomes.get(id, ()))

    def last_finished(self, stop_step: int) -> dict[str, ProbeOutcome]:
        """By id the last outcome of those that came to an end at or before that step."""
        finished = {
            id: [o for o in outcomes if o.status == "finished" and o.last_step <= stop_step]
            for id, outcomes in self.outcomes.items()
        }
        return {id: outcomes[-1] for id, outcomes in finished.items() if outcomes}

    def failed_before(self, stop_step: int) -> dict[str, str]:
        """Why candidates did not come to that step; who failed later was still in the race."""
        return {id: o.reason for id, o in self.failed.items() if self.done_step(id) < stop_step}

    def curves_at(self, stop_step: int) -> dict[str, Curve]:
        """The curves up to that step, with a loss at it."""
        return {id: at_step(curve, stop_step) for id, curve in self.curves.items()}
