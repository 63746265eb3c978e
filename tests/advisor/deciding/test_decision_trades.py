"""What each objective trades, and what is taken where two stand alike."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from advisor.deciding.decision import decide
from tests.advisor.factories import candidate, device

CARD = device(24.0)
OBJECTIVES = ["accuracy", "balanced", "memory", "speed"]


def pick_of(candidates, objective="accuracy"):
    return decide(candidates, CARD, objective)[1]


@pytest.mark.parametrize(("gain_kept", "expected"), [(0.99, "oft"), (0.975, "lora")])
def test_balanced_gives_up_one_percent_of_the_gain_for_ten_percent_of_the_card(gain_kept, expected):
    best = candidate("lora", 0.60, 20.0)
    smaller = candidate("oft", 0.04 + gain_kept * 0.56, 16.0)  # a sixth of the card less
    assert pick_of([best, smaller], "balanced").name == expected
    roomy = device(240.0)
    assert decide([best, smaller], roomy, "balanced")[1].name == "lora"


@pytest.mark.parametrize(("gain_kept", "expected"), [(0.996, "oft"), (0.994, "lora")])
def test_balanced_gives_up_half_a_percent_of_the_gain_for_half_of_the_time(gain_kept, expected):
    best = candidate("lora", 0.60, 12.0, planned_run_s=72_000.0)
    faster = candidate("oft", 0.04 + gain_kept * 0.56, 12.0, planned_run_s=36_000.0)
    assert pick_of([best, faster], "balanced").name == expected
    seconds = {"lora": 20.0, "oft": 10.0}  # nobody waits for these
    brief = [c.model_copy(update={"planned_run_s": seconds[c.name]}) for c in (best, faster)]
    assert pick_of(brief, "balanced").name == "lora"


def test_a_time_that_is_not_known_is_taken_for_the_longest():
    known, unknown = (candidate(name, 0.60, 12.0, planned_run_s=s) for name, s in (("lora", 3600.0), ("oft", None)))
    fast = candidate("ia3", 0.597, 12.0, planned_run_s=900.0)
    assert pick_of([known, unknown], "balanced").name == "lora"
    assert pick_of([known, unknown, fast], "balanced").name == "ia3"
    assert pick_of([unknown], "balanced").name == "oft"


@pytest.mark.parametrize(
    ("gain_kept", "expected"),
    [
        (0.95, {"memory": "oft", "speed": "oft"}),
        (0.85, {"memory": "oft", "speed": "lora"}),
        (0.75, {"memory": "lora", "speed": "lora"}),
    ],
)
def test_memory_keeps_four_fifths_of_the_gain_and_speed_nine_tenths(gain_kept, expected):
    best = candidate("lora", 0.60, 20.0, planned_run_s=2400.0)
    cheaper = candidate("oft", 0.04 + gain_kept * 0.56, 10.0, planned_run_s=600.0)
    assert {objective: pick_of([best, cheaper], objective).name for objective in expected} == expected


def test_speed_takes_the_fastest_that_keeps_enough_whatever_memory_it_needs():
    small, fast = candidate("oft", 0.60, 12.0, planned_run_s=2400.0), candidate("lora", 0.55, 18.0, planned_run_s=600.0)
    assert pick_of([small, fast], "speed").name == "lora"


def test_speed_shuts_out_no_one_for_having_been_behind_in_the_race():
    best = candidate("lora", 0.60, 12.0, planned_run_s=2400.0)
    fast = candidate("oft", 0.58, 12.0, planned_run_s=600.0, status="eliminated")
    assert {objective: pick_of([best, fast], objective).name for objective in OBJECTIVES} == {
        "accuracy": "lora",
        "balanced": "lora",
        "memory": "lora",
        "speed": "oft",
    }


def test_for_memory_nothing_is_given_up_that_frees_no_memory():
    """Time and the ease of serving choose among what ends alike; they buy no part of the gain that may be given up."""
    better = candidate("rslora", 0.60, 12.0, noise=0.01, planned_run_s=11_400.0)
    assert (
        pick_of([better, candidate("lora", 0.49, 12.0, noise=0.01, planned_run_s=10_800.0)], "memory").name == "rslora"
    )
    merged = candidate("oft", 0.60, 12.0, noise=0.01, capabilities={"mergeable": True, "vllm": "merged"})
    assert pick_of([merged, candidate("lora", 0.50, 12.0, noise=0.01)], "memory").name == "oft"
    larger = candidate("rslora", 0.60, 12.3, noise=0.01)
    assert pick_of([larger, candidate("lora", 0.55, 12.0, noise=0.01)], "speed").name == "rslora"


@pytest.mark.parametrize(("worst", "expected"), [(0.40, "lora"), (0.48, "bitfit")])
@pytest.mark.parametrize("objective", ["speed", "memory"])
def test_one_that_left_the_race_has_to_keep_enough_of_the_gain_for_certain(objective, worst, expected):
    """What eight steps are expected to lead to is near to what everybody's are, and its interval says how near."""
    lora = candidate("lora", 0.5, 12.0, planned_run_s=2000.0)
    early = candidate("bitfit", 0.49, 6.0, status="eliminated", steps=8, planned_run_s=1000.0, noise=0.2)
    shown = early.predicted.model_copy(update={"low": worst})
    loss = early.predicted_loss.model_copy(update={"high": 2.0 - 1.6 * worst})
    early = early.model_copy(update={"predicted": shown, "predicted_loss": loss})
    assert pick_of([lora, early], objective).name == expected


def test_of_the_equally_cheap_that_keep_enough_the_best_is_the_measure_of_what_is_as_good():
    best, better, worse = candidate("lora", 0.60, 20.0), candidate("vera", 0.52, 12.0), candidate("oft", 0.49, 12.0)
    too_bad = candidate("beft", 0.485, 9.0)  # as good as oft, but it does not keep enough of the gain
    assert pick_of([best, better, worse, too_bad], "memory").name == "vera"


def test_where_the_untuned_model_was_not_measured_the_gain_is_over_the_worst_candidate():
    best, worst = candidate("lora", 0.60, 20.0, baseline_value=None), candidate("beft", 0.40, 8.0, baseline_value=None)
    for quality, expected in ((0.50, "lora"), (0.57, "oft")):
        between = candidate("oft", quality, 12.0, baseline_value=None)
        assert pick_of([best, between, worst], "memory").name == expected


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_whatever_is_asked_for_the_pick_is_on_the_frontier(objective):
    draw = random.Random(7)
    for _ in range(50):
        field = [candidate(f"m{i}", draw.uniform(0.3, 0.6), draw.uniform(8, 20)) for i in range(8)]
        reports, decision = decide(field, CARD, objective)
        (pick,) = (r for r in reports if r.name == decision.name)
        better_and_smaller = [
            r.name
            for r in reports
            if r.predicted.value > pick.predicted.value and r.memory.peak_bytes < 0.98 * pick.memory.peak_bytes
        ]
        assert pick.on_frontier and not better_and_smaller


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_single_candidate_is_the_answer_also_where_no_gain_can_be_told(objective):
    assert pick_of([candidate("lora", 0.5, 12.0, baseline_value=None)], objective).name == "lora"


def test_a_method_competes_with_one_of_its_rates_only():
    rates = [candidate("lora", q, 12.0, learning_rate=rate) for q, rate in ((0.499, 1e-4), (0.5, 1e-3))]
    chosen = pick_of([*rates, candidate("oft", 0.505, 9.0)])
    assert (chosen.name, chosen.ties) == ("oft", ("lora",))


def test_where_two_stand_alike_the_order_of_candidates_does_not_decide():
    sharp = candidate("lora", 0.50, 20.0)
    vague = candidate("oft", 0.50, 20.0, noise=0.2, loss_noise=0.4)
    cheap = candidate("beft", 0.48, 10.0)  # worse than the sharp one, perhaps as good as the vague one
    assert len({pick_of(order).name for order in permutations([vague, sharp, cheap])}) == 1
    rates = [candidate("lora", 0.5, learning_rate=rate) for rate in (1e-4, 1e-3)]
    assert {pick_of(order).learning_rate for order in permutations(rates)} == {1e-4}
