"""The replay of the race on the study's curves, where the answer is known."""

from __future__ import annotations

import pytest

from examples.study.race import final_loss, full_runs, play
from tests.examples.study_results import result

FINALS = {"lora": (1.2, 1.0, 1.4), "oft": (1.5, 1.1, 1.6), "ia3": (2.2, 2.0, 2.1)}


@pytest.fixture(scope="module")
def runs():
    results = [
        result(method, rate, final=final)
        for method, finals in FINALS.items()
        for rate, final in zip((1e-4, 1e-3, 1e-2), finals, strict=True)
    ]
    return full_runs([*results, result("lora", 1e-3, status="diverged")], "chain_sum")


def test_each_candidate_is_there_with_its_end(runs):
    assert sorted(map(final_loss, runs)) == sorted(loss for finals in FINALS.values() for loss in finals)


def test_with_the_whole_sweep_as_budget_the_best_is_found_at_no_more_than_its_cost(runs):
    cost, regret = play(runs, 1.0)
    assert regret == 0
    assert 1 / len(runs) < cost <= 1
    assert play(runs, 0.1)[0] < cost
