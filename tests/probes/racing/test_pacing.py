"""What fits into the time that is left of a race: never more than it holds, and as much as is worthwhile."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from probes.racing.pacing import (
    FITTED_TO,
    NEARLY_THE_END,
    Pace,
    come_to_the_end_in_time,
    measured_pace,
    next_rung_in_time,
    rung_for_what_is_left,
    with_last_rung,
)
from probes.racing.plan import Entry, RacePlan
from probes.racing.planner import WORTHWHILE_STRETCH
from probes.schema import ProbeOutcome

ENTRIES = tuple(
    Entry(f"m{i}@{rate:g}", f"m{i}" if i else "lora", "f", rate, 10, 0.5) for i in range(60) for rate in (1e-4, 1e-3)
)
PACES = st.builds(
    Pace,
    run_s=st.floats(1, 1000),
    overhead_s=st.floats(0, 20),
    workers=st.integers(1, 8),
    end_s=st.one_of(st.just(0.0), st.floats(0, 100)),
)
SECONDS = st.floats(-10, 10_000)


def outcome(first: int, last: int, duration_s: float, train_s: float) -> ProbeOutcome:
    return ProbeOutcome(
        id="x", status="finished", first_step=first, last_step=last, duration_s=duration_s, train_s=train_s
    )


METHODS = ["lora", *(f"m{i}" for i in range(1, 60))]


def probes_of(plan: RacePlan, methods: int, alive: int = 60) -> int:
    """With the reference, and at two rates where rates are not settled yet."""
    return min(alive, methods + 1) * (2 if plan.keeps_two_rates(len(plan.fractions) - 1) else 1)


def test_the_pace_is_that_of_each_candidates_last_job():
    first, second = outcome(0, 10, 15.0, 10.0), outcome(10, 30, 44.0, 50.0)  # 1 s, then 2 s a step
    assert measured_pace([[first, second]], 100, workers=2) == Pace(200.0, 4.0, 2)
    assert measured_pace([[first, second], [first]], 100, workers=1) == Pace(150.0, 4.5, 1)


def test_a_worker_that_was_lost_in_between_does_not_slow_the_pace():
    first, second = outcome(0, 10, 15.0, 10.0), outcome(10, 30, 60.0, 50.0)
    lost = outcome(0, 0, 9.0, 0.0).model_copy(update={"status": "failed", "worker_lost": True})
    ran_out = outcome(10, 15, 12.0, 20.0).model_copy(update={"status": "out of memory"})
    for failed in (lost, ran_out):
        assert measured_pace([[first, failed, second]], 100, 1) == measured_pace([[first, second]], 100, 1)
    assert measured_pace([[first, lost]], 100, 1) == measured_pace([[first]], 100, 1), "it is the last"


def test_who_leaves_no_checkpoint_pays_for_its_beginning_again():
    on, anew = [outcome(0, 10, 10.0, 10.0), outcome(10, 20, 10.0, 20.0)], [outcome(0, 10, 10.0, 10.0)] * 2
    assert measured_pace([on, on], 100, 1).begin(0.4) == 0.4
    assert measured_pace([on, anew], 100, 1).begin(0.4) == 0.2
    assert measured_pace([anew], 100, 1).begin(0.4) == 0.0
    told = [outcome(0, 10, 10.0, 10.0).model_copy(update={"left_checkpoint": left}) for left in (True, False)]
    assert [measured_pace([[one]], 100, 1).begin(0.4) for one in told] == [0.4, 0.0], "after the first rung already"
    plan, pace = RacePlan(ENTRIES, (0.1, 0.2, 0.6), (40, 8)), Pace(run_s=100.0, overhead_s=0.0, again=1.0)
    assert next_rung_in_time(plan, 2, METHODS, pace, left_s=8 * 60.0) == (0.6, 8)
    assert next_rung_in_time(plan, 2, METHODS, pace, left_s=8 * 59.0) == (pytest.approx(FITTED_TO * 472 / 900), 8)
    assert rung_for_what_is_left(RacePlan(ENTRIES, (0.2, 0.5), (8,)), METHODS[:2], pace, left_s=199.0)[0] < 1


def test_the_last_steps_of_a_run_are_always_worthwhile():
    nearly = RacePlan(ENTRIES, (0.21, 0.42, 0.84), (8, 2))
    pace = Pace(run_s=38.0, overhead_s=1.0)
    assert rung_for_what_is_left(nearly, METHODS[:2], pace, left_s=600.0) == (1.0, 2)
    assert rung_for_what_is_left(nearly, METHODS[:2], pace, left_s=10.0) is None


@given(alone=st.lists(st.floats(0.1, 1e4), max_size=40), workers=st.integers(1, 4), left_s=SECONDS)
def test_who_has_time_comes_to_the_end_and_nobody_else(alone, workers, left_s):
    alone_s = {str(i): seconds for i, seconds in enumerate(alone)}
    found = come_to_the_end_in_time(alone_s, workers, left_s)
    limit_s, work_s = FITTED_TO * left_s, sum(alone_s[id] for id in found)
    assert found == [id for id in alone_s if id in set(found)]
    assert not found or work_s <= workers * limit_s * 1.001
    assert all(alone_s[id] <= limit_s for id in found)
    for id in alone_s.keys() - set(found):  # every worker is busy so long that it would end too late
        assert work_s + workers * alone_s[id] > limit_s
    assert not alone or alone[0] > limit_s or found[0] == "0"


def test_a_slow_one_keeps_nobody_from_coming():
    assert come_to_the_end_in_time({"a": 50.0, "slow": 500.0, "b": 30.0, "c": 20.0}, 1, 100.0) == ["a", "b"]


def test_without_any_step_there_is_no_pace():
    assert measured_pace([], 100, 1) is None
    assert measured_pace([[], [outcome(5, 5, 1.0, 0.0)]], 100, 1) is None


def test_training_time_that_is_not_known_is_all_of_it():
    assert measured_pace([[outcome(0, 10, 20.0, 0.0)]], 100, 1) == Pace(200.0, 0.0, 1)


@given(pace=PACES, probes=st.integers(1, 60), left_s=SECONDS, begin=st.floats(0, 0.9))
def test_reach_is_the_inverse_of_the_time_that_it_takes(pace, probes, left_s, begin):
    end = pace.reach(probes, begin, left_s)
    if end < NEARLY_THE_END:
        assert pace.wall_s(probes, begin, end) == pytest.approx(left_s, abs=1e-6)
    else:
        assert end in (NEARLY_THE_END, 1.0)
        assert pace.wall_s(probes, begin, end) <= left_s * (1 + 1e-9)
        assert (end == 1.0) == (pace.wall_s(probes, begin, 1.0) <= left_s)


def test_who_has_no_time_for_what_is_measured_at_the_end_stops_short_of_it():
    plan = RacePlan(ENTRIES, (0.05, 0.2, 1.0), (40, 2))
    pace = Pace(run_s=100.0, overhead_s=0.0, end_s=200.0)
    assert next_rung_in_time(plan, 2, METHODS, pace, left_s=560.0) == (1.0, 2)
    assert next_rung_in_time(plan, 2, METHODS, pace, left_s=559.0) == (NEARLY_THE_END, 2)
    assert next_rung_in_time(plan, 2, METHODS, replace(pace, end_s=0.0), left_s=559.0) == (1.0, 2)


@settings(max_examples=200)
@given(alive=st.integers(1, 50), pace=PACES, left_s=SECONDS, reached=st.sampled_from((0.04, 0.2, 0.7)))
def test_what_is_left_is_not_overdrawn(alive, pace, left_s, reached):
    before = RacePlan(ENTRIES, (reached / 2, reached), (alive,))
    rung, fewest = rung_for_what_is_left(before, METHODS[:alive], pace, left_s), min(2, alive)
    if rung is None:  # not even the fewest and the reference come a quarter further
        assert (
            FITTED_TO * left_s
            < pace.wall_s(probes_of(before, fewest, alive), reached, min(1.0, 1.25 * reached)) * 1.001
        )
        return
    (fraction, count), longer = rung, with_last_rung(before, *rung, alive=METHODS[:alive])
    assert (longer.fractions, longer.keep) == ((*before.fractions, fraction), (*before.keep, count))
    assert fraction >= WORTHWHILE_STRETCH * reached * 0.999
    assert fewest <= count <= alive
    assert pace.wall_s(probes_of(before, count, alive), reached, fraction) <= left_s * 1.001
    assert fraction == 1 or count == fewest
    assert longer.reference_rungs == 3


@settings(max_examples=200)
@given(pace=PACES, left_s=SECONDS, keep=st.integers(2, 30))
@example(pace=Pace(run_s=1.0, overhead_s=2.0, workers=3), left_s=3.0, keep=4)  # the fewer get to the end
def test_the_next_rung_is_cut_to_what_can_end(pace, left_s, keep):
    plan = RacePlan(ENTRIES, (0.05, 0.2, 1.0), (40, keep))
    planned_s = pace.wall_s(keep, 0.2, 1.0)  # without the reference, whose rungs are over
    rung = next_rung_in_time(plan, 2, METHODS, pace, left_s)
    if planned_s <= left_s:
        assert rung == (1.0, keep)
    elif rung is None:
        assert FITTED_TO * left_s < pace.wall_s(probes_of(plan.until(2), 2), 0.2, WORTHWHILE_STRETCH * 0.2) * 1.001
    else:
        fraction, count = rung
        assert WORTHWHILE_STRETCH * 0.2 * 0.999 <= fraction <= 1.0 and 2 <= count <= keep
        assert (fraction, count) != (1.0, keep)
        assert pace.wall_s(probes_of(plan.until(2), count), 0.2, fraction) <= left_s * 1.001


def test_a_rung_is_made_shorter_before_it_is_made_narrower():
    plan = RacePlan(ENTRIES, (0.05, 0.2, 1.0), (40, 8))
    pace = Pace(run_s=100.0, overhead_s=0.0)
    assert next_rung_in_time(plan, 2, METHODS, pace, left_s=9 * 40.0) == (pytest.approx(0.2 + FITTED_TO * 0.4), 8)
    assert next_rung_in_time(plan, 2, METHODS, pace, left_s=9 * 4.0) == (pytest.approx(0.2 + FITTED_TO * 0.36 / 6), 5)
    assert next_rung_in_time(plan, 2, METHODS, pace, left_s=10.0) is None
    assert math.isclose(pace.wall_s(9, 0.2, 0.6), 360.0)


def test_a_rung_is_not_cut_for_a_reference_that_is_not_to_run():
    plan, pace = RacePlan(ENTRIES, (0.05, 0.2, 1.0), (40, 2)), Pace(run_s=100.0, overhead_s=0.0, workers=2)
    assert next_rung_in_time(plan, 2, METHODS, pace, left_s=81.0) == (1.0, 2)
    with_reference = replace(plan, reference_rungs=3)
    assert next_rung_in_time(with_reference, 2, METHODS, pace, left_s=81.0) == (
        pytest.approx(0.2 + FITTED_TO * 0.405),
        2,
    )


def test_a_rung_is_not_cut_for_probes_that_nobody_is_there_for():
    """Of eight that were to go on five have failed, or the three that are there are the reference and all others."""
    plan, pace = RacePlan(ENTRIES, (0.1, 0.2, 0.6), (9, 8), reference_rungs=3), Pace(run_s=100.0, overhead_s=0.0)
    assert next_rung_in_time(plan, 2, METHODS[1:4], pace, left_s=121.0) == (0.6, 8)
    assert next_rung_in_time(plan, 2, METHODS[:3], pace, left_s=121.0) == (0.6, 8)
    assert next_rung_in_time(plan, 2, METHODS[:4], pace, left_s=121.0) != (0.6, 8)
    assert next_rung_in_time(plan, 2, [], pace, left_s=-1.0) == (0.6, 8)
    assert rung_for_what_is_left(plan.until(2), METHODS[1:3], pace, left_s=161.0) == (1.0, 2)


@pytest.mark.parametrize(("alive", "is_taken_along"), [(["lora", "m1", "m2"], True), (["m1", "m2"], False)])
def test_a_reference_that_has_left_is_not_said_to_go_on(alive, is_taken_along):
    longer = with_last_rung(RacePlan(ENTRIES, (0.1, 0.2), (8,), reference_rungs=2), 0.5, 2, alive=alive)
    assert ("in any case, lora" in longer.lines()[-1]) == is_taken_along
