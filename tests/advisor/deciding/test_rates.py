"""Which rate stands for a method, whatever the order in which they are given."""

from __future__ import annotations

from itertools import permutations

import pytest

from advisor.deciding.rates import best_of_each_method, lora_to_beat, rate_that_stands
from tests.advisor.factories import candidate


@pytest.mark.parametrize(
    ("rates", "stands"), [([0.55], 0.5), ([0.7], 0.7), ([0.7, 0.8, 0.55], 0.8), ([0.2], 0.5), ([], 0.5)]
)
def test_a_method_stands_at_the_rate_that_was_kept_unless_another_is_probably_ahead(rates, stands):
    def leads_by_a_tenth(one, other):
        return one - other > 0.1

    assert rate_that_stands(0.5, [0.5, *rates], lambda rate: rate, leads_by_a_tenth) == stands


@pytest.mark.parametrize(
    "held_back",
    [
        {"status": "eliminated", "steps": 60},  # at equal steps it was behind
        {"status": "eliminated", "steps": 10},
        {"status": "finished", "steps": 10},
    ],
)
def test_the_rate_that_stayed_longer_stands_for_its_method_whatever_another_is_thought_to_lead_to(held_back):
    stayed = candidate("lora", 0.4, learning_rate=1e-4, steps=60)
    promising = candidate("lora", 0.5, learning_rate=1e-3, **held_back)
    for rates in permutations([stayed, promising]):
        assert best_of_each_method(rates, "predicted") == [stayed]


def test_an_own_finished_run_is_compared_by_its_end_and_the_probes_among_themselves_by_how_far_they_went():
    """Without steps for the one and with them for the others each could go before another in a circle."""
    ended, longer, shorter = (
        candidate("dora", quality, learning_rate=rate, steps=steps, rests_on_own_runs=steps == 600)
        for quality, rate, steps in ((0.55, 1e-4, 600), (0.45, 2e-4, 60), (0.6, 3e-4, 30))
    )
    for rates in permutations([ended, longer, shorter]):
        assert best_of_each_method(rates, "predicted") == [ended]
    for rates in permutations([longer, shorter]):
        assert best_of_each_method(rates, "predicted") == [longer]


def test_of_two_rates_that_are_equally_ahead_the_lower_one_is_to_be_beaten():
    kept, *ahead = (
        candidate("lora", quality, learning_rate=rate, status=status)
        for quality, rate, status in ((0.5, 1e-4, "finished"), (0.6, 2e-4, "eliminated"), (0.6, 3e-4, "eliminated"))
    )
    for rates in permutations([kept, *ahead]):
        assert lora_to_beat(kept, rates, "predicted") is ahead[0]
