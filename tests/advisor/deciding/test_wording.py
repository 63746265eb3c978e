"""Whether the words around a pick are true."""

from __future__ import annotations

import pytest

from advisor.deciding.case import Case
from advisor.deciding.decision import decide
from knowledge.schema import Curve
from tests.advisor.deciding.test_decision import CARD, pick_of
from tests.advisor.factories import candidate, curve, device, field_of_candidates


def test_the_costs_of_what_is_tied_but_probably_worse_are_not_claimed_to_be_higher():
    chosen = pick_of([candidate("lora", 0.50, 12.0), candidate("dora", 0.49998, 13.0), candidate("oft", 0.48, 9.0)])
    assert chosen.name == "lora"
    words = (
        "Tied in exact match with dora and oft; of the 2 most likely to end best it is taken because it needs the least"
    )
    assert any(reason.startswith(words) for reason in chosen.reasons), chosen.reasons


def test_where_the_effort_to_serve_decides_it_is_named():
    serves = {"mergeable": True, "vllm": "adapter"}
    merged = candidate("oft", 0.50002, 12.0, capabilities={"mergeable": True, "vllm": "merged"})
    chosen = pick_of([merged, candidate("lora", 0.50, 12.0, capabilities=serves)])
    assert chosen.name == "lora" and "taken because vLLM serves its adapter as it is" in " ".join(chosen.reasons)


def test_what_is_taken_for_several_costs_is_not_called_the_cheapest():
    """LoRA needs 50 MB less, which nobody feels, and forgets more; nothing tells OFT from the pick but its value."""
    found = [
        candidate("lora", 0.50202, 11.95, title="LoRA", forgetting=0.3),
        candidate("ia3", 0.502, 12.0, title="IA3", forgetting=0.05),
        candidate("oft", 0.50198, 12.0, title="OFT", forgetting=0.05),
    ]
    chosen = pick_of(found, objective="balanced")
    assert chosen.name == "ia3" and "cheapest" not in " ".join(chosen.reasons)


def test_a_better_one_that_left_the_race_is_not_said_to_be_given_up_for_memory():
    found = [candidate("lora", 0.5, 22.6), candidate("oft", 0.7, 20.0, status="eliminated", reason="behind")]
    _, decision = decide(found, device(), "balanced")
    assert decision.name == "lora" and not any("given up for" in reason for reason in decision.reasons)


def test_lora_as_the_pick_and_lora_missing_are_both_said():
    assert pick_of([candidate("lora", 0.5, 12.0)]).gain_over_lora.startswith("This is LoRA")
    for reason in ("training loss is nan at step 3", "training loss is nan at step 3."):
        broken = candidate("lora", None, 12.0, status="diverged", reason=reason)
        words = pick_of([broken, candidate("oft", 0.5, 12.0)]).gain_over_lora
        assert words.endswith("LoRA has no valid result: diverged, training loss is nan at step 3.")


def test_lora_without_a_result_is_told_by_its_furthest_rate_in_whatever_order():
    rates = [
        candidate(
            "lora", None, 9.0, learning_rate=1e-4, status="not tried", reason="the race ended before it was evaluated"
        ),
        candidate("lora", None, 9.0, learning_rate=1e-3, status="diverged", reason="nan", curve=curve(2.0, steps=8)),
    ]
    told = {pick_of([candidate("oft", 0.5, 12.0), *order]).gain_over_lora for order in (rates, rates[::-1])}
    assert len(told) == 1 and told.pop().endswith("no valid result: diverged, nan.")
    unknown = pick_of([candidate("oft", 0.5, 12.0), candidate("lora", 0.5, None)]).gain_over_lora
    assert unknown.endswith("finished, its memory is unknown, so it cannot be compared.")


def test_what_nothing_tells_apart_is_not_said_to_be_better():
    alike = [candidate(name, 1.0, 12.0, title=name) for name in ("dora", "lora", "oft")]
    chosen = pick_of(alike)
    assert chosen.name == "lora"
    assert "nothing tells it from dora and oft" in " ".join(chosen.reasons)
    assert "nothing tells it from oft" in " ".join(pick_of([alike[0], alike[2]]).reasons)


def test_every_candidate_gets_a_reason():
    reports, chosen = decide(field_of_candidates(), CARD, "accuracy")
    reasons = {r.title: r.reason for r in reports if r.name != chosen.name}
    worse = "0.8 points worse in exact match, within noise (± 2.8)"
    assert reasons["DoRA"] == f"{worse}, needs 750 MB more, takes 11 min longer"
    assert reasons["Lily"] == "needs up to 26.1 GB of 24.0 GB"
    assert reasons["Prompt tuning"] == "training loss is nan at step 14"
    assert all(reasons.values())
    assert next(r for r in reports if r.name == chosen.name).reason == ""


@pytest.mark.parametrize("status", ["finished", "eliminated", "from table", "reference"])
def test_what_is_too_large_says_so_wherever_it_is_known_from(status):
    large = candidate("oft", 0.6, 30.0, status=status)
    reports, chosen = decide([candidate("lora", 0.5, 12.0), large], CARD, "balanced")
    assert chosen.name == "lora"
    assert next(r.reason for r in reports if r.name == "oft") == "needs up to 30.6 GB of 24.0 GB"


def test_where_speed_decides_it_is_named_first():
    fast = candidate("oft", 0.50, 10.0, planned_run_s=100.0)
    slow = candidate("lora", 0.50, 12.0, planned_run_s=200.0)
    why = " ".join(pick_of([fast, slow], objective="speed").reasons)
    assert "taken because it is the fastest of them (100 s less)" in why
    assert "taken because it needs the least memory" in " ".join(pick_of([fast, slow], objective="memory").reasons)


def test_several_costs_that_decided_are_told_with_whom_each_took_out():
    found = [
        candidate("lora", 0.5, 12.0, forgetting=0.12),
        candidate("miss", 0.5, 12.0, forgetting=0.30),
        candidate("oft", 0.5, 20.0, forgetting=0.01),
    ]
    assert (
        "taken because it needs less memory than oft (8.00 GB less) and it forgets less of the base model than miss "
        "(0.12 nats per token; miss 0.30)."
    ) in " ".join(pick_of(found).reasons)


def test_what_a_cost_took_out_is_not_said_to_be_equal():
    found = [
        candidate("lora", 0.5, 12.0, planned_run_s=3600.0),
        candidate("miss", 0.5, 12.0, planned_run_s=3605.0),
        candidate("oft", 0.5, 12.0, planned_run_s=3000.0, forgetting=0.5),
    ]
    chosen = pick_of(found)
    assert chosen.name == "lora"
    words = "taken because it forgets less of the base model than oft (0.12 nats per token; oft 0.50)"
    assert f"{words}; nothing tells it from miss." in " ".join(chosen.reasons)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("memory", "taken because it needs the least memory of those that keep 80 % of the gain."),
        ("balanced", "taken as the best trade of quality, memory and time."),
    ],
)
def test_what_is_not_expected_to_end_best_is_not_said_to(objective, words):
    found = [
        candidate("beft", 0.512 if objective == "balanced" else 0.60, 23.0, noise=0.005),
        candidate("oft", 0.50, 10.0, noise=0.01),
        candidate("lora", 0.495, 10.5, noise=0.01),
    ]
    chosen = pick_of(found, objective=objective)
    assert chosen.name == "oft" and chosen.ties == ("lora",)
    why = " ".join(chosen.reasons)
    assert words in why and "Some quality is given up" in why


@pytest.mark.parametrize(("pick", "other"), [("oft", "LoRA"), ("lora", "LoRA")])
def test_a_rate_that_left_the_race_and_is_foretold_to_end_ahead_is_named_and_a_doubt(pick, other):
    stayed = candidate("lora", 0.50, 12.0, noise=0.01, title="LoRA")
    left = candidate("lora", 0.60, 12.0, noise=0.01, title="LoRA", learning_rate=3e-4, status="eliminated")
    better = [candidate("oft", 0.55, 12.0, noise=0.01)] if pick == "oft" else []
    chosen = pick_of([stayed, left, *better])
    assert chosen.name == pick and chosen.confidence == "moderate"
    assert f"Kept in spite of a better one that left the race: {other} (rate 3e-4)" in " ".join(chosen.reasons)
    alone = pick_of([stayed, *better])
    assert alone.confidence == "high"


def test_lora_that_does_not_fit_is_no_lora_without_a_result():
    chosen = pick_of([candidate("oft", 0.5, 12.0), candidate("lora", 0.6, 25.0)])
    assert chosen.gain_over_lora == "LoRA does not fit: it needs up to 25.5 GB of 24.0 GB."
    rates = [candidate("lora", 0.6, size, learning_rate=rate) for rate, size in ((1e-4, 25.0), (1e-3, 26.0))]
    for order in (rates, rates[::-1]):  # each rate's memory is corrected by its own probe
        assert pick_of([candidate("oft", 0.5, 12.0), *order]).gain_over_lora == chosen.gain_over_lora


def test_lora_that_was_tried_at_one_rate_is_not_called_tuned():
    lora, better = candidate("lora", 0.3, 12.0, learning_rate=1e-3), candidate("oft", 0.5, 12.0)
    assert pick_of([lora]).gain_over_lora.startswith("This is LoRA;")
    assert pick_of([lora, better]).gain_over_lora.startswith("Against LoRA (rate 1e-3)")
    diverged = candidate("lora", None, 12.0, learning_rate=1e-2, status="diverged")
    assert "tuned" in pick_of([lora, diverged, better]).gain_over_lora


def test_lora_is_at_the_rate_that_the_race_kept_where_no_other_is_probably_ahead():
    """What a short probe may lead to is no better known than what was measured."""
    kept = candidate("lora", 0.45, 12.0, learning_rate=1e-3)
    dropped = candidate("lora", 0.46, 12.0, learning_rate=3e-3, status="eliminated", steps=10, noise=0.1)
    for order in ([kept, dropped], [dropped, kept]):
        chosen = pick_of([candidate("oft", 0.5, 12.0), *order])
        assert chosen.gain_over_lora.startswith("Against tuned LoRA (rate 1e-3): 5.0 points better")


def test_no_gain_is_claimed_over_a_high_rate_of_lora_alone():
    """It led LoRA's rates at first and stands still; a lower one, out early, is expected to end better."""
    high = candidate("lora", 0.3, 12.0, learning_rate=3e-3, status="eliminated", steps=60)
    low = candidate("lora", 0.45, 12.0, learning_rate=1e-3, status="eliminated", steps=10)
    chosen = pick_of([candidate("oft", 0.5, 12.0, steps=60), high, low])
    assert chosen.name == "oft"
    assert chosen.gain_over_lora.startswith("Against tuned LoRA (rate 1e-3): 5.0 points better")


def test_lora_alone_is_not_said_to_have_won():
    assert pick_of([candidate("lora", 0.5, 9.0)]).gain_over_lora.endswith("no other method has been tried.")
    full = candidate("full", 0.6, 9.0, status="reference")
    assert pick_of([candidate("lora", 0.5, 9.0), full]).gain_over_lora.endswith("no other method has been tried.")
    for status in ("diverged", "failed", "out of memory"):
        for lost in (candidate("oft", None, 9.0, status=status, curve=c) for c in (Curve(), curve(2.0, steps=8))):
            assert pick_of([candidate("lora", 0.5, 9.0), lost]).gain_over_lora.endswith("no other method came through.")
    beside = pick_of([candidate("lora", 0.5, 9.0), candidate("oft", 0.3, 9.0)])
    assert beside.gain_over_lora.endswith("nothing else that was tried pays for a change.")


def test_a_failure_that_is_told_in_a_sentence_ends_with_one_full_stop():
    failed = candidate("lora", None, status="failed", reason="MetricFailed: It must be finite.")
    assert pick_of([failed, candidate("oft", 0.5, 9.0)]).gain_over_lora.endswith("must be finite.")
    assert ".." not in pick_of([failed, candidate("oft", 0.5, 9.0)]).gain_over_lora


def test_of_published_runs_nothing_is_said_to_have_been_tried():
    alone, beside = candidate("lora", 0.5, 9.0, status="from table"), candidate("oft", 0.3, 9.0, status="from table")
    assert pick_of([alone]).gain_over_lora.endswith("no other of the table comes into question.")
    assert pick_of([alone, beside]).gain_over_lora.endswith("no other of the table pays for a change.")


def test_what_cannot_be_compared_says_why():
    reports, _ = decide([candidate("lora", 0.5, 9.0), candidate("oft", 0.9, None)], CARD, "balanced")
    assert "memory is unknown" in next(r.reason for r in reports if r.name == "oft")


def test_another_rate_of_what_was_chosen_is_no_tie_of_it():
    low, high = (candidate("lora", 0.5, 9.0, learning_rate=rate) for rate in (1e-4, 1e-3))
    oft = candidate("oft", 0.5, 9.0)
    case = Case(low, low, [high, oft], [high, oft], [low, high, oft], "balanced", "predicted", CARD, None, None)
    assert case.ties == [oft]


def test_alternatives_are_the_other_points_of_the_frontier():
    chosen = pick_of(field_of_candidates())
    assert [a.split(" (")[0] for a in chosen.alternatives] == ["BEFT", "IA³", "OFT"]
    assert chosen.alternatives[0] == ("BEFT (rate 1e-2): 20.3 points worse in exact match (± 2.8), needs 2.45 GB less")


def test_where_the_loss_decides_the_metric_is_told_too():
    field = [candidate("lora", 0.51, 12.0, loss=1.20), candidate("oft", 0.50, 12.0, loss=1.17)]
    chosen = decide(field, CARD, "accuracy")[1]
    assert chosen.gain_over_lora == (
        "Against LoRA (rate 1e-4): 1.0 points worse in exact match, within noise (± 2.8), "
        "0.030 better in eval loss, within noise (± 0.057), needs the same memory."
    )
    assert "Compared by eval loss, which tells them apart more clearly than exact match." in chosen.reasons


def test_where_a_better_one_left_the_race_it_is_not_said_that_nothing_pays_for_a_change():
    left = candidate("dora", 0.7, 12.0, status="eliminated", reason="behind")
    found = [candidate("lora", 0.5, 12.0), candidate("oft", 0.4, 12.0)]
    assert "nothing else that was tried pays" in pick_of(found).gain_over_lora
    assert "nothing else that stayed in the race pays" in pick_of([*found, left]).gain_over_lora


def test_less_that_was_forgotten_earlier_in_a_run_is_not_said_to_be_less():
    """The third took the second out, both at their ends; the pick was measured at a tenth."""
    found = [
        candidate("dora", 0.6, 12.0, forgetting=0.05, forgetting_share=0.1),
        candidate("oft", 0.6, 12.0, forgetting=0.3, forgetting_share=1.0),
        candidate("vera", 0.6, 12.0, forgetting=0.1, forgetting_share=1.0, planned_run_s=3000.0),
        candidate("lora", 0.3, 12.0),
    ]
    chosen = pick_of(found)
    assert chosen.name == "dora" and "forgets" not in " ".join(chosen.reasons)


def test_where_a_better_one_is_too_slow_nobody_is_said_to_be_likely_to_end_best():
    seconds = {"dora": (0.6, 600.0), "vera": (0.645, 4000.0), "oft": (0.6, 1500.0), "rslora": (0.59, 2000.0)}
    found = [candidate(name, value, 12.0, planned_run_s=s) for name, (value, s) in seconds.items()]
    words = " ".join(pick_of([*found, candidate("lora", 0.3, 12.0)], objective="speed").reasons)
    assert "of the 2 expected to end alike" in words and "most likely to end best" not in words


def test_a_difference_in_a_small_unit_is_not_told_as_nothing():
    def scored(name, value):
        told = candidate(name, 0.5, 12.0).predicted
        told = told.model_copy(update={"metric": "minus mse", "value": value, "low": value, "high": value})
        return candidate(name, 0.5, 12.0, predicted_loss=None).model_copy(
            update={"predicted": told.model_copy(update={"noise": 1e-6}), "baseline_value": -0.01}
        )

    words = pick_of([scored("dora", -0.0003), scored("lora", -0.0004)]).gain_over_lora
    assert "0.0001 better in minus mse (± 1.4e-06)" in words
