"""What a report says, apart from how it looks: the terminal and the page choose from the same facts.

Strings that come from outside (titles, reasons, paths, names) are cleaned of control characters here; markup is the
business of whoever shows them.
"""

from __future__ import annotations

import math
from pathlib import Path

from advisor.forgetting import forgetting_text
from advisor.quality import QualityField, lower_is_better, value_of
from advisor.recommendation import CandidateReport, Decision, Prediction, Result, Status
from advisor.requirements import advice_on_dropping
from advisor.serving import served_as
from advisor.text import bytes_text, clean, count_text, duration_text, plural, quality_text, rate_text
from knowledge.methods.base import QUANTIZED_BASES
from knowledge.schema import MemoryEstimate
from probes.race import LEFT_FOR_ANOTHER_RATE
from probes.schema import FAILURES

LEFT_HEADINGS: dict[Status, str] = {
    "eliminated": "behind in the race",
    "diverged": "diverged",
    "out of memory": "ran out of memory",
    "failed": "failed",
    "ineffective": "trained nothing",
    "does not fit": "does not fit",
    "not tried": "not tried",
    "excluded": "excluded",
    "reference": "reference only",
}

_MARK_WORDS = {
    "pick": "recommended",
    "frontier": "frontier",
    "tie": "tied",
    "does not fit": "does not fit",
    "excluded": "not as required",
    "reference": "reference",
}


def compared_by(result: Result) -> QualityField:
    """Which prediction decided."""
    decision, pick = result.recommendation, result.pick
    if decision and pick and pick.predicted_loss and decision.compared_by == pick.predicted_loss.metric:
        return "predicted" if pick.predicted and pick.predicted.metric == decision.compared_by else "predicted_loss"
    return "predicted"


def mark_word(kind: str, result: Result) -> str:
    """What a `mark` means in words; '' where it says nothing."""
    if kind == "pick" and result.recommendation and result.recommendation.chosen_over:
        return "chosen"
    return _MARK_WORDS.get(kind, "")


def verdict(decision: Decision) -> str:
    """What stands above the pick: 'Recommended', or 'Chosen in place of OFT at learning rate 1.5e-3'."""
    return f"Chosen in place of {clean(decision.chosen_over)}" if decision.chosen_over else "Recommended"


def headline(result: Result) -> list[tuple[str, str]]:
    """The pick in labelled lines: what a person wants to know within ten seconds."""
    pick, decision = result.pick, result.recommendation
    if pick is None or decision is None:
        return []
    against = decision.gain_over_lora.removeprefix("Against tuned LoRA ").removeprefix("Against LoRA ")
    lines = [("over LoRA", clean(against))]
    for prediction, start in ((pick.predicted, pick.baseline_value), (pick.predicted_loss, pick.baseline_loss)):
        if prediction is not None and clean(prediction.metric) not in [label for label, _ in lines]:
            lines.append((clean(prediction.metric), quality_line(prediction, start)))
    if pick.memory is not None:
        lines.append(("memory", memory_line(result, pick)))
    if result.planned_run.quantization != "none":
        why = ", for it does not fit otherwise" if result.request.get("quantize") == "auto" else ""
        lines.append(("base", f"kept in {QUANTIZED_BASES[result.planned_run.quantization]}{why}"))
    lines.append(("time", time_line(result, pick)))
    lines.append(("adapter", adapter_line(pick, result)))
    if pick.forgetting is not None:
        text = f"{forgetting_text(pick)} nats per token on the base's own texts{measured_at(pick)}"
        lines.append(("forgetting", text))
    if pick.drift is not None:
        lines.append(("drift", f"{drift_text(pick)}: distance of images for other prompts from the base model's"))
    return lines


def quality_line(prediction: Prediction, start: float | None) -> str:
    """'53.2 % at the end (80 % interval 50.1 to 56.0), untuned 4.0 %'."""
    p = prediction
    low, high = (quality_text(v, p.metric).removesuffix(" %") for v in (p.low, p.high))
    text = f"{quality_text(p.value, p.metric)} at the end (80 % interval {low} to {high})"
    return text if start is None else f"{text}, untuned {quality_text(start, p.metric)}"


def is_of_a_gpu_elsewhere(result: Result, memory: MemoryEstimate) -> bool:
    """Dry runs tell what a GPU holds, also where the run is planned on a processor."""
    return result.device.kind == "cpu" and memory.basis == "dry run"


def memory_line(result: Result, pick: CandidateReport) -> str:
    """Peak against the limit, and where the peak is from unless from the dry run."""
    memory, limit = pick.memory, result.device.limit_bytes
    share = f"{100 * memory.peak_bytes / limit:.0f} %" if limit else "?"
    card = "planned card" if result.device.planned else clean(result.device.name, 40)
    text = f"{bytes_text(memory.peak_bytes)} at the peak, {share} of {bytes_text(limit)} ({card})"
    if is_of_a_gpu_elsewhere(result, memory):
        held = f"; here the probes' process held {bytes_text(pick.probe_peak_bytes)}" if pick.probe_peak_bytes else ""
        return f"{bytes_text(memory.peak_bytes)} at the peak, as on an NVIDIA GPU{held}"
    if memory.basis.startswith("dry run, corrected") and pick.probe_peak_bytes:
        return f"{text}, corrected by the probe, which held {bytes_text(pick.probe_peak_bytes)}"
    return text if memory.basis == "dry run" else f"{text}, {' '.join(filter(None, (memory.basis, memory.note)))}"


def time_line(result: Result, pick: CandidateReport) -> str:
    run = result.planned_run
    rows = run.batch_size * run.gradient_accumulation_steps
    size = f"{plural(run.max_steps, 'step')} of {plural(rows, 'row')}"
    size += f" ({run.batch_size} at once)" if run.gradient_accumulation_steps > 1 else ""
    if pick.planned_run_s is None:
        return f"unknown for {size}"
    place = "a planned card, estimated here" if result.device.planned else "this device"
    if pick.status == "from table":
        place = "the card of the published run"
    return f"about {duration_text(pick.planned_run_s)} for {size} on {place}"


def adapter_line(pick: CandidateReport, result: Result) -> str:
    parts = [f"{count_text(pick.trainable_parameters)} trained parameters", bytes_text(pick.adapter_bytes)]
    parts.append("can be merged" if pick.capabilities.get("mergeable") else "cannot be merged")
    if "vllm" in pick.capabilities and (task := result.planned_run.task) == "causal-lm":
        served = {"adapter": "vLLM serves it as adapter", "merged": "vLLM serves it merged"}
        parts.append(served.get(served_as(pick.capabilities, result.model.source, task), "no vLLM"))
    return ", ".join(part for part in parts if part != "unknown" and not part.startswith("unknown "))


def tells_forgetting(result: Result) -> bool:
    """Whether there is anything to show of it: a classifier, and an answer without probes, have none."""
    return any(c.forgetting is not None for c in result.candidates)


def tells_drift(result: Result) -> bool:
    """Whether there is image drift to show."""
    return any(c.drift is not None for c in result.candidates)


def drift_text(candidate: CandidateReport) -> str:
    """'0.26'; '' where it is not known."""
    return "" if candidate.drift is None else f"{candidate.drift:.2f}"


def measured_at(candidate: CandidateReport) -> str:
    """', 10 % into the run': when forgetting was measured."""
    share = candidate.forgetting_share
    return "" if share is None else f", {100 * share:.0f} % into the run"


def one_per_method(result: Result) -> list[CandidateReport]:
    """Each method that has a prediction, at the rate that stands for it: the pick's, the frontier's, else its best."""
    quality = compared_by(result)
    best: dict[str, CandidateReport] = {}
    known = [c for c in result.candidates if getattr(c, quality) is not None]
    for c in sorted(known, key=lambda c: (*_behind(c, result), -c.curve.last_step, -value_of(c, quality))):
        best.setdefault(c.name, c)
    return list(best.values())


def _behind(candidate: CandidateReport, result: Result) -> tuple[bool, bool, bool, bool]:
    """A rate that stayed in the race, or else stayed longer, stands for its method, whatever shorter probes of other
    rates promised; one that a requirement took out only where nothing else is left of it."""
    status = candidate.status
    return candidate is not result.pick, not candidate.on_frontier, status == "excluded", status == "eliminated"


def shown_candidates(result: Result, limit: int = 8) -> list[CandidateReport]:
    """The frontier and the best of the rest, one rate per method, best first; what cannot be picked comes last."""
    quality = compared_by(result)
    methods = one_per_method(result)
    chosen = [c for c in methods if c.on_frontier or c is result.pick or c.name == "lora"]
    rest = sorted((c for c in methods if c not in chosen), key=lambda c: -value_of(c, quality))
    chosen += rest[: max(0, limit - len(chosen))]
    out_of_question = {"reference": 2, "excluded": 1}
    return sorted(
        chosen, key=lambda c: (out_of_question.get(c.status, 0), c.fits is False, -value_of(c, quality), c.name)
    )


def left_the_race(result: Result) -> list[tuple[str, list[tuple[str, str]]]]:
    """[(heading, [(title, reason), ...]), ...] of what is not among the finished, one entry per method and heading.

    A method counts as out where none of its rates came through; a rate that a requirement took out is told in any
    case, for that is what the requirement costs."""
    came_through = {c.name for c in result.candidates if c.status in ("finished", "from table") or c is result.pick}
    groups: dict[str, dict[str, str]] = {}
    # The rate that stayed longest tells why its method left: not one that left for another rate, which left as well.
    for c in sorted(result.candidates, key=lambda c: (-c.curve.last_step, c.reason.startswith(LEFT_FOR_ANOTHER_RATE))):
        status = "does not fit" if c.fits is False else c.status
        required_away = status == "excluded" and bool(c.curve.points)
        title = f"{clean(c.title, 60)} at {rate(c)}" if required_away else clean(c.title, 60)
        if status in LEFT_HEADINGS and (c.name not in came_through or status == "does not fit" or required_away):
            groups.setdefault(LEFT_HEADINGS[status], {}).setdefault(title, clean(c.reason, 300))
    order = list(LEFT_HEADINGS.values())
    return [(heading, list(groups[heading].items())) for heading in order if heading in groups]


def mark(candidate: CandidateReport, result: Result) -> str:
    """How a candidate is marked in tables: pick, frontier, tie, does not fit, excluded, reference."""
    if candidate is result.pick:
        return "pick"
    if candidate.fits is False:
        return "does not fit"
    if candidate.status in ("excluded", "reference"):
        return candidate.status
    if candidate.on_frontier:
        return "frontier"
    ties = result.recommendation.ties if result.recommendation else ()
    # Ties are told by title, and meant is the rate that stands for the method.
    if candidate.title in ties and any(candidate is c for c in one_per_method(result)):
        return "tie"
    return "behind" if candidate.status == "eliminated" else ""


def subject_line(result: Result) -> str:
    """Model, data and device in one line."""
    model = f"{clean(model_name(result), 80)} ({count_text(result.model.parameters)} parameters)"
    if result.data is None:
        return model
    rows = result.data.train_rows
    return f"{model} on {clean(result.data.path, 80)} ({rows:,} training {'row' if rows == 1 else 'rows'})"


def model_name(result: Result) -> str:
    """The model as the user named it; of a file or folder the last part, for the rest says where and not what."""
    local = result.model.source in ("local folder", "gguf file")
    return Path(result.model.reference).name if local else result.model.reference


def prediction_cell(candidate: CandidateReport, quality: QualityField) -> tuple[str, str]:
    """(value, interval) of a table."""
    p: Prediction | None = getattr(candidate, quality)
    if p is None:
        return "", ""
    low, high = (quality_text(v, p.metric).removesuffix(" %") for v in (p.low, p.high))
    return quality_text(p.value, p.metric), f"{low} to {high}"


def metric_name(result: Result) -> str:
    """Name of the quality that decided."""
    quality = compared_by(result)
    return clean(next((getattr(c, quality).metric for c in result.candidates if getattr(c, quality)), "quality"), 40)


def metric_heading(result: Result) -> str:
    """'exact match', with the direction where lower is better."""
    name = metric_name(result)
    return f"{name} (lower is better)" if lower_is_better(name) else name


def rate(candidate: CandidateReport) -> str:
    return rate_text(candidate.learning_rate)


def ran_out_of_time(result: Result) -> bool:
    """Whether the budget ended before any probe was evaluated."""
    race = result.race
    if race is None or race.dry_run or race.interrupted:
        return False
    has_come_through = any(c.curve.points or c.status in FAILURES for c in result.candidates)
    return not has_come_through and any(c.status == "not tried" for c in result.candidates)


def why_no_pick(result: Result) -> str:
    in_time = not ran_out_of_time(result)
    return "no candidate had a valid result that fits" if in_time else "no probe was evaluated in time"


def advice_without_pick(result: Result) -> str:
    """What to change where nothing could be recommended: the budget or the requirements, if it was these."""
    if ran_out_of_time(result):
        needed = math.ceil((result.race.duration_s + result.race.expected_s) / 60)
        return (
            f"The budget of {duration_text(result.race.budget_s)} ended before a probe was evaluated: the planned ones "
            f"take about {duration_text(result.race.expected_s)}. Give --budget {needed}, or a smaller model."
        )
    measured = [c for c in result.candidates if c.curve.points or c.predicted]
    if any(c.violates for c in measured):
        return f"{clean(advice_on_dropping(measured))} Or loosen its limit."
    if measured and all(c.memory is None for c in measured):
        return "No dry run of their memory is possible, so what fits is unknown: probe on the planned card itself."
    return (
        f"Limit {bytes_text(result.device.limit_bytes)}. A smaller --batch-size or --max-length, "
        "--gradient-checkpointing or --quantize nf4 need less memory; a longer --budget tries more."
    )
