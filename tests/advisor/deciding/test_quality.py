"""Two predictions compared: by which noise, in which direction, and with which odds a lead is taken as one."""

from __future__ import annotations

from statistics import NormalDist

import pytest

from advisor.deciding.quality import Point, baseline_of, leads, noise_between, point_of, value_of
from tests.advisor.factories import GB, candidate


def point(value, down=0.5, up=0.5, noise=None, gigabytes=1.0):
    return Point(value, value - down, value + up, gigabytes * GB, noise)


@pytest.mark.parametrize(("lead", "is_beaten"), [(0.045, False), (0.06, True)])
def test_candidates_of_one_race_are_compared_by_the_noise_of_both_and_not_by_what_is_common_to_them(lead, is_beaten):
    other = point(0.5, noise=0.04)
    assert point(0.5 + lead, noise=0.03).beats(other) is is_beaten
    assert not point(0.5 + lead, noise=None).beats(other)


@pytest.mark.parametrize(("steps", "is_ahead"), [(10, False), (52, True), (100, False)])
def test_one_that_went_less_far_than_the_other_shares_less_with_it(steps, is_ahead):
    """One run that is over made all others as far apart from each other as from it."""
    further = Point(0.5, 0.1, 0.9, GB, noise=0.03, noise_apart=0.2, probed_steps=55)
    other = Point(0.4, 0.0, 0.8, GB, noise=0.03, noise_apart=0.2, probed_steps=steps)
    assert further.beats(other) is is_ahead
    assert further.noise_against(other) == other.noise_against(further)


def test_a_race_without_noise_is_decided_by_any_difference():
    assert point(0.501, noise=0.0).beats(point(0.5, noise=0.0))


def test_elsewhere_the_halves_of_the_intervals_that_face_each_other_count():
    ahead, behind = point(0.56, down=0.05, up=0.4), point(0.50, down=0.4, up=0.02)
    assert ahead.beats(behind)
    assert not point(0.56, down=0.05).beats(point(0.50, up=0.05))


@pytest.mark.parametrize("lead", [0.1, 0.3, 0.37, 0.5, 1.5])
def test_one_leads_with_odds_of_two_to_one(lead):
    odds = NormalDist().cdf(lead * NormalDist().inv_cdf(0.9))  # the noise, 1, is the half-width of an 80 % interval
    assert point(lead, noise=1.0).leads(point(0.0, noise=0.0)) == (odds > 2 / 3)


def test_of_equals_that_are_known_exactly_none_is_ahead():
    same = [point(0.5, down=0.0, up=0.0), point(0.5, noise=0.0)]
    assert not any(a.beats(a) or a.leads(a) for a in same)


@pytest.mark.parametrize(("more", "is_same"), [(1.002, True), (1.015, False)])
def test_memory_counts_in_steps_of_one_percent(more, is_same):
    assert (point(0.5, gigabytes=10).memory_step == point(0.5, gigabytes=10 * more).memory_step) is is_same


def test_a_lower_loss_is_a_higher_quality_with_its_interval_turned_around():
    loss = candidate(loss=1.2).predicted_loss.model_copy(update={"low": 1.1, "high": 1.5})
    found = point_of(candidate(predicted_loss=loss), "predicted_loss")
    assert (found.value, found.low, found.high) == (-1.2, -1.5, -1.1)


def test_the_untuned_model_is_told_in_the_quality_that_is_compared():
    base = candidate(baseline_value=0.04, baseline_loss=2.4)
    assert (baseline_of(base, "predicted"), baseline_of(base, "predicted_loss")) == (0.04, -2.4)
    for missing in ("predicted", "baseline_value"):
        assert baseline_of(base.model_copy(update={missing: None}), "predicted") is None


def test_what_nothing_is_predicted_of_is_worse_than_anything_and_leads_nothing():
    unknown = candidate(quality=None)
    assert value_of(unknown, "predicted") < value_of(candidate(quality=0.0), "predicted")
    assert not leads(unknown, candidate(), "predicted") and not leads(candidate(), unknown, "predicted")


def test_the_noise_that_is_told_is_that_by_which_the_better_one_beats_the_other():
    sharp, vague = candidate(quality=0.6, noise=0.01), candidate(quality=0.5, noise=0.05)
    expected = point_of(sharp, "predicted").noise_against(point_of(vague, "predicted"))
    assert noise_between(sharp, vague, "predicted") == noise_between(vague, sharp, "predicted") == expected
