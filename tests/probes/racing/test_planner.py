"""Races are planned to fit into their budget."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.racing.plan import RATES_SETTLED, stop_step
from probes.racing.planner import (
    FINALISTS_FAR_ENOUGH,
    FIRST_FRACTION,
    METHODS_WORTH_RATES,
    _Clock,
    plan_race,
)
from probes.racing.race import Race
from tests.probes.races import drive, entry, grid, plan


@given(
    methods=st.integers(1, 20),
    rates=st.integers(1, 3),
    budget_s=st.floats(1, 1e5),
    workers=st.integers(1, 8),
    overhead_s=st.floats(0, 5),
)
def test_a_plan_keeps_to_the_budget_and_names_who_is_not_tried(methods, rates, budget_s, workers, overhead_s):
    entries, run_s = grid(methods, rates)
    made = plan_race(entries, run_s, budget_s, workers, overhead_s)
    entered = {e.id for e in made.entries}
    assert entered | set(made.not_tried) == set(run_s) and not entered & set(made.not_tried)
    assert list(made.fractions) == sorted(set(made.fractions)) and made.fractions[-1] <= 1
    assert len(made.keep) == len(made.fractions) - 1 and list(made.keep) == sorted(made.keep, reverse=True)
    assert {e.method for e in made.entries} >= {"lora"}
    assert all(sum(e.method == m for e in made.entries) == rates for m in {e.method for e in made.entries})
    if len({e.method for e in made.entries}) > workers:
        assert made.expected_s <= budget_s * (1 + 1e-9)


def test_a_larger_budget_never_tries_fewer_or_shorter():
    entries, run_s = grid(12)
    plans = [plan_race(entries, run_s, budget_s, 2) for budget_s in (10, 50, 100, 300, 1000, 5000)]
    for small, large in pairwise(plans):
        assert len(small.entries) <= len(large.entries)
        assert small.fractions[-1] <= large.fractions[-1]
    assert plans[-1].fractions[-1] == 1 and not plans[-1].not_tried


def test_fewer_are_kept_where_that_takes_the_finalists_to_half_of_the_run():
    entries, run_s = grid(24, rates=1)
    entries = [e for e in entries if e.method != "lora"]  # a reference would run along
    small, middle, large = (plan_race(entries, run_s, share * 2300.0) for share in (0.08, 0.1, 0.2))
    assert middle.keep == (6, 3, 2) and 0.4 < middle.fractions[-1] < 1
    assert small.keep == (6, 5) and small.fractions[-1] == 0.2, "two that come no further are no better than many"
    assert large.keep >= (8, 6, 3) and large.fractions[-1] == 1


def test_second_rates_are_paid_for_by_the_methods_that_have_them():
    entries, run_s = grid(12, rates=1)
    lower = replace(entries[3], id="lower", learning_rate=entries[3].learning_rate / 3)
    made = plan_race([*entries, lower], run_s | {"lower": 100.0}, 170.0)
    assert made.two_rates and not made.not_tried
    assert made.fractions[-1] > 0.3, "one method runs along at two rates, not each"


def test_spare_rates_enter_only_where_the_finalists_reach_the_end_in_any_case():
    entries, run_s = grid(8)
    lowest = min(e.learning_rate for e in entries)
    entries = [replace(e, spare=e.learning_rate == lowest) for e in entries]
    small, large = (plan_race(entries, run_s, budget_s) for budget_s in (250.0, 4000.0))
    assert not any(e.spare for e in small.entries) and small.fractions[-1] < 1
    assert len(large.entries) == len(entries) and large.fractions[-1] == 1
    assert not small.not_tried, "a method that enters is tried, whatever it does without"
    without = plan_race([e for e in entries if not e.spare], run_s, 250.0)
    assert small == without and small.two_rates, "what they would have cost takes two rates of the others further"
    assert not plan_race(grid(8)[0], run_s, 250.0).two_rates
    only_spare = [e for e in entries if e.spare]
    assert plan_race(only_spare, run_s, 250.0).entries, "there is nothing else to try"


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_where_no_budget_is_enough_every_worker_still_has_a_method(workers):
    entries, run_s = grid(8, rates=1)
    assert len(plan_race(entries, run_s, 1e-3, workers=workers).entries) == workers
    slower = {id: seconds * (1 + (id != entries[0].id)) for id, seconds in run_s.items()}
    assert len(plan_race(entries, slower, 1e-3, workers=workers).entries) == 1, "nobody waits for a slower one"


def test_a_small_budget_still_compares_as_many_methods_as_it_can_on_one_worker():
    entries, run_s = grid(8, rates=1)
    made = [plan_race(entries, run_s, b) for b in (3.0, 8.0, 14.0, 30.0, 60.0, 90.0)]
    assert [len(plan.methods) for plan in made] == [3, 6, 6, 6, 6, 8]
    assert [len(plan.fractions) for plan in made] == [1, 1, 1, 1, 1, 3]
    assert made[3].fractions == (pytest.approx(30 / 600),), "all that the budget has"


@pytest.mark.parametrize(("methods", "share", "rungs"), [(3, 0.1, 1), (5, 0.1, 1), (5, 0.2, 4), (8, 0.13, 4)])
def test_all_of_a_few_methods_run_as_far_as_they_can_before_one_is_left_out(methods, share, rungs):
    entries, run_s = grid(methods, rates=1)
    made = plan_race(entries, run_s, 100.0 * methods * share)
    assert len(made.methods) == methods and len(made.fractions) == rungs
    assert made.fractions[0] == pytest.approx(share if rungs == 1 else FIRST_FRACTION)


def test_a_short_run_comes_to_its_end_where_the_budget_is_large():
    """Of 38 steps the first eight are 21 %, and three rungs end at 84 %."""
    entries, run_s = grid(4)
    made = plan_race(entries, run_s, 1e6, shortest_fraction=8 / 38)
    assert made.fractions[-1] == 1


@pytest.mark.parametrize("budget_s", range(300, 2400, 150))
def test_what_is_measured_at_the_end_is_paid_for_by_whoever_comes_to_it(budget_s):
    """Where there is time for all steps of the finalists but not for that, they stop before the end."""
    entries, run_s = grid(3, run_s=300.0)
    made = plan_race(entries, run_s, budget_s, overhead_s=5.0, shortest_fraction=8 / 300, end_s=60.0)
    assert (made.fractions[-1] == 1) == (stop_step(made.fractions[-1], 300) == 300)
    assert made.expected_s <= budget_s


@pytest.mark.parametrize(("methods", "enough_s", "too_little_s"), [(1, 200.0, 100.0), (4, 800.0, 400.0)])
def test_time_to_spare_takes_a_second_rate_of_each_method_to_the_end(methods, enough_s, too_little_s):
    entries, run_s = grid(methods)
    large, small = (plan_race(entries, run_s, budget_s, 2) for budget_s in (enough_s, too_little_s))
    assert large.rates_to_the_end and large.keep[-1] == methods and large.expected_s <= enough_s
    assert not small.rates_to_the_end
    rungs = drive(Race(large), {e.id: 1.0 + e.learning_rate for e in entries})
    assert [len(ids) for ids in rungs] == [3 * methods, methods, methods, methods], "the lowest leads: none is below it"
    rungs = drive(Race(large), {e.id: 2.0 - e.learning_rate for e in entries})
    assert [len(ids) for ids in rungs] == [3 * methods, *[2 * methods] * 3]


def test_a_run_that_ends_in_its_third_rung_has_no_further_one():
    entries, run_s = grid(5)
    made = plan_race(entries, run_s, 1e6, shortest_fraction=8 / 20)
    assert made.fractions == (0.25, 0.5, 1.0) and len(made.keep) == 2
    entries, run_s = grid(5, run_s=10.0)
    assert plan_race(entries, run_s, 100.0, shortest_fraction=8 / 20).expected_s <= 100


@pytest.mark.parametrize("steps", [30_000, 100_000, 1_000_000])
def test_of_a_long_run_the_first_rung_is_as_long_as_the_budget_allows(steps):
    entries, run_s = grid(20, run_s=0.4 * steps)
    made = plan_race(entries, run_s, 900.0, overhead_s=2.0, shortest_fraction=8 / steps)
    assert made.fractions[0] * steps > 10 and 850 < made.expected_s <= 900
    assert " 0.0 %" not in " ".join(made.lines())


def test_a_small_budget_spans_the_families_and_keeps_the_first_rung_long():
    entries, run_s = grid(12)
    made = plan_race(entries, run_s, 300.0)
    assert {e.family for e in made.entries} == {f"family{i}" for i in range(4)}
    assert made.fractions[0] == FIRST_FRACTION
    assert made.not_tried and set(made.not_tried.values()) == {"the budget does not reach it"}


def test_second_rates_never_cost_methods_or_the_length_of_the_first_rung():
    entries, run_s = grid(12)
    plans = [plan_race(entries, run_s, budget_s) for budget_s in range(20, 2000, 60)]
    assert {made.two_rates for made in plans} == {True, False}
    assert plans[-1].two_rates
    counts = [len(made.entries) for made in plans]
    assert counts == sorted(counts)


@pytest.mark.parametrize("budget_s", [300.0, 500.0, 800.0, 1500.0])
def test_a_race_costs_what_its_plan_says(budget_s):
    entries, run_s = grid(12)
    made = plan_race(entries, run_s, budget_s)
    # The lowest rate does best, so that no method has a lower one to keep; the middle one, so that each has.
    for best, exactly in ((2, False), (1, True)):
        losses = {e.id: 1 + i / 1000 + (e.learning_rate != 10.0**-best) for i, e in enumerate(made.entries)}
        rungs = drive(Race(made), losses)
        stretches = [b - a for a, b in pairwise((0.0, *made.fractions))]
        cost_s = sum(len(ids) * stretch * 100.0 for ids, stretch in zip(rungs, stretches, strict=True))
        assert cost_s <= made.expected_s * 1.001 <= budget_s * 1.001
        assert not exactly or cost_s > 0.85 * made.expected_s


def test_of_very_many_no_more_go_on_and_the_finalists_go_further():
    entries, run_s = grid(58)
    made = plan_race(entries, run_s, 1900.0)
    assert len(made.entries) == 3 * 58
    assert made.keep == (21, 16, 8)
    assert made.fractions[-1] > 0.5


def test_a_plan_runs_to_its_end():
    entries, run_s = grid(8)
    made = plan_race(entries, run_s, 600.0)
    losses = {e.id: 1 + i / 100 for i, e in enumerate(made.entries)}
    rungs = drive(Race(made), losses)
    assert len(rungs) == len(made.fractions)
    assert len(rungs[-1]) == made.keep[-1]


def with_usual(entries):
    """The middle one of three rates."""
    return [replace(e, usual=e.learning_rate == 1e-2) for e in entries]


def test_a_race_too_short_to_compare_rates_takes_the_usual_ones():
    entries, run_s = grid(8)
    entries = with_usual(entries)
    short, long = (plan_race(entries, run_s, budget_s) for budget_s in (150.0, 400.0))
    assert short.rates_left_out and {e.learning_rate for e in short.entries} == {1e-2}
    assert len(short.entries) == 8 and not short.not_tried, "room for all methods"
    assert "usual learning rate" in short.lines()[0]
    assert long.compares_rates and not long.rates_left_out and long.fractions[-1] > RATES_SETTLED
    for budget_s in range(20, 1000, 30):
        made = plan_race(entries, run_s, budget_s)
        assert made.compares_rates is not made.rates_left_out, "never rates of which the first rung decides"
    assert "usual" not in long.lines()[0]
    without = [e for e in entries if e.method != "m1" or e.learning_rate != 1e-2]
    assert {e.method for e in plan_race(without, run_s, 150.0).entries} == {e.method for e in entries}


@pytest.mark.parametrize(("warmup_fraction", "settled"), [(0.0, 0.1), (0.03, 0.1), (0.1, 0.2), (0.25, 0.5)])
def test_after_a_long_warm_up_rates_are_compared_for_longer(warmup_fraction, settled):
    entries, run_s = grid(8)
    made = plan_race(with_usual(entries), run_s, 800.0, warmup_fraction=warmup_fraction)
    kept_both = [fraction for rung, fraction in enumerate(made.fractions[:-1]) if made.keeps_two_rates(rung)]
    settled_at = [fraction for fraction in made.fractions[:-1] if fraction not in kept_both]
    assert made.rates_settled == settled and made.compares_rates
    assert max(kept_both) < settled and all(fraction >= settled for fraction in settled_at)


def test_of_a_short_run_two_methods_and_their_rates_are_compared_in_one_rung():
    """Its first rung is a quarter of it, from where rates are told apart."""
    entries, run_s = grid(2)
    small, middle, large = (plan_race(with_usual(entries), run_s, b, shortest_fraction=0.25) for b in (150, 250, 400))
    for made in (small, middle):
        assert made.methods == {"lora", "m01"} and made.compares_rates and len(made.fractions) == 1
    assert middle.fractions[0] == pytest.approx(250 / 600)
    assert large.methods == {"lora", "m01"} and large.compares_rates


def test_usual_rates_are_probed_first_so_that_a_race_that_is_cut_off_has_seen_all_methods():
    entries, run_s = grid(8)
    made = plan_race(with_usual(entries), run_s, 1000.0)
    assert made.has_rates and [e.usual for e in made.entries] == [True] * 8 + [False] * 16
    assert made.entries[0].method == made.entries[8].method == "lora"


def test_of_very_many_some_are_compared_at_their_rates_before_all_enter_at_one():
    entries, run_s = grid(40)
    entries = with_usual(entries)
    budgets = [300.0, 500.0, 900.0]
    short, some, more = (plan_race(entries, run_s, budget_s) for budget_s in budgets)
    assert short.rates_left_out
    for made in (some, more):
        assert made.compares_rates and made.fractions[-1] >= FINALISTS_FAR_ENOUGH and made.expected_s <= made.budget_s
    counts = [len({e.method for e in made.entries}) for made in (some, more)]
    assert METHODS_WORTH_RATES <= counts[0] < counts[1] < 40


def test_a_rung_takes_as_long_as_its_workers_share_of_the_work_and_no_less_than_its_slowest_probe():
    """The first rung knows who is slow, later ones the mean (40 s)."""
    entries = [entry(m) for m in "abc"]
    run_s = dict(zip((e.id for e in entries), (10.0, 10.0, 100.0), strict=True))
    two_rungs = plan(entries, fractions=(0.1, 1.0), keep=(2,))
    assert clock_of(run_s, workers=1).wall_s(two_rungs) == pytest.approx(3 * (4 + 2) + 2 * (36 + 2))
    assert clock_of(run_s, workers=3).wall_s(two_rungs) == pytest.approx((10 + 2) + (36 + 2))


def clock_of(run_s, workers):
    return _Clock(run_s, workers, overhead_s=2.0)


def test_two_are_kept_to_the_end_for_a_comparison():
    entries, run_s = grid(6, rates=1)
    assert min(plan_race(entries, run_s, 120.0).keep) == 2


def test_what_is_measured_for_comparison_takes_no_place_of_a_small_field():
    entries, run_s = grid(8, rates=1)
    entries[1] = replace(entries[1], reference_only=True, prior=1.0)
    plans = [plan_race(entries, run_s, budget_s=budget_s) for budget_s in (0.01, 40.0, 10_000.0)]
    fields = [{e.id for e in plan.entries} for plan in plans]
    assert entries[1].id not in fields[0] | fields[1] and len(fields[1]) > 1
    assert fields[2] == {e.id for e in entries}
