"""What a report says, apart from how it looks: the terminal and the page choose from the same facts.

Strings that come from outside (titles, reasons, paths, names) are cleaned of control characters here; markup is the
business of whoever shows them.
"""

from __future__ import annotations

from pathlib import Path

from advisor.candidates import EXCLUDED_BY_REQUEST, NOT_ASKED_FOR
from advisor.deciding.frontier import is_eligible
from advisor.deciding.quality import QualityField, lower_is_better, value_of
from advisor.deciding.rates import best_of_each_method, lora_to_beat
from advisor.recommendation import CandidateReport, Decision, Prediction, Result, Status
from advisor.text import clean, count_text, plural, quality_text, rate_text
from knowledge.prior import REFERENCE
from probes.racing.race import LEFT_FOR_ANOTHER_RATE

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
NOT_APPLICABLE = "not applicable"  # to this model or task, whatever is asked for


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


def css_class(kind: str) -> str:
    """The class of what carries this `mark` on the page."""
    return f"is-{kind.replace(' ', '-')}" if kind else "is-other"


def mark_word(kind: str, result: Result) -> str:
    """What a `mark` means in words; '' where it says nothing."""
    if kind == "pick" and result.recommendation and result.recommendation.chosen_over:
        return "chosen"
    return _MARK_WORDS.get(kind, "")


def verdict(decision: Decision) -> str:
    """What stands above the pick: 'Recommended', or 'Chosen in place of OFT at learning rate 1.5e-3'."""
    return f"Chosen in place of {clean(decision.chosen_over)}" if decision.chosen_over else "Recommended"


def tells_forgetting(result: Result) -> bool:
    """Whether there is anything to show of it: a classifier, and an answer without probes, have none."""
    return any(c.forgetting is not None for c in result.candidates)


def tells_drift(result: Result) -> bool:
    """Whether there is image drift to show."""
    return any(c.drift is not None for c in result.candidates)


def drift_text(candidate: CandidateReport) -> str:
    """'0.26'; '' where it is not known."""
    return "" if candidate.drift is None else f"{candidate.drift:.2f}"


def one_per_method(result: Result) -> list[CandidateReport]:
    """Each method that has a prediction, at the rate that stands for it: the pick's, the one that was compared with
    the other methods, for LoRA the one that the pick is compared with. Where none of its rates could be picked, the one
    that came furthest, and one that a requirement took out last."""
    quality = compared_by(result)
    known = [c for c in result.candidates if getattr(c, quality) is not None]
    best = {c.name: c for c in best_of_each_method((c for c in known if is_eligible(c, quality)), quality)}
    for c in sorted(known, key=lambda c: (c.status == "excluded", -c.curve.last_step, -value_of(c, quality))):
        best.setdefault(c.name, c)
    lora = best.get(REFERENCE)
    if lora and is_eligible(lora, quality) and not lora.on_frontier:
        best[REFERENCE] = lora_to_beat(lora, result.candidates, quality)
    if result.pick:
        best[result.pick.name] = result.pick
    return list(best.values())


def shown_candidates(result: Result, limit: int = 8) -> list[CandidateReport]:
    """The frontier and the best of the rest, one rate per method, best first; what cannot be picked comes last. Before
    those that left the race, of which little was seen, there is place for all that stayed, and of those for the ties
    that the reasons name."""
    quality = compared_by(result)
    methods = one_per_method(result)
    chosen = [c for c in methods if c.on_frontier or c is result.pick or c.name == REFERENCE]
    rest = (c for c in methods if c not in chosen)
    ties = result.recommendation.ties if result.recommendation else ()
    rest = sorted(rest, key=lambda c: (c.status == "eliminated", c.title not in ties, -value_of(c, quality)))
    chosen += rest[: max(0, limit - len(chosen))]
    out_of_question = {"reference": 2, "excluded": 1}
    return sorted(
        chosen, key=lambda c: (out_of_question.get(c.status, 0), c.fits is False, -value_of(c, quality), c.name)
    )


def by_reason(members: list[tuple[str, str]]) -> dict[str, list[str]]:
    """The titles by their reasons, in the order of both."""
    found: dict[str, list[str]] = {}
    for title, reason in members:
        found.setdefault(reason, []).append(title)
    return found


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
            by_request = c.reason in (EXCLUDED_BY_REQUEST, NOT_ASKED_FOR)
            was_asked_for = status != "excluded" or required_away or c.violates or by_request
            heading = LEFT_HEADINGS[status] if was_asked_for else NOT_APPLICABLE
            groups.setdefault(heading, {}).setdefault(title, clean(c.reason, 300))
    order = [*LEFT_HEADINGS.values(), NOT_APPLICABLE]
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
    return f"{model} on {clean(result.data.path, 80)} ({plural(result.data.train_rows, 'training row')})"


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


def about_the_frontier(result: Result) -> str:
    """What its chart shows."""
    words = "Bars are 80 % intervals of the prediction and the range of the memory estimate."
    if sum(c.on_frontier for c in result.candidates) < 2:
        return words
    return f"{words} The line joins the frontier: each method on it is expected to end better than all cheaper ones."


def about_the_curves(result: Result) -> str:
    """What their chart shows."""
    words = "Every candidate saw the same batches and the same held-out rows."
    if result.race is None or len(result.race.rungs) < 2:
        return words
    return f"{words} Dashed lines mark the rungs, where the weaker ones left."
