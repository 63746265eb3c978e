"""What chose the pick among those that it is tied with, in words."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.deciding.case import Case
from advisor.deciding.costs import KEPT_GAIN, Step
from advisor.deciding.quality import value_of
from advisor.recommendation import CandidateReport
from advisor.text import bytes_text, duration_text, listed, rounded
from knowledge.prior import REFERENCE


def tie_breaker(case: Case) -> str:
    """What decided: among those as good as each other the costs, else the expected value or the objective."""
    because = [words for step in case.steps if (words := _words_of(step, case))]
    equal = _equal_in_all(case)
    apart = f"nothing tells it from {listed([c.title for c in equal])}"
    if because:
        return f"{_among(case)}taken because {listed(because)}" + (f"; {apart}" if equal else "")
    if equal:
        plain = f", and {case.pick.title} is what others are measured against" if case.pick.name == REFERENCE else ""
        return apart + plain
    if any(_is_ahead(c, case) for c in case.as_good):  # by less than is taken for equal
        return "taken because it needs the least memory of those that are expected to end alike"
    return _likely_best(case) or _by_objective(case)


def _among(case: Case) -> str:
    """A tie may still be probably worse than the target, and was then not asked for its costs."""
    asked = len(case.as_good)
    left_ahead = any(_is_ahead(c, case) for c in case.ties if c not in case.contenders)
    stayed = "among those that stayed in the race, " if left_ahead else ""
    better = any(_is_ahead(c, case) for c in case.contenders if c not in case.as_good)
    likely = "expected to end alike" if better else "most likely to end best"
    return "" if asked == len(case.ties) else f"{stayed}of the {asked + 1} {likely} it is "


def _is_ahead(candidate: CandidateReport, case: Case) -> bool:
    return value_of(candidate, case.quality) > value_of(case.pick, case.quality)


def _words_of(step: Step, case: Case) -> str:
    """By what the pick is ahead of those that one of the costs took out."""
    dearer = [c for c in step.dearer if c in case.as_good]
    if step.cost == "forgetting":  # more than noise worse than one that is gone too is not worse than the pick
        dearer = [c for c in dearer if _forgets_less_than(case.pick, c)]
    if not dearer:
        return ""
    than = "" if len(dearer) == len(case.as_good) else listed([c.title for c in dearer])
    words = {"memory": _less_memory, "forgetting": _forgets_less, "time": _faster, "effort": _easier}[step.cost]
    return words(case.pick, dearer, than)


def _forgets_less_than(pick: CandidateReport, other: CandidateReport) -> bool:
    """As far as both are known, and the pick was not measured earlier in its run, where less is forgotten yet."""
    if None in (pick.forgetting, other.forgetting):
        return False
    return pick.forgetting < other.forgetting and (pick.forgetting_share or 0.0) >= (other.forgetting_share or 0.0)


def _less_memory(pick: CandidateReport, dearer: Sequence[CandidateReport], than: str) -> str:
    saved = bytes_text(min(c.memory.peak_bytes for c in dearer) - pick.memory.peak_bytes)
    return f"it needs {f'less memory than {than}' if than else 'the least memory'} ({saved} less)"


def _forgets_less(pick: CandidateReport, dearer: Sequence[CandidateReport], than: str) -> str:
    theirs = ", ".join(f"{c.title} {rounded(c.forgetting, 2):.2f}" for c in dearer[:3])
    how = f"less of the base model than {than}" if than else "least of the base model"
    return f"it forgets {how} ({rounded(pick.forgetting, 2):.2f} nats per token; {theirs})"


def _faster(pick: CandidateReport, dearer: Sequence[CandidateReport], than: str) -> str:
    times = [c.planned_run_s for c in dearer if c.planned_run_s is not None]
    saved = f" ({duration_text(min(times) - pick.planned_run_s)} less)" if times else ""
    return f"it is {f'faster than {than}' if than else 'the fastest of them'}{saved}"


def _easier(pick: CandidateReport, _: Sequence[CandidateReport], than: str) -> str:
    if pick.capabilities.get("vllm") == "adapter":
        return "vLLM serves its adapter as it is"
    return f"it is {f'less effort to serve than {than}' if than else 'the least effort to serve'}"


def _equal_in_all(case: Case) -> list[CandidateReport]:
    """Those that no cost took out, and that are expected to end where the pick does."""
    gone = [c for step in case.steps for c in step.dearer]
    value = value_of(case.pick, case.quality)
    return [c for c in case.as_good if c not in gone and value_of(c, case.quality) == value]


def _likely_best(case: Case) -> str:
    """That the pick will probably end best, and among whom; '' where another that might be picked will. A forecast
    that is ahead counts for less than a race in which it was behind at equal steps."""
    if any(_is_ahead(c, case) for c in case.contenders):
        return ""
    left_ahead = any(_is_ahead(c, case) for c in case.ties)
    return f"taken because it will probably end best{' of those that stayed in the race' if left_ahead else ''}"


def _by_objective(case: Case) -> str:
    if case.objective not in KEPT_GAIN:
        return "taken as the best trade of quality, memory and time"
    least = {"memory": "needs the least memory", "speed": "is the fastest"}[case.objective]
    return f"taken because it {least} of those that keep {100 * KEPT_GAIN[case.objective]:.0f} % of the gain"
