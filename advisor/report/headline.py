"""What stands above a report: the pick in labelled lines, and the words of each of them.

A figure is told with what it is of: predicted or measured, on which device, of which run.
"""

from __future__ import annotations

from advisor.deciding.forgetting import forgetting_text
from advisor.deciding.quality import TABLE_RANK
from advisor.recommendation import CandidateReport, Prediction, Result
from advisor.report.content import drift_text
from advisor.text import bytes_text, clean, count_text, duration_text, plural, quality_text, share_text
from advisor.training.serving import served_as
from knowledge.methods.base import QUANTIZED_BASES
from knowledge.schema import MemoryEstimate, PlannedRun

ABOUT_TABLE_RANK = "the share of the table's methods that it beats"


def lines(result: Result) -> list[tuple[str, str]]:
    """The pick in labelled lines: what a person wants to know within ten seconds."""
    pick, decision = result.pick, result.recommendation
    if pick is None or decision is None:
        return []
    against = decision.gain_over_lora.removeprefix("Against tuned LoRA ").removeprefix("Against LoRA ")
    told = [("over LoRA", clean(against))]
    for prediction, start in ((pick.predicted, pick.baseline_value), (pick.predicted_loss, pick.baseline_loss)):
        if prediction is not None and clean(prediction.metric) not in [label for label, _ in told]:
            line = quality_line(prediction, start, how_reached(result, pick))
            told.append((clean(prediction.metric), line))
    if pick.memory is not None:
        told.append(("memory", memory_line(result, pick)))
    if result.planned_run.quantization != "none":
        told.append(("base", base_line(result)))
    told.append(("time", time_line(result, pick)))
    told.append(("weights" if pick.peft_config is None else "adapter", adapter_line(pick, result)))
    if pick.forgetting is not None:
        text = f"{forgetting_text(pick)} nats per token on the base's own texts{measured_at(pick)}"
        told.append(("forgetting", text))
    if pick.drift is not None:
        told.append(("drift", f"{drift_text(pick)}: distance of images for other prompts from the base model's"))
    return told


def base_line(result: Result) -> str:
    """In what a quantised base is kept, and why where the user left that open: LoRA is what must fit."""
    text = f"kept in {QUANTIZED_BASES[result.planned_run.quantization]}"
    if result.request.get("quantize") != "auto":
        return text
    given = result.request.get("batch_size")
    return f"{text}, for LoRA does not fit otherwise{'' if given is None else f' with --batch-size {given}'}"


def was_raced_to_the_end(result: Result, candidate: CandidateReport) -> bool:
    """Whether the race trained the whole of the planned run: what it came to is measured, and not predicted."""
    return candidate.curve.last_step >= result.planned_run.max_steps


def how_reached(result: Result, candidate: CandidateReport) -> str:
    """How an end was reached that is measured, for behind 'at the end'; '' of one that is predicted."""
    if not was_raced_to_the_end(result, candidate):
        return ""
    return ", to which it was trained before" if candidate.rests_on_own_runs else ", to which it was raced"


def quality_line(prediction: Prediction, start: float | None, reached: str = "") -> str:
    """'53.2 % at the end (80 % interval 50.1 to 56.0), untuned 4.0 %'."""
    p = prediction
    low, high = (quality_text(v, p.metric).removesuffix(" %") for v in (p.low, p.high))
    interval = f"(80 % interval {low} to {high})"
    if p.metric == TABLE_RANK:
        return f"{quality_text(p.value, p.metric)} {interval}: {ABOUT_TABLE_RANK}"
    text = f"{quality_text(p.value, p.metric)} at the end{reached} {interval}"
    return text if start is None else f"{text}, untuned {quality_text(start, p.metric)}"


def is_of_a_gpu_elsewhere(result: Result, memory: MemoryEstimate) -> bool:
    """Dry runs tell what a GPU holds, also where the run is planned on a processor."""
    return result.device.kind == "cpu" and memory.basis == "dry run"


def memory_line(result: Result, pick: CandidateReport) -> str:
    """Peak against the limit, and where the peak is from unless from the dry run."""
    memory, limit = pick.memory, result.device.limit_bytes
    share = share_text(memory.peak_bytes / limit) if limit else "?"
    card = "planned card" if result.device.planned else clean(result.device.name, 40)
    noise = noise_of_memory(memory)
    peak = f"{bytes_text(memory.peak_bytes)} at the peak{f' ({noise})' if noise else ''}"
    text = f"{peak}, {share} of {bytes_text(limit)} ({card})"
    if is_of_a_gpu_elsewhere(result, memory):
        held = f"; here the probes' process held {bytes_text(pick.probe_peak_bytes)}" if pick.probe_peak_bytes else ""
        return f"{peak}, as on an NVIDIA GPU{held}"
    if memory.basis.startswith("dry run, corrected") and pick.probe_peak_bytes:
        return f"{text}, corrected by the probe, which held {bytes_text(pick.probe_peak_bytes)}"
    return text if memory.basis == "dry run" else f"{text}, {source_of_memory(memory)}"


def noise_of_memory(memory: MemoryEstimate) -> str:
    """'± 0.2 %', in four of five cases; '' of what was measured, which is off by nothing."""
    return f"± {100 * memory.noise_bytes / memory.peak_bytes:.1f} %" if memory.noise_bytes else ""


def source_of_memory(memory: MemoryEstimate) -> str:
    """'dry run; at most 24.1 GB'; what a run held says nothing of the most that another may need."""
    if memory.basis == "published":
        return f"published {memory.note}".strip()
    if memory.basis == "measured":
        return f"measured: {memory.note}"
    return f"{memory.basis}; at most {bytes_text(memory.high_bytes)}"


def size_of_run(run: PlannedRun) -> str:
    """'600 steps of 8 rows'."""
    return f"{plural(run.max_steps, 'step')} of {plural(run.rows_per_step, 'row')}"


def time_line(result: Result, pick: CandidateReport) -> str:
    run = result.planned_run
    size = size_of_run(run)
    size += f" ({run.batch_size} at once)" if run.gradient_accumulation_steps > 1 else ""
    if pick.planned_run_s is None:
        return f"unknown for {size}"
    interval = f" ({time_range})" if (time_range := range_of_time(pick)) else ""
    return f"about {duration_text(pick.planned_run_s)}{interval} for {size} on {place_of_time(result, pick)}"


def range_of_time(pick: CandidateReport) -> str:
    """'80 % interval 85 s to 96 s'; '' where none is known, or it says nothing more."""
    if pick.planned_run_range_s is None:
        return ""
    low, high = map(duration_text, pick.planned_run_range_s)
    return f"80 % interval {low} to {high}" if low != high else ""


def place_of_time(result: Result, pick: CandidateReport) -> str:
    """Where a run takes the time that is told: a card that is not here has trained nothing yet."""
    if pick.status == "from table":
        return "the card of the published run"
    return "the machine of the probes; the planned card takes another time" if result.device.planned else "this device"


def adapter_line(pick: CandidateReport, result: Result) -> str:
    parts = [f"{count_text(pick.trainable_parameters)} trained parameters", bytes_text(pick.adapter_bytes)]
    parts.append("can be merged" if pick.capabilities.get("mergeable") else "cannot be merged")
    if "vllm" in pick.capabilities and (task := result.planned_run.task) == "causal-lm":
        served = {"adapter": "vLLM serves it as adapter", "merged": "vLLM serves it merged"}
        parts.append(served.get(served_as(pick.capabilities, result.model.source, task), "no vLLM"))
    return ", ".join(part for part in parts if part != "unknown" and not part.startswith("unknown "))


def measured_at(candidate: CandidateReport) -> str:
    """', 10 % into the run': when forgetting was measured."""
    share = candidate.forgetting_share
    return "" if share is None else f", {share_text(share)} into the run"
