"""Finds a batch that fits where the user named none: the same sequences per optimizer step, in smaller portions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from advisor.survey import Survey
from knowledge.methods import get_method
from knowledge.prior import REFERENCE
from knowledge.schema import PlannedRun


def with_fitting_batch(survey: Survey, say: Callable[[str], None]) -> Survey:
    """The survey with the batch halved, and accumulation doubled, until plain LoRA fits the device for certain.

    Nothing changes where the user gave a batch size, where LoRA cannot be estimated, or where even single sequences
    do not fit: what then fits is for the candidates' own estimates to say.
    """
    from probes.memory import NotEstimable, estimate_peak
    from probes.memory.batches import row_lengths

    method = get_method(REFERENCE)
    if survey.request.batch_size is not None or survey.device.kind != "cuda" or method.unsupported_reason(survey.shape):
        return survey
    lengths = row_lengths(survey.data.train, survey.planned_run.task) if survey.data else None
    run = survey.planned_run
    config = method.peft_config(survey.shape, run.max_steps)
    while True:
        try:
            estimate = estimate_peak(survey.config, config, run, lengths_tokens=lengths)
        except NotEstimable:
            return survey
        if estimate.high_bytes <= survey.device.limit_bytes:
            return replace(survey, planned_run=run)
        if run.batch_size == 1:
            return survey
        run = _halved(run)
        say(
            f"LoRA would need {estimate.high_bytes / 1e9:.1f} GB: trying batches of {run.batch_size}, "
            f"{run.gradient_accumulation_steps} per optimizer step"
        )


def _halved(run: PlannedRun) -> PlannedRun:
    return run.model_copy(
        update={
            "batch_size": run.batch_size // 2,
            "gradient_accumulation_steps": run.gradient_accumulation_steps * 2,
        }
    )
