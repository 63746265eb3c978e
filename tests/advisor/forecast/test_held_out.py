"""The noise of comparing candidates on the same held-out rows."""

import numpy as np
import pytest

from advisor.forecast.held_out import RowsNoise, held_out_noise, metric_noise, of_all, own_parts, paired
from advisor.forecast.predictor import Forecast
from advisor.recommendation import Prediction

ROWS = 200


def drawn(seed, own, candidates=12):
    """Losses of rows that differ a lot in difficulty and by `own` in how much a candidate likes them."""
    random = np.random.default_rng(seed)
    difficulty = random.gamma(1.0, size=ROWS)
    return {f"c{i}": (1 + 0.1 * i) * difficulty * np.exp(own * random.standard_normal(ROWS)) for i in range(candidates)}


def test_what_is_hard_for_all_is_no_noise():
    assert max(held_out_noise(drawn(0, own=0.0)).values()) == pytest.approx(0.0, abs=1e-12)
    assert all(noise > 0.01 for noise in held_out_noise(drawn(0, own=0.3)).values())


def test_probes_that_were_cut_off_do_not_hide_the_noise_of_the_others():
    whole = drawn(0, own=0.3, candidates=2)
    assert held_out_noise({**whole, "cut": (), "too": (), "three": ()}) == held_out_noise(whole) != {}


@pytest.mark.parametrize("candidates", [2, 12])
def test_it_is_as_wide_as_means_over_other_rows_differ(candidates):
    """Over many draws of the rows: the standard deviation of the log of two candidates' ratio, times 1.28."""
    pairs = [drawn(seed, own=0.3, candidates=candidates) for seed in range(200)]
    ratios = [np.log(losses["c0"].mean() / losses["c1"].mean()) for losses in pairs]
    told = np.mean([np.hypot(n["c0"], n["c1"]) for n in map(held_out_noise, pairs)])
    assert told == pytest.approx(1.28 * np.std(ratios), rel=0.15)


def test_twice_the_noise_on_a_quarter_of_the_rows():
    losses = drawn(1, own=0.3)
    few = held_out_noise({id: values[: ROWS // 4] for id, values in losses.items()})
    assert few["c0"] == pytest.approx(2 * held_out_noise(losses)["c0"], rel=0.5)


def test_few_rows_tell_little_of_others_and_a_single_one_nothing():
    losses = drawn(1, own=0.3)
    two, one = (held_out_noise({id: values[:rows] for id, values in losses.items()}) for rows in (2, 1))
    assert set(one.values()) == {1.0}
    by_spread = np.mean(list(held_out_noise(losses).values())) * np.sqrt(ROWS / 2)
    assert np.mean(list(two.values())) > 1.2 * by_spread


def test_a_single_candidate_keeps_all_of_it_and_other_rows_are_left_out():
    losses = drawn(2, own=0.3)
    assert held_out_noise({"c0": losses["c0"]})["c0"] > held_out_noise(losses)["c0"]
    assert set(held_out_noise(losses | {"other": (1.0, 2.0), "none": ()})) == set(losses)
    assert held_out_noise({}) == {} == held_out_noise({"none": ()})


def test_candidates_are_compared_on_the_rows_that_most_of_them_have():
    few = {id: values[:20] for id, values in drawn(3, own=0.3, candidates=2).items()}
    assert held_out_noise({**few, "longer": drawn(3, own=0.3)["c0"]}) == held_out_noise(few)


def test_who_has_nothing_right_has_no_share_of_it_that_could_vary():
    right = {"a": (3, 1, 2), "b": (2, 2, 1)}
    assert held_out_noise({**right, "none": (0, 0, 0)}) == held_out_noise(right)


def forecast(value, metric):
    return Forecast(None, Prediction(metric=metric, value=value, low=value, high=value, extrapolated=False))


def test_whole_answers_vary_as_counts_do_and_less_data_never_tells_more():
    noise = [metric_noise(forecast(0.5, "exact match"), rows, RowsNoise()).alike for rows in (1, 2, 50, 200)]
    assert noise == sorted(noise, reverse=True) and noise[2] == pytest.approx(1.28 * (0.25 / 50) ** 0.5, rel=0.01)


def test_right_tokens_vary_from_row_to_row_in_what_candidates_do_not_share():
    draw = np.random.default_rng(0)
    common = draw.integers(10, 40, 50)
    right = {id: tuple(common + draw.integers(0, 3, 50)) for id in ("a", "b", "c")}
    share = held_out_noise(right)["a"]
    noise = metric_noise(forecast(0.5, "token accuracy"), 50, RowsNoise(tokens=share)).alike
    assert 0 < noise < 0.02 < metric_noise(forecast(0.5, "token accuracy"), 50, RowsNoise()).alike


def test_how_an_own_metric_varies_is_not_known():
    assert metric_noise(forecast(0.5, "f1"), 50, RowsNoise()) == (0, 0)


def answers(seed, own, candidates=12, rows=ROWS):
    """Right and wrong answers to rows of different difficulty; `own` is how much a candidate differs from others."""
    random = np.random.default_rng(seed)
    difficulty = random.standard_normal(rows)
    return {f"c{i}": tuple(difficulty + own * random.standard_normal(rows) < 0.5) for i in range(candidates)}


@pytest.mark.parametrize("candidates", [2, 12])
@pytest.mark.parametrize("own", [0.3, 1.0])
def test_the_own_part_is_as_large_as_accuracies_on_other_rows_differ(candidates, own):
    pairs = [answers(seed, own, candidates, rows=64) for seed in range(400)]
    differences = [np.mean(right["c0"]) - np.mean(right["c1"]) for right in pairs]
    alone = forecast(np.mean([np.mean(right["c0"]) for right in pairs]), "accuracy")
    parts = [own_parts(right) for right in pairs]
    told = [[metric_noise(alone, 64, RowsNoise(own_part=p[id])).alike for id in ("c0", "c1")] for p in parts]
    assert np.mean([np.hypot(*both) for both in told]) == pytest.approx(1.28 * np.std(differences), rel=0.15)


def test_rows_that_nobody_answers_differently_leave_one_row_open_and_a_single_candidate_all():
    same = (True,) * 32 + (False,) * 32
    part = own_parts({"a": same, "b": same})["a"]
    assert part == pytest.approx((0.5 / 16.5) ** 0.5)
    assert own_parts({"a": same}) == {"a": 1.0}
    assert own_parts({"a": same, "b": tuple(not right for right in same)}) == {"a": 1.0, "b": 1.0}
    assert own_parts({}) == {} == own_parts({"a": ()})


def test_who_was_cut_off_gets_the_largest_of_the_others():
    parts = own_parts({"a": (True, False, True), "b": (True, True, True), "c": ()})
    assert set(parts) == {"a", "b"}
    assert of_all(parts, "abc") == parts | {"c": max(parts.values())}
    assert of_all({}, "abc") == {}


def test_those_that_went_farthest_are_paired_with_each_other_alone():
    far, near = drawn(1, own=0.1, candidates=3), drawn(2, own=0.3, candidates=4)
    told = far | {f"near{i}": losses for i, losses in enumerate(near.values())}
    noise = paired(held_out_noise, told, [*far, "cut off"])
    assert {id: noise[id] for id in far} == held_out_noise(far)
    assert {id: noise[id] for id in told if id not in far} == {
        id: value for id, value in held_out_noise(told).items() if id not in far
    }
    assert max(held_out_noise(far).values()) < 0.5 * min(held_out_noise(told)[id] for id in far)


@pytest.mark.parametrize("farthest", [["c0"], ["c0", "cut off"], []])
def test_a_single_one_that_went_farthest_is_paired_with_all(farthest):
    told = drawn(2, own=0.3)
    assert paired(held_out_noise, told, farthest) == held_out_noise(told)
