"""Where nothing could be recommended: why, and what to change."""

from __future__ import annotations

import math

from advisor.recommendation import Result
from advisor.requirements.effects import advice_on_dropping
from advisor.text import bytes_text, clean, duration_text
from probes.schema import FAILURES


def why_no_pick(result: Result) -> str:
    """As the end of a sentence without its full stop."""
    race = result.race
    if ran_out_of_time(result):
        return "no probe was evaluated in time"
    if race is not None and race.ended_by:
        return f"the race could not go on: {clean(race.ended_by).rstrip('.')}"
    if race is not None and race.interrupted and not _was_evaluated(result):
        return "the race was interrupted before a probe was evaluated"
    return "no candidate had a valid result that fits"


def advice_without_pick(result: Result) -> str:
    """What to change: the budget, the requirements or the memory of the run, if it was these."""
    race = result.race
    if ran_out_of_time(result):
        needed = math.ceil((race.duration_s + race.expected_s) / 60)
        return (
            f"The budget of {duration_text(race.budget_s)} ended before a probe was evaluated: the planned ones "
            f"take about {duration_text(race.expected_s)}. Give --budget {needed}, or a smaller model."
        )
    if race is not None and (race.ended_by or (race.interrupted and not _was_evaluated(result))):
        return "The same command with its --out and --resume goes on from what was measured."
    measured = [c for c in result.candidates if c.curve.points or c.predicted]
    if any(c.violates for c in measured):
        return f"{clean(advice_on_dropping(measured))} Or loosen its limit."
    if measured and all(c.status == "reference" for c in measured):
        return "What was measured is for comparison and never recommended: name other --methods, or none for all."
    if measured and all(c.memory is None for c in measured):
        return "No dry run of their memory is possible, so what fits is unknown: probe on the planned card itself."
    less_memory = (
        f"Limit {bytes_text(result.device.limit_bytes)}. A smaller --batch-size or --max-length, "
        "--gradient-checkpointing or --quantize nf4 need less memory."
    )
    words = less_memory if _lacked_memory(result) else "None of them lacked memory; each is told with its reason."
    return words + (" A longer --budget tries more." if any(c.status == "not tried" for c in result.candidates) else "")


def ran_out_of_time(result: Result) -> bool:
    """Whether the budget ended before any probe was evaluated."""
    race = result.race
    if race is None or race.dry_run or race.interrupted or race.ended_by:
        return False
    return not _was_evaluated(result) and any(c.status == "not tried" for c in result.candidates)


def _was_evaluated(result: Result) -> bool:
    """Whether any probe came to a first point, or to a failure that speaks for itself."""
    return any(c.curve.points or c.status in FAILURES for c in result.candidates)


def _lacked_memory(result: Result) -> bool:
    return any(c.fits is False or c.status == "out of memory" for c in result.candidates)
