"""Which of a method's learning rates stands for it: among the methods, and as what others are set against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from advisor.deciding.frontier import is_eligible
from advisor.deciding.quality import QualityField, leads, value_of
from advisor.recommendation import CandidateReport
from knowledge.prior import REFERENCE

Rated = TypeVar("Rated")


def best_of_each_method(candidates: Iterable[CandidateReport], quality: QualityField) -> list[CandidateReport]:
    """Each method at its best learning rate, by the names of the methods. A rate that stayed longer in the race goes
    before one that left it earlier, whatever the shorter probe promised; how far one came that was trained before says
    nothing of that."""
    rates: dict[str, list[CandidateReport]] = {}
    for c in sorted(candidates, key=lambda c: c.identity):
        rates.setdefault(c.name, []).append(c)
    return [_best(of_method, quality) for of_method in rates.values()]


def _best(rates: Sequence[CandidateReport], quality: QualityField) -> CandidateReport:
    """Of equals the lower rate."""

    def standing(c: CandidateReport) -> tuple[bool, float]:
        return c.status != "eliminated", value_of(c, quality)

    raced = [c for c in rates if not c.rests_on_own_runs]
    longest = sorted(raced, key=lambda c: (c.status != "eliminated", c.curve.last_step), reverse=True)
    alike = [c for c in raced if c.status == longest[0].status and c.curve.last_step == longest[0].curve.last_step]
    return max([*alike, *(c for c in rates if c.rests_on_own_runs)], key=standing)


def lora_to_beat(
    longest: CandidateReport, candidates: Sequence[CandidateReport], quality: QualityField
) -> CandidateReport:
    """Plain LoRA at the rate that no gain is to be claimed over alone: the one that stayed longest in the race, unless
    another is probably ahead."""
    rates = [c for c in candidates if c.name == REFERENCE and is_eligible(c, quality)]
    value, is_ahead = (partial(of, quality=quality) for of in (value_of, leads))
    return rate_that_stands(longest, sorted(rates, key=lambda c: c.identity), value, is_ahead)


def rate_that_stands(
    kept: Rated, rates: Iterable[Rated], value: Callable[[Rated], float], leads: Callable[[Rated, Rated], bool]
) -> Rated:
    """Of a method's rates the one that a race kept, unless another is probably ahead of it; higher `value` is better.

    A high rate may lead a race and be overtaken, but a forecast from a short probe may promise too much. Of a quarter
    of methods the kept rate is not the one that is foretold to end best: after races of a fifth of the sweep's cost it
    then ends .09 nats above the method's best, the foretold one .24, and this one .07 (means of sixteen tasks;
    python -m tests.benchmarks.new_task).
    """
    ahead = [rate for rate in rates if leads(rate, kept)]
    return max(ahead, key=value, default=kept)
