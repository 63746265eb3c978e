"""The second station: which methods, at which learning rates, come into question for this model and request.

Every method of the catalogue ends up in one of two places: among the candidates, or among the reports of those
that cannot be used, with the reason in words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor.recommendation import CandidateReport
from advisor.request import Request
from advisor.requirement_kinds import Case
from advisor.requirements import advice_on_dropping, parse_checkable, violations_of
from advisor.survey import Survey
from knowledge.errors import BadInput, NothingFits, did_you_mean
from knowledge.methods import all_methods
from knowledge.methods.base import Method, ModelShape
from knowledge.schema import MemoryEstimate, PlannedRun

REASONS_TOLD = 12
ALL_METHODS = "all"
NOT_ASKED_FOR = "not among the methods asked for"


@dataclass(frozen=True)
class Candidate:
    """A method with its settings and a learning rate, for one planned run."""

    id: str
    method: Method
    learning_rate: float
    peft_config: Mapping[str, Any] | None
    memory: MemoryEstimate | None = None


def propose(survey: Survey) -> tuple[list[Candidate], list[CandidateReport]]:
    """All candidates that the model and the request admit, and a report for each method that is left out.

    Raises BadInput for unknown method names and requirements that cannot be checked, and NothingFits when none is left.
    """
    request, run = survey.request, survey.planned_run
    check_method_names(request)
    requirements = parse_checkable(request.require, Case.of(survey))
    candidates: list[Candidate] = []
    left_out: list[CandidateReport] = []
    for method in all_methods().values():
        reason = _reason_against(method, survey)
        violations = {} if reason else violations_of(method, requirements)
        if reason or violations:
            report = report_without_probe(method, survey.shape, "excluded", reason or "; ".join(violations.values()))
            left_out.append(report.model_copy(update={"violates": tuple(violations)}))
            continue
        config = method.peft_config(survey.shape, run.max_steps)
        candidates += [
            Candidate(candidate_id(method, rate, config, run), method, rate, config)
            for rate in method.learning_rates_for(survey.shape)
        ]
    if not candidates:
        raise NothingFits(_nothing_left(left_out))
    return candidates, left_out


def report_without_probe(
    method: Method, shape: ModelShape, status: str, reason: str, memory: MemoryEstimate | None = None
) -> CandidateReport:
    """A line for a method that nothing was measured of."""
    return CandidateReport(
        name=method.name,
        title=method.title,
        peft_type=method.peft_type,
        learning_rate=method.default_learning_rate_for(shape),
        status=status,
        reason=reason,
        memory=memory,
        fits=False if status == "does not fit" else None,
        capabilities=method.capabilities.model_dump(mode="json"),
    )


def candidate_id(method: Method, learning_rate: float, peft_config: Mapping[str, Any] | None, run: PlannedRun) -> str:
    """A readable name with a hash of everything that defines the candidate's training."""
    definition = [method.name, learning_rate, peft_config, method.optimizer, dict(method.optimizer_settings)]
    text = json.dumps([definition, run.model_dump(mode="json")], sort_keys=True, default=str)
    return f"{method.name}@{learning_rate:g}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def check_method_names(request: Request) -> None:
    """Raises BadInput for a name that the catalogue does not have."""
    catalogue = all_methods()
    for name in (*request.methods, *request.exclude):
        if name not in catalogue and (name != ALL_METHODS or name in request.exclude):
            raise BadInput(f"There is no method {name!r}. {did_you_mean(name, list(catalogue))}")


def left_out_by(request: Request, method: Method) -> str | None:
    """Why the request itself leaves a method out."""
    if request.methods and not {method.name, ALL_METHODS} & set(request.methods):
        return NOT_ASKED_FOR
    return "excluded by the request" if method.name in request.exclude else None


def _reason_against(method: Method, survey: Survey) -> str | None:
    if reason := left_out_by(survey.request, method):
        return reason
    # The report names the method already.
    return (method.unsupported_reason(survey.shape) or "").removeprefix(f"{method.title} ") or None


def _nothing_left(left_out: Sequence[CandidateReport]) -> str:
    """Why nothing is left, those first that a requirement took out, and which requirement to drop."""
    asked_for = [report for report in left_out if report.reason != NOT_ASKED_FOR]
    closest_first = sorted(asked_for, key=lambda report: (not report.violates, len(report.violates)))
    lines = [f"  - {report.title}: {report.reason}" for report in closest_first[:REASONS_TOLD]]
    more = [f"  - and {len(asked_for) - REASONS_TOLD} more"] if len(asked_for) > REASONS_TOLD else []
    return "\n".join([f"No method is left to try. {advice_on_dropping(left_out)}".rstrip(), *lines, *more])
