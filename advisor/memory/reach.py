"""The reverse of an estimate: how far a method can go on a card, and what would make it fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy

from advisor.memory.method_memory import Reach, Subject
from advisor.survey import max_positions
from knowledge.schema import PlannedRun

LARGEST_BATCH_SIZE = 1024
LENGTH_STEP_TOKENS = 64
LONGEST_TOKENS = 131072
RESOLUTION = 0.05


def find_reach(subject: Subject, run: PlannedRun, limit_bytes: int) -> Reach:
    """The largest batch at the planned length, and the longest sequence at the planned batch, that fit."""

    def peak_with_batch(size: int) -> float:
        return _peak_bytes(subject, run.model_copy(update={"batch_size": size}))

    batch_size = largest_within(limit_bytes, peak_with_batch, start=run.batch_size, largest=LARGEST_BATCH_SIZE)
    return Reach(largest_batch_size=batch_size, longest_tokens=_longest_tokens(subject, run, limit_bytes))


def cheapest_change(subject: Subject, run: PlannedRun, limit_bytes: int) -> str | None:
    """What to change so that the method fits, in words; None if nothing does.

    From cheap to dear: smaller batches with accumulation give the same training a little slower; checkpointing costs
    about a third more time; 4-bit weights and shorter rows can cost quality. Each is tried alone, then all together.
    """
    for size in (size for size in range(run.batch_size // 2, 0, -1) if run.batch_size % size == 0):
        if _fits(subject, _smaller_batch(run, size), limit_bytes):
            return f"batch size {size} with {_accumulation(run, size)} accumulation steps"
    checkpointing = run.model_copy(update={"gradient_checkpointing": True})
    nf4 = run.model_copy(update={"quantization": "nf4"})
    both = nf4.model_copy(update={"gradient_checkpointing": True})
    smallest = _smaller_batch(both, 1)
    all_words = (
        f"batch size 1 with {smallest.gradient_accumulation_steps} accumulation steps, 4-bit weights (nf4) and "
        "gradient checkpointing"
    )
    for words, changed in (
        ("gradient checkpointing", checkpointing),
        ("4-bit weights (nf4)", nf4),
        ("4-bit weights (nf4) and gradient checkpointing", both),
        (all_words, smallest),
    ):
        if _fits(subject, changed, limit_bytes):
            return words
    shorter = _longest_tokens(subject, smallest, limit_bytes)
    return shorter and f"{all_words}, and rows of at most {shorter} tokens"


def _longest_tokens(subject: Subject, run: PlannedRun, limit_bytes: int) -> int | None:
    """The longest rows that fit, in steps of LENGTH_STEP_TOKENS, up to what the model has positions for."""

    full_rows = copy(subject)  # those of the data have been cut at the planned length
    full_rows.lengths_tokens = None

    def peak_with_steps(count: int) -> float:
        return _peak_bytes(full_rows, run.model_copy(update={"max_length_tokens": count * LENGTH_STEP_TOKENS}))

    positions = max_positions(subject.config) or LONGEST_TOKENS
    count = largest_within(
        limit_bytes,
        peak_with_steps,
        start=max(1, run.max_length_tokens // LENGTH_STEP_TOKENS),
        largest=max(1, min(positions, LONGEST_TOKENS) // LENGTH_STEP_TOKENS),
    )
    return count and count * LENGTH_STEP_TOKENS


def _smaller_batch(run: PlannedRun, size: int) -> PlannedRun:
    return run.model_copy(update={"batch_size": size, "gradient_accumulation_steps": _accumulation(run, size)})


def _accumulation(run: PlannedRun, size: int) -> int:
    """For as many rows a step as before; `size` divides the batch."""
    return run.batch_size // size * run.gradient_accumulation_steps


def _fits(subject: Subject, run: PlannedRun, limit_bytes: int) -> bool:
    return _peak_bytes(subject, run) <= limit_bytes


def _peak_bytes(subject: Subject, run: PlannedRun) -> float:
    """In the worst order of batches, so that what is said to fit is also judged so. Infinite where the changed run
    cannot be followed, e.g. a method that decomposes weights on a 4-bit base."""
    from probes.memory import NotEstimable

    if subject.method.unsupported_reason(subject.shape.model_copy(update={"quantization": run.quantization})):
        return math.inf  # where PEFT would go on with something else
    try:
        return subject.estimate(run).high_bytes
    except NotEstimable:
        return math.inf


def largest_within(limit: int, peak_of: Callable[[int], float], *, start: int, largest: int) -> int | None:
    """The largest whole number from 1 to `largest` whose peak is within `limit`, to within RESOLUTION of itself; None
    if not even 1 is. The peak must not fall as the number rises.

    Each evaluation is a dry run, so the next guess is where the peak between the best two known would meet the limit.
    """
    good: tuple[int, float] | None = None
    bad: tuple[int, float] | None = None
    value = min(start, largest)
    while True:
        peak = peak_of(value)
        if peak <= limit:
            good = value, peak
        else:
            bad = value, peak
        if bad is None:
            if value == largest:
                return largest
            value = min(2 * value, largest)
        elif good is None:
            if value == 1:
                return None
            value //= 2
        else:
            gap = bad[0] - good[0]
            if gap <= max(1, int(good[0] * RESOLUTION)):
                return good[0]
            # Half way where the bad one cannot be followed at all.
            share = (limit - good[1]) / (bad[1] - good[1]) if math.isfinite(bad[1]) else 0.5
            value = good[0] + min(max(round(share * gap), 1), gap - 1)
