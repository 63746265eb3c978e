"""`--require`: who is taken out for what, what each requirement costs, and which one to drop where nobody is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from advisor.recommendation import CandidateReport, RequirementEffect, Result
from advisor.requirements.kinds import Edge, MaxLatencyOverhead, Requirement
from advisor.requirements.scope import Scope
from advisor.requirements.words import parse_requirement
from knowledge.errors import BadInput
from knowledge.methods.base import Method
from probes.schema import FAILURES, ProbeOutcome


def parse_requirements(texts: Sequence[str], scope: Scope) -> list[Requirement]:
    """Requirements from the user's words; raises BadInput that names the word and what is known."""
    return [parse_requirement(text, scope) for text in dict.fromkeys(texts)]


def parse_checkable(texts: Sequence[str], scope: Scope) -> list[Requirement]:
    """Like `parse_requirements`; raises BadInput also for those that no candidate of this request could meet."""
    requirements = parse_requirements(texts, scope)
    for requirement in requirements:
        if reason := requirement.reason_against_request():
            raise BadInput(f"The requirement {requirement.text} cannot be checked: {reason}. Leave it out.")
    return requirements


def asks_for_latency(texts: Sequence[str]) -> bool:
    """Whether probes must measure how much longer a request takes with the adapter."""
    return any(isinstance(asked, MaxLatencyOverhead) for asked in parse_requirements(texts, Scope()))


def violations_of(method: Method, requirements: Iterable[Requirement]) -> dict[str, str]:
    """The requirements that the method cannot meet, each with the reason."""
    return {r.text: reason for r in requirements if (reason := r.reason_against(method))}


def violations_of_size(adapter_bytes: int | None, requirements: Iterable[Requirement]) -> dict[str, str]:
    """The requirements that an adapter of that size does not meet, each with the reason."""
    return {r.text: reason for r in requirements if (reason := r.reason_against_size(adapter_bytes))}


def without_violators(reports: Sequence[CandidateReport], texts: Sequence[str], scope: Scope) -> list[CandidateReport]:
    """The reports, with those excluded whose measurements do not meet a requirement."""
    requirements = parse_requirements(texts, scope)
    checked = []
    for report in reports:
        reasons = {r.text: reason for r in requirements if (reason := r.reason_against_report(report))}
        if report.status in FAILURES:  # which no requirement would bring back
            reasons = {}
        changes = {"status": "excluded", "reason": "; ".join(reasons.values()), "violates": tuple(reasons)}
        checked.append(report.model_copy(update=changes) if reasons else report)
    return checked


def objection_to(outcome: ProbeOutcome, texts: Sequence[str], scope: Scope) -> str | None:
    """Why the candidate of this probe need not go on in the race, or None."""
    return _first_objection(parse_requirements(texts, scope), outcome)


def unmet(result: Result, outcome: ProbeOutcome) -> str:
    """What was required of the pick and does not hold at the end of its run, with the reasons; '' where all does.
    Forgetting grows along a run, and was measured on the way."""
    run, model = result.planned_run, result.model
    scope = Scope(run.task, True, model.model_type, quantization=run.quantization)
    required = parse_requirements(result.request.get("require", ()), scope)
    # What `edge` allows depends on more of the model than is on record; the adapter's size is as it was.
    return _first_objection([r for r in required if not isinstance(r, Edge)], outcome) or ""


def _first_objection(requirements: Iterable[Requirement], outcome: ProbeOutcome) -> str | None:
    reasons = (requirement.reason_against_going_on(outcome) for requirement in requirements)
    return next((reason for reason in reasons if reason), None)


def effects(texts: Sequence[str], reports: Sequence[CandidateReport]) -> tuple[RequirementEffect, ...]:
    """What each requirement took out, from the reports of all methods of the catalogue."""
    remaining = {report.name for report in reports if not report.violates and report.status not in FAILURES}
    found = []
    for text in dict.fromkeys(texts):
        against = [report for report in reports if text in report.violates]
        lost = [report for report in against if report.name not in remaining]
        found.append(
            RequirementEffect(
                requirement=text,
                methods=tuple(dict.fromkeys(report.title for report in lost)),
                rates=len(against) - len(lost),
                alone=len({report.name for report in lost if report.violates == (text,)}),
            )
        )
    return tuple(found)


def what_to_drop(reports: Sequence[CandidateReport]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """(requirements, titles of the methods that come back without them): as few requirements as possible, and among
    these the ones that bring most back. None where no requirement took anything out."""
    sets = Counter(report.violates for report in reports if report.violates)
    if not sets:
        return None
    fewest = min(len(violated) for violated in sets)
    choices = sorted({violated for violated in sets if len(violated) == fewest})

    def back_without(dropped: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.title for r in reports if r.violates and set(r.violates) <= set(dropped)))

    best = max(choices, key=lambda dropped: len(back_without(dropped)))
    return best, back_without(best)


def advice_on_dropping(reports: Sequence[CandidateReport]) -> str:
    """'Without --require mergeable 6 methods come back: Lily, BEFT ...'; '' where no requirement is to blame."""
    found = what_to_drop(reports)
    if found is None:
        return ""
    dropped, titles = found
    words = " and ".join(f"--require {text}" for text in dropped)
    named = ", ".join(titles[:4]) + (" and others" if len(titles) > 4 else "")
    count = "1 method comes" if len(titles) == 1 else f"{len(titles)} methods come"
    return f"Without {words} {count} back: {named}."
