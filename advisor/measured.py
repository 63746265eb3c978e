"""What the probes of one candidate measured, as its report tells it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from advisor.candidates import Candidate
from knowledge.schema import OWN_FORGETTING, Curve, RunRecord
from probes.racing.evidence import Evidence
from probes.schema import AllRows, ProbeOutcome


@dataclass(frozen=True)
class Measured:
    """The probes of one candidate, oldest first, the curve that they make together, and how it failed if it did."""

    candidate: Candidate
    curve: Curve
    outcomes: Sequence[ProbeOutcome]
    failure: ProbeOutcome | None
    ended_before: RunRecord | None = None
    """The run of the user's that came to its end, which is what the probes began again: the curve is that one's."""
    probed_steps: int = 0
    """How far the probes went: to the end of the curve, unless it is of an earlier run. Times, memory and what each
    held-out row tells are of there."""

    @classmethod
    def of(cls, candidate: Candidate, evidence: Evidence, own: RunRecord | None = None) -> Measured:
        """own: the user's own finished run of it, where there is one."""
        id = candidate.id
        curve, failure = evidence.curves.get(id, Curve()), evidence.failed.get(id)
        ended_before = own if curve.points and failure is None else None
        told = ended_before.curve if ended_before else curve
        return cls(candidate, told, evidence.outcomes.get(id, []), failure, ended_before, curve.last_step)

    @property
    def is_usable(self) -> bool:
        """Whether the end of the run can be predicted from it."""
        return bool(self.curve.points) and self.failure is None

    @property
    def peak_bytes(self) -> int | None:
        return max((o.peak_bytes for o in self.outcomes if o.peak_bytes), default=None)

    @property
    def all_rows(self) -> AllRows | None:
        """What was measured on all held-out rows, where the candidate came to the end of the planned run."""
        return self.newest("all_rows")

    @property
    def did_whole_batches(self) -> bool:
        """A probe that ran out of memory, or did its batches in parts, held something else than the run will."""
        return all(o.micro_batches == 1 and o.status != "out of memory" for o in self.outcomes)

    def newest(self, column: str) -> Any:
        """A column of the last probe in which it was measured; None where it never was."""
        values = (getattr(outcome, column) for outcome in reversed(self.outcomes))
        return next((value for value in values if value is not None and value != ()), None)

    def fields(self, max_steps: int) -> dict[str, Any]:
        """The fields of a CandidateReport that were measured. max_steps: of the planned run."""
        return {
            "curve": self.curve,
            "probe_peak_bytes": self.peak_bytes,
            "probe_s": sum(o.duration_s for o in self.outcomes) if self.outcomes else None,
            "micro_batches": max((o.micro_batches for o in self.outcomes), default=1),
            "tokens_per_s": self._tokens_per_s(),
            "trainable_parameters": self.newest("trainable_parameters"),
            "adapter_bytes": self.newest("adapter_bytes"),
            "latency_overhead": self.newest("latency_overhead"),
            **self._forgetting(max_steps),
        }

    def _tokens_per_s(self) -> float | None:
        done = [o for o in self.outcomes if o.trained_tokens and o.train_s]
        return done[-1].trained_tokens / done[-1].train_s if done else None

    def _forgetting(self, max_steps: int) -> dict[str, Any]:
        """As measured last; the noise of a run of before is not on record."""
        if self.ended_before and self.ended_before.drift is not None and self.ended_before.drift_name == OWN_FORGETTING:
            return {"forgetting": self.ended_before.drift, "forgetting_share": 1.0}
        measured = next((o for o in reversed(self.outcomes) if o.forgetting is not None), None)
        if measured is None:
            return {"forgetting_note": self.outcomes[-1].forgetting_note if self.outcomes else ""}
        return {
            "forgetting": measured.forgetting,
            "forgetting_noise": measured.forgetting_noise,
            "forgetting_share": min(1.0, measured.last_step / max_steps),
        }


def step_s_by_method(found: Iterable[Measured]) -> dict[str, float]:
    """Seconds per optimizer step of the last jobs of a method's candidates. Learning rates take the same time, and one
    short probe may have had a busy machine. Methods that did no step have no entry."""
    done: dict[str, list[tuple[float, int]]] = {}
    for one in found:
        done.setdefault(one.candidate.method.name, []).extend(_trained(one))
    return {name: sum(s for s, _ in of) / sum(steps for _, steps in of) for name, of in done.items() if of}


def _trained(one: Measured) -> list[tuple[float, int]]:
    """Seconds and steps from a probe's beginning to the end of the last job that trained; where it was cut off before
    any had ended, to the last point that it sent."""
    if any(o.last_step for o in one.outcomes):
        return [(o.train_s, o.last_step) for o in one.outcomes if o.last_step and o.train_s][-1:]
    return [(p.elapsed_s, p.step) for p in one.curve.points[-1:] if p.step and p.elapsed_s]
