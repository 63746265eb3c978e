"""A decision in plain words: reasons and alternatives, with numbers and units."""

from __future__ import annotations

from advisor.deciding.case import Case
from advisor.deciding.doubts import confidence, warnings
from advisor.deciding.frontier import COMPARABLE
from advisor.deciding.quality import MEMORY_STEP, QualityField, beats, noise_between, point_of, tied, value_of
from advisor.deciding.tie_breaker import tie_breaker
from advisor.recommendation import CandidateReport, Decision
from advisor.text import bytes_text, difference_text, duration_text, listed, rate_text, rounds_away
from knowledge.prior import REFERENCE
from probes.schema import FAILURES

RIVALS_NAMED = 3
_GIVEN_UP = {
    "accuracy": "Some quality is given up",
    "balanced": "Some quality is given up for memory or time",
    "memory": "Some quality is given up, for the objective is memory",
    "speed": "Some quality is given up, for the objective is speed",
}


def explain(case: Case, instead_of: CandidateReport | None = None) -> Decision:
    """The decision about `case.pick`.

    instead_of: what was recommended, where the user has chosen `case.pick` in its place.
    """
    pick = case.pick
    return Decision(
        name=pick.name,
        title=pick.title,
        learning_rate=pick.learning_rate,
        objective=case.objective,
        chosen_over=f"{instead_of.title} at learning rate {rate_text(instead_of.learning_rate)}" if instead_of else "",
        compared_by=case.metric,
        confidence=confidence(case),
        gain_over_lora=_gain_over_lora(case, instead_of),
        reasons=tuple(_reasons(case) if instead_of is None else _reasons_of_choice(case, instead_of)),
        ties=tuple(c.title for c in case.ties),
        alternatives=tuple(_alternatives(case)),
        warnings=tuple(warnings(case)),
    )


def compare(one: CandidateReport, other: CandidateReport, quality: QualityField) -> str:
    """How `one` stands against `other`: '0.043 worse in eval loss (± 0.020), needs 310 MB more, takes 4 min longer',
    with the 80 % half-width of the difference."""
    parts = [_quality_difference(one, other, quality), _memory_difference(one, other), _time_difference(one, other)]
    return ", ".join(part for part in parts if part)


def standing(candidate: CandidateReport, case: Case) -> str:
    """Why a candidate that came through is not the pick, in one line; '' for those that have a reason of their own."""
    has_come_through = candidate.status in (*COMPARABLE, "reference")
    if candidate.fits is False and candidate.memory is not None and has_come_through:
        return f"needs up to {bytes_text(candidate.memory.high_bytes)} of {bytes_text(case.device.limit_bytes)}"
    if candidate.reason or candidate is case.pick:
        return candidate.reason
    if point_of(candidate, case.quality) is None:
        unknown = candidate.memory is None and getattr(candidate, case.quality) is not None
        return "its memory is unknown, so it cannot be compared" if unknown else ""
    return compare(candidate, case.pick, case.quality)


def _quality_difference(one: CandidateReport, other: CandidateReport, quality: QualityField) -> str:
    """A lead that proves nothing is told as what it is, for a choice is made by it."""
    metric, is_tied = getattr(one, quality).metric, tied(one, other, quality)
    lead, noise = value_of(one, quality) - value_of(other, quality), noise_between(one, other, quality)
    if lead == 0 or (is_tied and rounds_away(lead, metric) and not rounds_away(noise, metric)):
        return f"equal in {metric}"
    within = difference_text(noise, metric).removesuffix(" points")
    beside = f", within noise (± {within})" if is_tied else f" (± {within})"
    return f"{difference_text(lead, metric)} {'better' if lead > 0 else 'worse'} in {metric}{beside}"


def _memory_difference(one: CandidateReport, other: CandidateReport) -> str:
    a, b = one.memory.peak_bytes, other.memory.peak_bytes
    if abs(a - b) < MEMORY_STEP * min(a, b):
        return "needs the same memory"
    return f"needs {bytes_text(abs(a - b))} {'more' if a > b else 'less'}"


TIME_KNOWN_TO = 0.1  # of a run: probes on a busy machine differ by that


def _time_difference(one: CandidateReport, other: CandidateReport) -> str:
    a, b = one.planned_run_s, other.planned_run_s
    if a is None or b is None or abs(a - b) < max(1.0, TIME_KNOWN_TO * min(a, b)):
        return ""
    return f"takes {duration_text(abs(a - b))} {'longer' if a > b else 'less'}"


def _gain_over_lora(case: Case, instead_of: CandidateReport | None = None) -> str:
    is_tuned = len(case.rates_tried(REFERENCE)) > 1
    if case.pick.name == REFERENCE:
        was = f"{instead_of.title} at {rate_text(instead_of.learning_rate)} was recommended" if instead_of else ""
        return f"This is LoRA{' with a tuned learning rate' if is_tuned else ''}; {was or _why_lora(case)}."
    tuned, lora = "tuned " if is_tuned else "", case.lora
    if lora is None:
        return _without_lora(case, tuned)
    return f"Against {tuned}LoRA (rate {rate_text(lora.learning_rate)}): {_compare_in_both(case.pick, lora, case)}."


def _compare_in_both(one: CandidateReport, other: CandidateReport, case: Case) -> str:
    """Where the loss decides, the metric is what people ask for: it comes first."""
    text = compare(one, other, case.quality)
    is_told = case.quality == "predicted_loss" and one.predicted is not None and other.predicted is not None
    return f"{_quality_difference(one, other, 'predicted')}, {text}" if is_told else text


def _without_lora(case: Case, tuned: str) -> str:
    """Why there is no LoRA to compare with, by its rate that came furthest: after the probes each has a memory of its
    own."""
    rates = [c for c in case.candidates if c.name == REFERENCE]
    furthest_first = sorted(rates, key=lambda c: (-c.curve.last_step, c.learning_rate))
    if too_large := next((c for c in furthest_first if c.fits is False and c.memory), None):
        needed = bytes_text(too_large.memory.high_bytes)
        return f"LoRA does not fit: it needs up to {needed} of {bytes_text(case.device.limit_bytes)}."
    why = ""
    if furthest_first:
        furthest = furthest_first[0]
        reason = ", ".join(filter(None, [furthest.status, standing(furthest, case)]))
        why = f": {reason.rstrip('.')}"
    return f"The gain over {tuned}LoRA is unknown, for LoRA has no valid result{why}."


def _why_lora(case: Case) -> str:
    """Why LoRA stays the pick."""
    if case.pick.status == "from table":
        alone = len(case.rivals) == 1
        return f"no other of the table {'comes into question' if alone else 'pays for a change'}"
    if len(case.rivals) > 1:
        return f"nothing else that {'stayed in the race' if case.left_ahead else 'was tried'} pays for a change"
    could_be_picked = [c for c in case.candidates if c.name != REFERENCE and c.status != "reference"]
    others = any(c.curve.points or c.status in FAILURES for c in could_be_picked)
    return "no other method came through" if others else "no other method has been tried"


def _reasons(case: Case) -> list[str]:
    pick, quality = case.pick, case.quality
    reasons = [_gain_over_lora(case)]
    if quality == "predicted_loss" and all(c.predicted is not None for c in case.rivals):
        reasons.append(f"Compared by {case.metric}, which tells them apart more clearly than {pick.predicted.metric}.")
    if case.ties:
        reasons.append(f"Tied in {case.metric} with {listed([c.title for c in case.ties])}; {tie_breaker(case)}.")
    told = [*case.ties]
    best = max(case.contenders, key=lambda c: value_of(c, quality))
    if beats(best, pick, quality):
        reasons.append(f"{_GIVEN_UP[case.objective]}: {best.title} is {compare(best, pick, quality)}.")
        told.append(best)
    if case.left_ahead:
        ahead = case.left_ahead[0]
        name = f"{ahead.title} (rate {rate_text(ahead.learning_rate)})"
        reasons.append(f"Kept in spite of a better one that left the race: {name} is {compare(ahead, pick, quality)}.")
        told.append(ahead)
    named = {c.name for c in told} | {REFERENCE}
    # The other points of the frontier are told as alternatives.
    worse = [c for c in case.others_by_quality if c.name not in named and not c.on_frontier][:RIVALS_NAMED]
    reasons += [f"{c.title} is {compare(c, pick, quality)}." for c in worse]
    return reasons


def _reasons_of_choice(case: Case, instead_of: CandidateReport) -> list[str]:
    pick, quality = case.pick, case.quality
    reasons = [_gain_over_lora(case, instead_of)]
    if pick.name == REFERENCE or instead_of is not case.lora:  # else that is said already
        than = f"{instead_of.title} (rate {rate_text(instead_of.learning_rate)})"
        reasons.append(f"Against {than}, which was recommended: {compare(pick, instead_of, quality)}.")
    if ties := [c.title for c in case.ties if c is not instead_of]:
        reasons.append(f"Tied in {case.metric} with {listed(ties)}.")
    return reasons


def _alternatives(case: Case) -> list[str]:
    members = [c for c in case.candidates if c.on_frontier and c.name != case.pick.name]
    members.sort(key=lambda c: (c.memory.peak_bytes, c.name))
    return [f"{c.title} (rate {rate_text(c.learning_rate)}): {compare(c, case.pick, case.quality)}" for c in members]
