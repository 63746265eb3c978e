"""The memory of the planned run, candidate by candidate: estimated beforehand, corrected by what the probes held."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from advisor.candidates import Candidate, report_without_probe
from advisor.recommendation import CandidateReport
from advisor.survey import Survey
from advisor.text import rounded
from knowledge.methods.base import Method
from knowledge.schema import MemoryEstimate, PlannedRun
from probes.parallel import map_on_cores

if TYPE_CHECKING:
    from probes.memory import NotEstimable

LEAST_KNOWN = ("overhead", "activations", "logits")  # of a dry run's parts, the least first


def with_memory(
    candidates: Sequence[Candidate], survey: Survey, say: Callable[[str], None]
) -> tuple[list[Candidate], list[CandidateReport]]:
    """The candidates with their peak memory for the planned run, and reports of those that cannot fit the device.

    The learning rate does not change memory, so there is one dry run per method and settings.
    """
    from probes.memory import NotEstimable

    to_estimate = {candidate.method.name: candidate for candidate in candidates}
    estimates: dict[str, MemoryEstimate | None] = {}
    found = map_on_cores(partial(_estimate, *_planned(survey)), list(to_estimate.values()))
    for number, (candidate, memory) in enumerate(zip(to_estimate.values(), found, strict=True), start=1):
        title = candidate.method.title
        say(f"dry run of memory: {title} ({number} of {len(to_estimate)})")
        if isinstance(memory, NotEstimable):
            say(f"no memory estimate for {title}: {memory}")
        estimates[candidate.method.name] = None if isinstance(memory, NotEstimable) else memory
    fitting: list[Candidate] = []
    too_large: dict[str, CandidateReport] = {}
    for candidate in candidates:
        method, memory = candidate.method, estimates[candidate.method.name]
        if memory and not memory.may_fit(survey.device.limit_bytes):
            reason = f"needs {memory.peak_bytes / 1e9:.1f} GB, the device has {survey.device.limit_bytes / 1e9:.1f} GB"
            too_large[method.name] = report_without_probe(method, survey, "does not fit", reason, memory=memory)
        else:
            fitting.append(replace(candidate, memory=memory))
    return fitting, list(too_large.values())


def adapter_bytes_of(candidate: Candidate) -> int | None:
    """The size of the saved adapter, where the dry run tells it: what trains is held as it is saved, but for what
    becomes a LoRA of a larger rank."""
    is_known = candidate.memory is not None and not candidate.method.saved_size_differs
    adapter_bytes = candidate.memory.breakdown.get("adapter") if is_known else None
    return None if adapter_bytes is None else adapter_bytes * candidate.method.saved_rank_factor


def _planned(survey: Survey) -> tuple[Any, PlannedRun, np.ndarray | None]:
    """What the dry runs of all candidates have in common; the lengths as an array, for there may be a million."""
    from probes.memory.batches import row_lengths

    lengths = row_lengths(survey.data.train, survey.planned_run.task) if survey.data else None
    return survey.config, survey.planned_run, None if lengths is None else np.array(lengths)


def _estimate(
    config: Any, run: PlannedRun, lengths_tokens: np.ndarray | None, candidate: Candidate
) -> MemoryEstimate | NotEstimable:
    from probes.memory import NotEstimable, estimate_peak

    try:
        return estimate_peak(
            config, _adapter(candidate), run, lengths_tokens=lengths_tokens, **training_of(candidate.method)
        )
    except NotEstimable as error:
        return error


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
    is_where_it_runs = device.kind == "cuda" and not device.planned
    if memory is None or survey.data is None or not is_where_it_runs or not (measured_bytes and steps):
        return memory
    dry_bytes = peak_of_first_steps(
        survey.config,
        _adapter(candidate),
        survey.planned_run,
        steps,
        lengths_tokens=row_lengths(survey.data.train, survey.planned_run.task),
        **training_of(candidate.method),
    )
    return scaled(memory, measured_bytes, dry_bytes)


def scaled(memory: MemoryEstimate, measured_bytes: int, dry_bytes: int) -> MemoryEstimate:
    """`memory` times what was measured over what the dry run said; both are told in its note."""
    factor = measured_bytes / dry_bytes
    peak_bytes = round(memory.peak_bytes * factor)
    breakdown = _with_difference(memory.breakdown, peak_bytes - memory.peak_bytes)
    told = (
        f"the probe held {measured_bytes / 1e9:.2f} GB where its dry run says {dry_bytes / 1e9:.2f}: corrected by "
        f"{rounded(100 * (factor - 1), 1):+.1f} %"
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


def _with_difference(breakdown: Mapping[str, int], difference_bytes: int) -> dict[str, int]:
    """The parts of a peak that was found to be so much larger, or smaller, which they keep adding up to: it is in what
    is known least, the overhead, and beyond that in the activations, and none is less than nothing."""
    parts = dict(breakdown)
    for kind in [kind for kind in LEAST_KNOWN if kind in parts]:
        taken = max(difference_bytes, -parts[kind])
        parts[kind] += taken
        difference_bytes -= taken
    return parts


def measured_memory(peak_bytes: int | None) -> MemoryEstimate | None:
    """The probe's own peak, where no dry run of the method is possible."""
    if peak_bytes is None:
        return None
    note = "no dry run is possible: this is what the probe held on this device"
    return MemoryEstimate(
        peak_bytes=peak_bytes, low_bytes=peak_bytes, high_bytes=peak_bytes, basis="measured", note=note
    )


def _adapter(candidate: Candidate) -> dict[str, Any] | None:
    return dict(candidate.peft_config) if candidate.peft_config else None


def training_of(method: Method) -> dict[str, Any]:
    """What of the method's training decides memory, as arguments of a dry run."""
    return {
        "optimizer": method.optimizer,
        "optimizer_settings": method.optimizer_settings,
        "select_trainable": None if method.peft_type else method.select_trainable,
    }
