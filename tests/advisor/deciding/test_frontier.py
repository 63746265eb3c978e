"""The Pareto set: its laws over random candidates, and the noise that a lead has to exceed."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.deciding.frontier import is_eligible, pareto_members
from advisor.deciding.quality import Point, beats, point_of, tied
from tests.advisor.factories import candidate, memory

qualities = st.floats(-5, 5)
halves = st.floats(0, 1)
bytes_used = st.integers(10**6, 10**12)


@st.composite
def points(draw):
    value, down, up = draw(qualities), draw(halves), draw(halves)
    return Point(value, value - down, value + up, draw(bytes_used))


broken = st.builds(
    Point,
    value=st.sampled_from([math.nan, math.inf, -math.inf, 0.5]),
    low=st.sampled_from([math.nan, -math.inf]),
    high=st.sampled_from([math.nan, math.inf, 1.0]),
    peak_bytes=st.sampled_from([math.nan, math.inf, 0, 10**9]),
)


@given(st.lists(st.one_of(points(), broken), max_size=25), st.sampled_from([0.0, 0.5]))
def test_laws_of_the_set(field, least_lead):
    def is_ahead(a, b):
        return a.value - b.value > least_lead

    members = pareto_members(field, least_lead)
    for index in members:
        assert field[index].is_finite
        rivals = [field[m] for m in members if m != index]
        # dominated = another costs no more and is no worse
        assert not any(r.memory_step <= field[index].memory_step and not is_ahead(field[index], r) for r in rivals)
    for index, point in enumerate(field):
        if index not in members and point.is_finite:
            assert any(field[m].memory_step <= point.memory_step and not is_ahead(point, field[m]) for m in members)
    assert bool(members) == any(p.is_finite for p in field)


@given(st.lists(points(), max_size=15), st.randoms(use_true_random=False))
def test_order_of_candidates_does_not_matter(field, shuffler: random.Random):
    shuffled = field.copy()
    shuffler.shuffle(shuffled)
    assert [field[i] for i in pareto_members(field)] == [shuffled[i] for i in pareto_members(shuffled)]


@given(points(), points())
def test_two_points_never_beat_each_other(a, b):
    assert not (a.beats(b) and b.beats(a))
    assert not a.beats(a)


@given(points(), points(), st.floats(0, 10))
def test_being_less_known_never_helps(a, b, more):
    vaguer = Point(b.value, b.low - more, b.high + more, b.peak_bytes)
    if vaguer.beats(a):
        assert b.beats(a)  # a wider interval gives no win that a narrow one did not have
    if a.beats(b) and b.high - b.value >= a.value - a.low:
        assert a.beats(vaguer)  # nor does it save from a defeat, once wide enough to count in full


def test_of_two_that_are_expected_to_end_alike_the_cheaper_stands_for_both():
    cheap, dear, best = candidate("a", 0.50, 10), candidate("b", 0.505, 12), candidate("c", 0.60, 14)
    assert tied(cheap, dear, "predicted")
    assert beats(best, cheap, "predicted")
    field = [point_of(c, "predicted") for c in (dear, best, cheap)]
    assert pareto_members(field) == [2, 0, 1]  # a lead within noise is one
    assert pareto_members(field, least_lead=0.01) == [2, 1]


def test_memory_within_one_percent_is_equal_so_the_better_one_stays():
    worse, better = candidate("a", 0.40, 10.00), candidate("b", 0.60, 10.01)
    assert pareto_members([point_of(worse, "predicted"), point_of(better, "predicted")]) == [1]


def test_a_vague_candidate_does_not_stay_by_its_upper_end():
    sharp, vague = candidate("a", 0.6, 12, noise=0.01), candidate("b", 0.3, 10, noise=0.4)
    assert beats(sharp, vague, "predicted")
    assert not beats(candidate("c", 0.65, 10, noise=0.4), sharp, "predicted")


def test_losses_are_better_when_lower():
    low, high = candidate("a", 0.5, 10, loss=0.8), candidate("b", 0.5, 10, loss=1.2)
    assert beats(low, high, "predicted_loss")


@pytest.mark.parametrize("field", ["value", "low", "high", "peak_bytes"])
def test_what_is_not_a_number_is_in_no_set(field):
    sound = Point(0.5, 0.4, 0.6, 10e9)
    assert pareto_members([replace(sound, **{field: math.nan}), sound]) == [1]
    assert pareto_members([replace(sound, peak_bytes=0), sound]) == [1]


def test_more_memory_is_worth_it_only_against_every_cheaper_one():
    cheap, dear, dearer = (Point(value, value, value, peak) for value, peak in ((0.4, 10e9), (0.3, 11e9), (0.35, 12e9)))
    assert pareto_members([cheap, dear, dearer]) == [0]


@pytest.mark.parametrize("status", ["diverged", "out of memory", "failed", "ineffective", "reference", "not tried"])
def test_only_valid_results_are_eligible(status):
    assert not is_eligible(candidate(status=status), "predicted")
    assert is_eligible(candidate(), "predicted")
    assert not is_eligible(candidate(fits=False), "predicted")
    assert not is_eligible(candidate(memory=None), "predicted")
    assert is_eligible(candidate(memory=memory(1.0)), "predicted")
