"""What a candidate costs beside its quality, and which differences nobody feels."""

from __future__ import annotations

from itertools import pairwise

import pytest

from advisor.deciding.costs import Scale
from tests.advisor.factories import GB, candidate

HARD_TO_SERVE = {"mergeable": False, "vllm": "no"}


def scale(objective="accuracy"):
    return Scale(objective, "predicted", 24 * GB)


def test_memory_is_paid_before_time_and_time_before_the_effort_to_serve():
    small = candidate("small", 0.5, 9.0, planned_run_s=9000.0, capabilities=HARD_TO_SERVE)
    fast = candidate("fast", 0.5, 12.0, planned_run_s=300.0, capabilities=HARD_TO_SERVE)
    easy = candidate("easy", 0.5, 12.0, planned_run_s=9000.0)
    assert scale().cheapest([easy, fast, small])[0] == [small]
    assert scale().cheapest([easy, fast])[0] == [fast]


def test_where_speed_is_asked_for_time_is_paid_before_memory_and_memory_before_the_effort_to_serve():
    fast = candidate("fast", 0.5, 12.0, planned_run_s=300.0, capabilities=HARD_TO_SERVE)
    small = candidate("small", 0.5, 9.0, planned_run_s=9000.0, capabilities=HARD_TO_SERVE)
    easy = candidate("easy", 0.5, 12.0, planned_run_s=9000.0)
    assert scale("speed").cheapest([easy, small, fast])[0] == [fast]
    assert scale("speed").cheapest([easy, small])[0] == [small]


def test_an_adapter_served_as_it_is_is_less_effort_than_one_merged_first_and_that_less_than_none_that_is_served():
    served = [candidate(capabilities={"mergeable": True, "vllm": vllm}) for vllm in ("adapter", "merged", "no")]
    assert all(scale().is_easier(one, other) for one, other in pairwise(served))
    for vllm in ("adapter", "no"):
        stuck, mergeable = (candidate(capabilities={"mergeable": m, "vllm": vllm}) for m in (False, True))
        assert scale().is_easier(mergeable, stuck) and not scale().is_easier(stuck, mergeable)


@pytest.mark.parametrize(
    ("gigabytes", "is_felt"),
    [((12.0, 12.1), False), ((12.0, 12.5), True), ((0.48, 0.50), False)],
)
def test_memory_is_felt_from_about_a_percent_of_the_card(gigabytes, is_felt):
    one, other = (candidate("lora", 0.5, g) for g in gigabytes)
    assert scale().needs_less(one, other) == is_felt
    assert not scale().needs_less(other, one)


@pytest.mark.parametrize(
    ("objective", "seconds", "is_felt"),
    [
        ("accuracy", (60.0, 80.0), False),  # nobody waits for that
        ("accuracy", (60.0, 240.0), True),
        ("accuracy", (35_700.0, 36_000.0), False),  # five minutes of ten hours
        ("accuracy", (36_000.0, 39_600.0), True),
        ("speed", (3.0, 4.0), True),
        ("speed", (35_700.0, 36_000.0), False),
        ("speed", (36_000.0, 39_600.0), True),
    ],
)
def test_time_is_felt_from_some_percent_and_from_a_minute_unless_speed_is_asked_for(objective, seconds, is_felt):
    one, other = (candidate(planned_run_s=s) for s in seconds)
    assert scale(objective).is_faster(one, other) == is_felt
    assert not scale(objective).is_faster(other, one)


@pytest.mark.parametrize("objective", ["accuracy", "speed"])
def test_a_time_that_is_not_known_counts_as_longer_than_any_that_is(objective):
    unknown, week = candidate(planned_run_s=None), candidate(planned_run_s=7 * 86_400.0)
    assert scale(objective).is_faster(week, unknown)
    assert not scale(objective).is_faster(unknown, week) and not scale(objective).is_faster(unknown, unknown)


def test_what_nobody_feels_decides_nothing_however_the_figures_are_rounded():
    """Two megabytes and nine hours."""
    slow = candidate("lora", 0.5, 12.119, planned_run_s=36_000.0)
    fast = candidate("oft", 0.5, 12.121, planned_run_s=3600.0)
    assert scale().cheapest([slow, fast])[0] == [fast]
    easy = candidate("oft", 0.5, 12.0, planned_run_s=36_250.0)
    hard = candidate("lora", 0.5, 12.0, planned_run_s=36_150.0, capabilities=HARD_TO_SERVE)
    assert scale().cheapest([hard, easy])[0] == [easy]
