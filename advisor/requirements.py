"""What the user requires of a method, parsed from `--require`. A requirement removes candidates before any ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from advisor.recommendation import CandidateReport
from knowledge.errors import BadInput, did_you_mean
from knowledge.gpus import parse_bytes
from knowledge.methods.base import Method
from knowledge.schema import Task
from probes.schema import ProbeOutcome

KNOWN = ("mergeable", "vllm", "max-adapter-size=SIZE", "max-forgetting=NATS")


@dataclass(frozen=True)
class Requirement:
    """One requirement: `name`, and its limit where it has one, in bytes or in nats per token."""

    name: str
    limit_bytes: int | None = None
    limit_nats: float | None = None

    def reason_against(self, method: Method) -> str | None:
        """Why a method cannot meet it, as far as the method alone shows."""
        if self.name == "mergeable" and not method.capabilities.mergeable:
            return "cannot be merged into the base model"
        if self.name == "vllm" and method.capabilities.vllm == "no":
            return "cannot be served by vLLM, neither as an adapter nor merged"
        return None

    def reason_against_request(self, task: Task, probe: bool) -> str | None:
        """Why no candidate could show that it meets it."""
        if self.name == "max-forgetting" and not probe:
            return "forgetting is known only by probing"
        if self.name == "max-forgetting" and task == "sequence-classification":
            return "forgetting is measured on texts that the base model writes, and a classifier writes none"
        return None

    def reason_against_report(self, report: CandidateReport) -> str | None:
        """Why a measured candidate does not meet it, or was not seen to meet it."""
        if self.name == "max-adapter-size":
            return self._over_size(report.adapter_bytes)
        if self.name == "max-forgetting" and report.status in ("finished", "eliminated"):
            if report.forgetting is None:
                return f"its forgetting is unknown: {report.forgetting_note or 'no probe of it came to its end'}"
            return self._over_forgetting(report.forgetting)
        return None

    def reason_against_going_on(self, outcome: ProbeOutcome) -> str | None:
        """Why a candidate need not be probed further. What forgets too much early rarely comes back within the limit,
        and another rate of its method, or another method, may need its place."""
        if self.name == "max-adapter-size":
            return self._over_size(outcome.adapter_bytes)
        if self.name == "max-forgetting" and outcome.forgetting is not None:
            return self._over_forgetting(outcome.forgetting)
        return None

    def _over_size(self, adapter_bytes: int | None) -> str | None:
        assert self.limit_bytes is not None
        if adapter_bytes is None or adapter_bytes <= self.limit_bytes:
            return None
        return f"its adapter has {adapter_bytes / 1e6:.1f} MB, over {self.limit_bytes / 1e6:.1f} MB"

    def _over_forgetting(self, nats: float) -> str | None:
        assert self.limit_nats is not None
        return f"forgets {nats:.3f} nats per token, over {self.limit_nats:g}" if nats > self.limit_nats else None


def without_violators(reports: Sequence[CandidateReport], texts: Sequence[str]) -> list[CandidateReport]:
    """The reports, with those excluded whose measurements do not meet a requirement."""
    requirements = parse_requirements(texts)
    checked = []
    for report in reports:
        reason = next((r for requirement in requirements if (r := requirement.reason_against_report(report))), None)
        checked.append(report.model_copy(update={"status": "excluded", "reason": reason}) if reason else report)
    return checked


def objection_to(outcome: ProbeOutcome, texts: Sequence[str]) -> str | None:
    """Why the candidate of this probe need not go on in the race, or None."""
    reasons = (requirement.reason_against_going_on(outcome) for requirement in parse_requirements(texts))
    return next((reason for reason in reasons if reason), None)


def parse_requirements(texts: Sequence[str]) -> list[Requirement]:
    """Requirements from the user's words; raises BadInput that names the word and what is known."""
    return [_parse(text) for text in texts]


def parse_checkable(texts: Sequence[str], *, task: Task, probe: bool) -> list[Requirement]:
    """Like `parse_requirements`; raises BadInput also for those that no candidate of this request could meet."""
    requirements = parse_requirements(texts)
    for text, requirement in zip(texts, requirements, strict=True):
        if reason := requirement.reason_against_request(task, probe):
            raise BadInput(f"The requirement {text} cannot be checked: {reason}. Leave it out.")
    return requirements


def _parse(text: str) -> Requirement:
    name, _, value = text.partition("=")
    if name in ("mergeable", "vllm") and not value:
        return Requirement(name)
    if name == "max-adapter-size" and value:
        return Requirement(name, limit_bytes=parse_bytes(value))
    if name == "max-forgetting" and value:
        return Requirement(name, limit_nats=_parse_nats(text, value))
    raise BadInput(f"Unknown requirement {text!r}. {did_you_mean(text, list(KNOWN))}")


def _parse_nats(text: str, value: str) -> float:
    with suppress(ValueError):
        if 0 <= (nats := float(value)) < math.inf:
            return nats
    raise BadInput(f"{text!r}: give a number of nats per token that is not negative, e.g. max-forgetting=0.1.")
