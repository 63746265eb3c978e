"""The replay of the race on the study's curves, where the answer is known."""

from __future__ import annotations

import pytest

from examples.study.race import final_loss, full_runs, play, probe_losses
from examples.study.warmup_races import mean_regret, races_table, rate_errors, rates_table
from tests.examples.study_results import STEPS, result

FINALS = {"lora": (1.2, 1.0, 1.4), "oft": (1.5, 1.1, 1.6), "ia3": (2.2, 2.0, 2.1)}


FIRST = 0.05


def at_once(runs, length):
    """Probes of that length that know the end."""
    return {(run.experiment, length): final_loss(run) for run in runs}


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


def test_a_first_rung_of_other_probes_is_decided_by_them_and_trained_again(runs):
    own = at_once(runs, FIRST)
    cost, regret = play(runs, 0.2)
    cost_again, regret_again = play(runs, 0.2, own)
    assert regret_again == regret == 0
    assert cost < cost_again < cost + 0.05
    misled = own | {("lora/lr0.0001-seed0", FIRST): 0.1}  # LoRA goes on at its lowest rate alone
    assert play(runs, 0.2, misled)[1] == pytest.approx(0.1)


def test_a_last_rung_of_other_probes_decides_among_the_finalists_at_no_cost(runs):
    cost, regret = play(runs, 0.5)
    misled = {key: -loss for key, loss in at_once(runs, 1.0).items()}  # the worst first
    cost_again, regret_again = play(runs, 0.5, last_rung=misled)
    assert regret_again > regret == 0 and cost_again == cost
    unlike = {(id, length - 0.01): loss for (id, length), loss in misled.items()}
    assert play(runs, 0.5, last_rung=unlike) == (cost, regret)


def test_rates_that_the_catalogue_does_not_offer_stay_out(runs):
    cost, regret = play(runs, 1.0, rates="narrow")  # of these it offers LoRA at 1e-3 alone
    assert (cost, regret) == (pytest.approx(1 / len(runs)), 0)
    assert cost < play(runs, 1.0, rates="usual")[0] < play(runs, 1.0)[0]


def test_probe_losses_are_told_apart_by_protocol_and_length():
    losses = probe_losses([result("lora", 1e-3), result("oft", 1e-3, task="another")], "chain_sum", "branch")
    assert {id for id, _ in losses} == {"lora/lr0.001-seed0"}
    assert ("lora/lr0.001-seed0", FIRST) in losses and all(loss > 0 for loss in losses.values())


def misled(run, by_nats, share=0.1):
    """The run as if its loss up to a share of it lay so much higher."""
    points = [
        p.model_copy(update={"eval_loss": p.eval_loss + by_nats}) if p.step <= share * STEPS else p
        for p in run.curve.points
    ]
    return run.model_copy(update={"curve": run.curve.model_copy(update={"points": tuple(points)})})


def test_a_probe_that_prefers_high_rates_is_told_by_how_much_and_what_it_costs():
    ends = {3e-4: 1.0, 1e-3: 1.2, 3e-3: 1.5}
    true = full_runs([result("lora", rate, final=end) for rate, end in ends.items()], "chain_sum")
    late = [misled(run, 5.0) if run.learning_rate < 3e-3 else run for run in true]
    assert rate_errors(true, 0.1) == (0, 0)
    assert rate_errors(late, 0.1) == (pytest.approx(1.0), pytest.approx(0.5))
    assert rate_errors(late, 0.2) == (0, 0)
    rows = list(rates_table([(late, true)]))
    assert "| 10% | +1.00 | +0.00 | 0.500 | 0.000 |" in rows and "| 20% | +0.00 | +0.00 | 0.000 | 0.000 |" in rows


def test_races_of_all_tasks_count_alike(runs, monkeypatch):
    monkeypatch.setattr("examples.study.race.METHODS_IN_A_SET", len(FINALS))
    harder = [run for run in runs if run.learning_rate >= 1e-3]
    harder[0] = misled(harder[0], 0.3, share=1.0)  # LoRA at 1e-3, which alone is offered, ends behind the best
    assert [mean_regret([task], 1.0, 0, sets=2) for task in (runs, harder)] == [0, pytest.approx(0.2)]
    assert mean_regret([runs, harder], 1.0, 0, sets=2) == pytest.approx(0.1)
    assert len(list(races_table([runs, harder], sets=1))) == 2 + 3
