"""The second station: which methods, at which learning rates, come into question for this model and request.

Every method of the catalogue ends up in one of two places: among the candidates, or among the reports of those
that cannot be used, with the reason in words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from advisor.recommendation import CandidateReport
from advisor.requirements import parse_checkable
from advisor.survey import Survey
from knowledge.errors import BadInput, NothingFits, did_you_mean
from knowledge.methods import all_methods
from knowledge.methods.base import Method
from knowledge.schema import MemoryEstimate, PlannedRun


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
    catalogue = all_methods()
    for name in (*request.methods, *request.exclude):
        if name not in catalogue:
            raise BadInput(f"There is no method {name!r}. {did_you_mean(name, list(catalogue))}")
    requirements = parse_checkable(request.require, task=run.task, probe=request.probe)
    candidates: list[Candidate] = []
    left_out: list[CandidateReport] = []
    for method in catalogue.values():
        reason = _reason_against(method, survey) or next(
            (r for requirement in requirements if (r := requirement.reason_against(method))), None
        )
        if reason is not None:
            left_out.append(report_without_probe(method, "excluded", reason))
            continue
        config = method.peft_config(survey.shape, run.max_steps)
        candidates += [
            Candidate(candidate_id(method, rate, config, run), method, rate, config) for rate in method.learning_rates
        ]
    if not candidates:
        raise NothingFits(_nothing_left(left_out, request.require))
    return candidates, left_out


def with_memory(
    candidates: Sequence[Candidate], survey: Survey, say: Callable[[str], None]
) -> tuple[list[Candidate], list[CandidateReport]]:
    """The candidates with their peak memory for the planned run, and reports of those that cannot fit the device.

    The learning rate does not change memory, so there is one dry run per method and settings.
    """
    from probes.memory import NotEstimable, estimate_peak
    from probes.memory.batches import row_lengths

    estimates: dict[str, MemoryEstimate | None] = {}
    fitting: list[Candidate] = []
    too_large: dict[str, CandidateReport] = {}
    lengths = row_lengths(survey.data.train, survey.planned_run.task) if survey.data else None
    for candidate in candidates:
        method = candidate.method
        if method.name not in estimates:
            say(f"dry run of memory: {method.title}")
            try:
                estimates[method.name] = estimate_peak(
                    survey.config, _adapter(candidate), survey.planned_run, lengths_tokens=lengths, **_training(method)
                )
            except NotEstimable as error:
                say(f"no memory estimate for {method.title}: {error}")
                estimates[method.name] = None
        memory = estimates[method.name]
        if memory and memory.low_bytes > survey.device.limit_bytes:
            reason = f"needs {memory.peak_bytes / 1e9:.1f} GB, the device has {survey.device.limit_bytes / 1e9:.1f} GB"
            too_large[method.name] = report_without_probe(method, "does not fit", reason, memory)
        else:
            fitting.append(replace(candidate, memory=memory))
    return fitting, list(too_large.values())


def corrected_memory(
    candidate: Candidate, survey: Survey, steps: int, measured_bytes: int | None
) -> MemoryEstimate | None:
    """The candidate's estimate, corrected by what its probe of `steps` steps held where the run is going to be.

    A probe meets the run's first batches only, so it is compared with a dry run of just these, and the estimate for
    all batches changes by the same factor. On a processor, and for a card that is not here, nothing is corrected.
    """
    from probes.memory import peak_of_first_steps
    from probes.memory.batches import row_lengths

    memory, device = candidate.memory, survey.device
    if (
        memory is None
        or not measured_bytes
        or not steps
        or device.kind != "cuda"
        or device.planned
        or survey.data is None
    ):
        return memory
    dry_bytes = peak_of_first_steps(
        survey.config,
        _adapter(candidate),
        survey.planned_run,
        steps,
        lengths_tokens=row_lengths(survey.data.train, survey.planned_run.task),
        **_training(candidate.method),
    )
    return scaled(memory, measured_bytes, dry_bytes)


def scaled(memory: MemoryEstimate, measured_bytes: int, dry_bytes: int) -> MemoryEstimate:
    """`memory` times what was measured over what the dry run said; both are told in its note."""
    factor = measured_bytes / dry_bytes
    peak_bytes = round(memory.peak_bytes * factor)
    breakdown = dict(memory.breakdown)
    if "overhead" in breakdown:  # the parts keep adding up to the peak
        breakdown["overhead"] += peak_bytes - memory.peak_bytes
    told = (
        f"the probe held {measured_bytes / 1e9:.2f} GB where its dry run says {dry_bytes / 1e9:.2f}: corrected by "
        f"{100 * (factor - 1):+.1f} %"
    )
    return memory.model_copy(
        update={
            "peak_bytes": peak_bytes,
            "low_bytes": round(memory.low_bytes * factor),
            "high_bytes": round(memory.high_bytes * factor),
            "breakdown": breakdown,
            "basis": "dry run, corrected by the probe",
            "note": "; ".join(filter(None, (memory.note, told))),
        }
    )


def _adapter(candidate: Candidate) -> dict[str, Any] | None:
    return dict(candidate.peft_config) if candidate.peft_config else None


def _training(method: Method) -> dict[str, Any]:
    """What of the method's training decides memory, as arguments of a dry run."""
    return {
        "optimizer": method.optimizer,
        "optimizer_settings": method.optimizer_settings,
        "select_trainable": None if method.peft_type else method.select_trainable,
    }


def report_without_probe(
    method: Method, status: str, reason: str, memory: MemoryEstimate | None = None
) -> CandidateReport:
    """A line for a method that nothing was measured of."""
    return CandidateReport(
        name=method.name,
        title=method.title,
        peft_type=method.peft_type,
        learning_rate=method.default_learning_rate,
        status=status,
        reason=reason,
        memory=memory,
        fits=False if status == "does not fit" else None,
        capabilities=method.capabilities.model_dump(),
    )


def candidate_id(method: Method, learning_rate: float, peft_config: Mapping[str, Any] | None, run: PlannedRun) -> str:
    """A readable name with a hash of everything that defines the candidate's training."""
    definition = [method.name, learning_rate, peft_config, method.optimizer, dict(method.optimizer_settings)]
    text = json.dumps([definition, run.model_dump(mode="json")], sort_keys=True, default=str)
    return f"{method.name}@{learning_rate:g}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _reason_against(method: Method, survey: Survey) -> str | None:
    request = survey.request
    if request.methods and method.name not in request.methods:
        return "not among the methods asked for"
    if method.name in request.exclude:
        return "excluded by the request"
    return method.unsupported_reason(survey.shape)


def _nothing_left(left_out: Sequence[CandidateReport], requirements: Sequence[str]) -> str:
    lines = [f"  - {report.title}: {report.reason}" for report in left_out[:20]]
    hint = f" Drop one of the requirements ({', '.join(requirements)})." if requirements else ""
    return "No method is left to try." + hint + "\n" + "\n".join(lines)
