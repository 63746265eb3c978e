"""Finds a run that fits where the user left it open: first in smaller portions, which train the same, then with the
base in 4 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from advisor.survey import Survey
from advisor.text import bytes_text
from knowledge.errors import NothingFits
from knowledge.methods import get_method
from knowledge.prior import REFERENCE
from knowledge.schema import Quantization

if TYPE_CHECKING:
    from knowledge.schema import MemoryEstimate, PlannedRun


WEIGHT_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "nf4": 0.5}  # at least, per parameter


def check_weights_fit(survey: Survey) -> None:
    """Raises NothingFits where the bare weights are more than the device has, however they may be kept: that takes no
    dry run to know."""
    device, parameters, asked = survey.device, survey.model.parameters, survey.request.quantize
    if device.kind != "cuda":
        return
    kept_in = "nf4" if asked == "auto" else survey.planned_run.dtype if asked == "none" else asked
    weights_bytes = WEIGHT_BYTES[kept_in] * parameters
    if weights_bytes <= device.limit_bytes:
        return
    in_4_bits = WEIGHT_BYTES["nf4"] * parameters
    quantized = (
        f"--quantize nf4, which keeps them in {bytes_text(in_4_bits)} or a little more, " if kept_in != "nf4" else ""
    )
    raise NothingFits(
        f"Nothing fits {bytes_text(device.limit_bytes)} ({device.name}): the weights of {survey.model.reference} alone "
        f"need {bytes_text(weights_bytes)} in {kept_in}. Try {quantized}a smaller model or a larger card."
    )


def with_fitting_run(survey: Survey, say: Callable[[str], None]) -> Survey:
    """The survey with the first run with which plain LoRA fits the device: for certain, else at least as expected, and
    with a base in 4 bits only where it does neither in full.

    The batch is halved, and accumulation doubled, unless the user gave a batch size; then, with `--quantize auto`, the
    same with the base in nf4. Nothing changes where LoRA cannot be estimated, or fits by no means: what then fits is
    for the candidates' own estimates to say.
    """
    from probes.memory import NotEstimable

    if survey.device.kind != "cuda":
        return survey
    limit_bytes = survey.device.limit_bytes
    for quantization in _quantizations(survey, say):
        fits_as_expected = None
        for tried in _from_large_to_small(survey, quantization):
            if get_method(REFERENCE).unsupported_reason(tried.shape):
                return survey
            try:
                memory = _lora_memory(tried)
            except NotEstimable:
                return survey
            if memory.surely_fits(limit_bytes):
                return _told(tried, survey, say)
            if memory.is_likely_to_fit(limit_bytes) and fits_as_expected is None:
                fits_as_expected = tried
            say(f"LoRA may need {bytes_text(memory.high_bytes)} {_words(tried.planned_run)}")
        if fits_as_expected:
            return _told(fits_as_expected, survey, say)
    return survey


def _from_large_to_small(survey: Survey, quantization: Quantization) -> Iterator[Survey]:
    shape = survey.shape.model_copy(update={"quantization": quantization})
    for run in _portions(survey.planned_run, survey.request.batch_size is not None):
        yield replace(survey, shape=shape, planned_run=run.model_copy(update={"quantization": quantization}))


def _quantizations(survey: Survey, say: Callable[[str], None]) -> Iterator[Quantization]:
    """What the base may be kept in, best first. Probes in 4 bits need bitsandbytes; a dry run alone does not."""
    if survey.request.quantize != "auto":
        yield survey.request.quantize
        return
    yield "none"
    if find_spec("bitsandbytes") or not survey.request.probe:
        yield "nf4"
    else:
        say("a base in 4 bits might fit, and needs bitsandbytes: pip install 'peft-advisor[quantized]'")


def _portions(run: PlannedRun, given: bool) -> Iterator[PlannedRun]:
    """The run as it is, then with its batch in ever more parts; not where the user gave its size."""
    yield run
    while not given and run.batch_size > 1:
        halved = {
            "batch_size": run.batch_size // 2,
            "gradient_accumulation_steps": run.gradient_accumulation_steps * 2,
        }
        run = run.model_copy(update=halved)
        yield run


def _lora_memory(survey: Survey) -> MemoryEstimate:
    from probes.memory import estimate_peak
    from probes.memory.batches import row_lengths

    run = survey.planned_run
    lengths = row_lengths(survey.data.train, run.task) if survey.data else None
    config = get_method(REFERENCE).peft_config(survey.shape, run.max_steps)
    return estimate_peak(survey.config, config, run, lengths_tokens=lengths)


def _told(fitting: Survey, asked: Survey, say: Callable[[str], None]) -> Survey:
    if fitting.planned_run != asked.planned_run:
        say(f"the run is planned {_words(fitting.planned_run)}")
    return fitting


def _words(run: PlannedRun) -> str:
    """'with batches of 4, 2 per optimizer step, and the base in nf4'."""
    base = f" and the base in {run.quantization}" if run.quantization != "none" else ""
    return f"with batches of {run.batch_size}, {run.gradient_accumulation_steps} per optimizer step,{base}".rstrip(",")
