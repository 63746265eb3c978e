"""What the user requires of a method, parsed from `--require`. A requirement removes candidates before any ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advisor.recommendation import CandidateReport
from knowledge.errors import BadInput, did_you_mean
from knowledge.gpus import parse_bytes
from knowledge.methods.base import Method

KNOWN = ("mergeable", "vllm", "max-adapter-size=SIZE")


@dataclass(frozen=True)
class Requirement:
    """One requirement: `name`, and a limit in bytes where it has one."""

    name: str
    limit_bytes: int | None = None

    def reason_against(self, method: Method) -> str | None:
        """Why a method cannot meet it, as far as the method alone shows."""
        if self.name == "mergeable" and not method.capabilities.mergeable:
            return "cannot be merged into the base model"
        if self.name == "vllm" and method.capabilities.vllm == "no":
            return "cannot be served by vLLM, neither as an adapter nor merged"
        return None

    def reason_against_report(self, report: CandidateReport) -> str | None:
        """Why a measured candidate does not meet it."""
        if self.name == "max-adapter-size" and report.adapter_bytes is not None:
            assert self.limit_bytes is not None
            if report.adapter_bytes > self.limit_bytes:
                return f"its adapter has {report.adapter_bytes / 1e6:.1f} MB, over {self.limit_bytes / 1e6:.1f} MB"
        return None


def without_violators(reports: Sequence[CandidateReport], texts: Sequence[str]) -> list[CandidateReport]:
    """The reports, with those excluded whose measurements do not meet a requirement."""
    requirements = parse_requirements(texts)
    checked = []
    for report in reports:
        reason = next((r for requirement in requirements if (r := requirement.reason_against_report(report))), None)
        checked.append(report.model_copy(update={"status": "excluded", "reason": reason}) if reason else report)
    return checked


def parse_requirements(texts: Sequence[str]) -> list[Requirement]:
    """Requirements from the user's words; raises BadInput that names the word and what is known."""
    return [_parse(text) for text in texts]


def _parse(text: str) -> Requirement:
    name, _, value = text.partition("=")
    if name in ("mergeable", "vllm") and not value:
        return Requirement(name)
    if name == "max-adapter-size" and value:
        return Requirement(name, parse_bytes(value))
    raise BadInput(f"Unknown requirement {text!r}. {did_you_mean(text, list(KNOWN))}")
