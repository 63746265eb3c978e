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
from advisor.request import ALL_METHODS, Request
from advisor.requirements.effects import advice_on_dropping, parse_checkable, violations_of
from advisor.requirements.scope import Scope
from advisor.survey import Survey, position_limit
from advisor.training.serving import served_as
from knowledge.errors import NothingFits
from knowledge.methods import all_methods
from knowledge.methods.base import Method
from knowledge.schema import MemoryEstimate, PlannedRun

REASONS_TOLD = 12
NOT_ASKED_FOR = "not among the methods asked for"
EXCLUDED_BY_REQUEST = "excluded by the request"


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

    Raises BadInput for requirements that cannot be checked, and NothingFits when none is left.
    """
    request, run = survey.request, survey.planned_run
    requirements = parse_checkable(request.require, Scope.of(survey))
    candidates: list[Candidate] = []
    left_out: list[CandidateReport] = []
    for method in all_methods().values():
        reason = _reason_against(method, survey)
        violations = {} if reason else violations_of(method, requirements)
        if reason or violations:
            report = report_without_probe(method, survey, "excluded", reason or "; ".join(violations.values()))
            left_out.append(report.model_copy(update={"violates": tuple(violations)}))
            continue
        config = method.peft_config(survey.shape, run.max_steps)
        candidates += [
            Candidate(candidate_id(method, rate, config, run), method, rate, config)
            for rate in method.learning_rates_for(survey.shape)
        ]
    if not candidates:
        raise NothingFits(nothing_left(left_out))
    return candidates, left_out


def report_without_probe(
    method: Method,
    survey: Survey,
    status: str,
    reason: str,
    *,
    learning_rate: float | None = None,
    memory: MemoryEstimate | None = None,
    peft_config: Mapping[str, Any] | None = None,
) -> CandidateReport:
    """A line for a method that nothing was measured of, at its default learning rate unless one is given."""
    return CandidateReport(
        name=method.name,
        title=method.title,
        peft_type=method.peft_type,
        learning_rate=method.default_learning_rate_for(survey.shape) if learning_rate is None else learning_rate,
        status=status,
        reason=reason,
        memory=memory,
        fits=False if status == "does not fit" else None,
        capabilities=capabilities_of(method, survey),
        peft_config=peft_config,
    )


def capabilities_of(method: Method, survey: Survey) -> dict[str, Any]:
    """Those that hold for this model and task: beside a GGUF file vLLM loads no adapter, and no classifier at all."""
    all_of_it = method.capabilities.model_dump(mode="json")
    return all_of_it | {"vllm": served_as(all_of_it, survey.source.kind, survey.planned_run.task)}


def candidate_id(method: Method, learning_rate: float, peft_config: Mapping[str, Any] | None, run: PlannedRun) -> str:
    """A readable name with a hash of everything that defines the candidate's training."""
    definition = [method.name, learning_rate, peft_config, method.optimizer, dict(method.optimizer_settings)]
    text = json.dumps([definition, run.model_dump(mode="json")], sort_keys=True, default=str)
    return f"{method.name}@{learning_rate:g}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def left_out_by(request: Request, method: Method) -> str | None:
    """Why the request itself leaves a method out."""
    if request.methods and not {method.name, ALL_METHODS} & set(request.methods):
        return NOT_ASKED_FOR
    return EXCLUDED_BY_REQUEST if method.name in request.exclude else None


def _reason_against(method: Method, survey: Survey) -> str | None:
    if reason := left_out_by(survey.request, method):
        return reason
    if reason := method.unsupported_reason(survey.shape):
        return reason.removeprefix(f"{method.title} ")  # the report names the method already
    return _lacks_places(method.peft_config(survey.shape, survey.planned_run.max_steps), survey)


def _lacks_places(config: Mapping[str, Any] | None, survey: Survey) -> str | None:
    """What a method puts before a row takes places of the model's that the longest row may need."""
    in_front, places = (config or {}).get("num_virtual_tokens") or 0, position_limit(survey.config)
    if not (in_front and places and in_front + survey.planned_run.max_length_tokens > places):
        return None
    return (
        f"puts {in_front} tokens before each row, and with rows of up to {survey.planned_run.max_length_tokens} the "
        f"model's {places} places do not suffice (--max-length {places - in_front} leaves room)"
    )


def nothing_left(left_out: Sequence[CandidateReport]) -> str:
    """Why nothing is left, those first that a requirement took out, and which requirement to drop."""
    asked_for = [report for report in left_out if report.reason != NOT_ASKED_FOR]
    closest_first = sorted(asked_for, key=lambda report: (not report.violates, len(report.violates)))
    lines = [f"  - {report.title}: {report.reason}" for report in closest_first[:REASONS_TOLD]]
    more = [f"  - and {len(asked_for) - REASONS_TOLD} more"] if len(asked_for) > REASONS_TOLD else []
    return "\n".join([f"No method is left to try. {advice_on_dropping(left_out)}".rstrip(), *lines, *more])
