"""The pick, and whether the words around it are true."""

from __future__ import annotations

import random

import pytest

from advisor.deciding.decision import decide
from advisor.recommendation import Prediction
from knowledge.schema import Curve, CurvePoint, PlannedRun
from tests.advisor.factories import candidate, curve, device, field_of_candidates, memory, result

CARD = device(24.0)


def pick_of(candidates, objective="accuracy", **details):
    return decide(candidates, CARD, objective, **details)[1]


def test_the_best_that_fits_is_picked_and_compared_with_lora():
    chosen = pick_of(field_of_candidates())
    assert chosen.name == "rslora"  # Lily is better and does not fit; DoRA is tied and needs more memory
    assert chosen.ties == ("DoRA",)
    assert chosen.reasons[0] == chosen.gain_over_lora
    assert chosen.gain_over_lora == (
        "Against tuned LoRA (rate 2e-4): 5.4 points better in exact match (± 2.8), needs the same memory."
    )
    assert "Tied in exact match with DoRA; taken because it will probably end best." in chosen.reasons
    assert "VeRA is 16.2 points worse in exact match (± 2.8), needs 1.25 GB less." in chosen.reasons


def test_of_what_is_expected_to_end_alike_the_cheaper_is_taken_and_it_says_tie():
    chosen = pick_of([candidate("lora", 0.50, 12.0), candidate("oft", 0.49998, 9.0)])
    assert chosen.name == "oft"
    assert chosen.ties == ("lora",)
    assert "equal in exact match, needs 3.00 GB less" in chosen.gain_over_lora


def test_of_what_ends_alike_and_costs_alike_the_one_on_the_frontier_is_taken():
    """The other needs 90 MB more of 24 GB, which nobody feels, and ends .005 points ahead, which nobody does either."""
    chosen = pick_of([candidate("lora", 0.5, 0.91), candidate("shira", 0.50002, 1.0)], "balanced")
    assert chosen.name == "lora" and "pays for a change" in chosen.gain_over_lora
    assert "the least memory of those that are expected to end alike" in " ".join(chosen.reasons)
    assert pick_of([candidate("lora", 0.5, 0.91), candidate("shira", 0.501, 1.0)], "balanced").name == "shira"


@pytest.mark.parametrize("behind", [0.499, 0.48])  # of a gain of 46 points: a fifth of a percent, and odds of 4:1
def test_what_is_expected_to_end_worse_is_tied_but_not_taken_for_being_cheap(behind):
    chosen = pick_of([candidate("lora", 0.50, 12.0), candidate("oft", behind, 9.0)])
    assert chosen.name == "lora"
    assert chosen.ties == ("oft",)
    assert any("taken because it will probably end best" in reason for reason in chosen.reasons)


def test_equal_memory_is_decided_by_time_then_by_deployment_then_by_quality():
    slow = candidate("lora", 0.50, 12.0, planned_run_s=2000.0)
    assert pick_of([slow, candidate("dora", 0.49998, 12.0, planned_run_s=1000.0)]).name == "dora"
    unmergeable = candidate("lily", 0.50002, 12.0, capabilities={"mergeable": False, "vllm": "no"})
    assert pick_of([unmergeable, candidate("lora", 0.50, 12.0)]).name == "lora"
    assert pick_of([candidate("miss", 0.505, 12.0), candidate("lora", 0.50, 12.0)]).name == "miss"


def test_a_forecast_that_is_ahead_counts_for_less_than_having_been_behind_in_the_race():
    ahead = candidate("oft", 0.51, 12.0, status="eliminated")
    chosen = pick_of([ahead, candidate("ia3", 0.50, 12.0), candidate("lora", 0.49, 12.0)])
    assert chosen.name == "ia3"
    assert "taken because it will probably end best of those that stayed in the race." in " ".join(chosen.reasons)
    chosen = pick_of([ahead, candidate("ia3", 0.50, 18.0), candidate("lora", 0.49998, 12.0)])
    assert chosen.name == "lora"
    asked = "among those that stayed in the race, of the 2 most likely to end best it is"
    assert f"{asked} taken because it needs the least memory" in " ".join(chosen.reasons)


def test_seconds_of_a_short_run_decide_only_where_speed_is_asked_for():
    slow = candidate("lora", 0.50, 12.0, planned_run_s=180.0, capabilities={"mergeable": True, "vllm": "adapter"})
    fast = candidate("lily", 0.50, 12.0, planned_run_s=177.0, capabilities={"mergeable": False, "vllm": "no"})
    chosen = pick_of([slow, fast])
    assert chosen.name == "lora"
    assert not any("fastest" in reason for reason in chosen.reasons)
    faster = candidate("lily", 0.50, 12.0, planned_run_s=160.0, capabilities={"mergeable": False, "vllm": "no"})
    assert pick_of([slow, faster], objective="speed").name == "lily"


def test_memory_that_makes_room_for_nothing_on_the_card_decides_only_where_it_is_asked_for():
    better, smaller = candidate("rslora", 0.505, 0.50), candidate("lora", 0.50, 0.48)
    assert pick_of([better, smaller]).name == "rslora"  # a tenth of a percent of the card
    assert pick_of([better, smaller], objective="memory").name == "lora"
    larger = candidate("dora", 0.50502, 1.5)
    assert pick_of([larger, better]).name == "rslora"


def test_of_the_equally_good_and_equally_large_the_one_that_forgets_clearly_less_is_taken_before_the_faster():
    faithful = candidate("lora", 0.50, 12.0, forgetting=0.05, planned_run_s=2000.0)
    for forgotten, expected in ((0.30, "lora"), (0.08, "dora")):  # .03 more is within noise: the faster is taken
        chosen = pick_of([faithful, candidate("dora", 0.49998, 12.0, forgetting=forgotten, planned_run_s=1000.0)])
        assert chosen.name == expected
    words = " ".join(pick_of([faithful, candidate("dora", 0.49998, 12.0, forgetting=0.30)]).reasons)
    assert "taken because it forgets least of the base model (0.05 nats per token; dora 0.30)." in words
    smaller = candidate("dora", 0.49998, 9.0, forgetting=0.30)
    assert pick_of([faithful, smaller]).name == "dora"  # memory comes first


def test_forgetting_is_compared_only_where_that_is_fair():
    """It grows along a run: who was measured early must not win by that."""
    late = candidate("lora", 0.50, 12.0, forgetting=0.30, forgetting_share=0.2, planned_run_s=1000.0)
    early = candidate("dora", 0.49998, 12.0, forgetting=0.05, forgetting_share=0.1)
    unknown = candidate("oft", 0.49998, 12.0, forgetting=None)
    chosen = pick_of([late, early, unknown])
    assert chosen.name == "lora"
    assert not any("Forgets more" in w for w in chosen.warnings)


def test_a_pick_that_forgets_more_than_lora_or_an_equal_says_so():
    lora = candidate("lora", 0.40, 12.0, title="LoRA", forgetting=0.04)
    tied = candidate("dora", 0.54, 13.0, title="DoRA", forgetting=0.02)
    pick = candidate("oft", 0.55, 12.0, forgetting=0.30)
    said = (
        "Forgets more of the base model than {}: the loss on the base's own texts grew by 0.30 nats per token, there by"
    )
    assert f"{said.format('LoRA')} 0.04." in pick_of([lora, pick]).warnings
    assert f"{said.format('DoRA')} 0.02." in pick_of([lora, pick, tied]).warnings
    assert not any("Forgets" in w for w in pick_of([lora.model_copy(update={"forgetting": 0.28}), pick]).warnings)


def test_each_objective_takes_its_own():
    field = [
        candidate("lora", 0.48, 12.0),
        candidate("lily", 0.60, 20.0, planned_run_s=2400.0, noise=0.002),
        candidate("shira", 0.59, 13.0, noise=0.002),
        candidate("quick", 0.565, 18.0, planned_run_s=300.0),
        candidate("beft", 0.20, 8.0),
    ]
    picks = {goal: pick_of(field, goal).name for goal in ("accuracy", "balanced", "memory", "speed")}
    assert picks == {"accuracy": "lily", "balanced": "shira", "memory": "shira", "speed": "quick"}
    words = " ".join(pick_of(field, "balanced").reasons)
    assert "given up for memory or time: lily is 1.0 points better in exact match (± 0.3), needs 7.00 GB more" in words


def test_memory_takes_the_cheapest_that_keeps_most_of_the_gain():
    field = [candidate("lora", 0.50, 12.0), candidate("ia3", 0.45, 9.0, status="eliminated"), candidate("x", 0.1, 8.0)]
    assert pick_of(field, "memory").name == "ia3"
    assert pick_of(field, "accuracy").name == "lora"


def test_where_nothing_is_to_be_gained_the_least_loss_of_quality_counts_and_it_is_said():
    worse = [
        candidate("lora", 0.55, 22.6, baseline_value=0.6, baseline_loss=0.9),
        candidate("oft", 0.2, 20.0, baseline_value=0.6, baseline_loss=0.9),
    ]
    for objective in ("accuracy", "balanced"):
        _, decision = decide(worse, device(), objective)
        assert decision.name == "lora"
        assert any("worse than the untuned model" in warning for warning in decision.warnings)


def test_what_an_own_metric_is_called_does_not_turn_it_around():
    def overlap(name, value):
        told = Prediction(metric="glossary overlap", value=value, low=value - 0.02, high=value + 0.02, noise=0.02)
        return candidate(name, 0.5, 22.6).model_copy(update={"predicted": told})

    _, decision = decide([overlap("lora", 0.3), overlap("oft", 0.9)], device(), "accuracy")
    assert decision.name == "oft"


def test_what_left_the_race_is_not_taken_for_quality():
    field = [candidate("lora", 0.50, 12.0), candidate("oft", 0.51, 9.0, status="eliminated")]
    assert pick_of(field, "accuracy").name == "lora"
    assert pick_of([field[1]], "accuracy").name == "oft"  # better than no answer


def test_references_failures_and_what_does_not_fit_are_never_picked():
    never = [
        candidate("full", 0.9, 12.0, status="reference"),
        candidate("a", 0.9, 12.0, status="diverged"),
        candidate("b", 0.9, 30.0),
        candidate("c", 0.9, None),
        candidate("d", None, 10.0),
    ]
    reports, chosen = decide(never, CARD, "accuracy")
    assert chosen is None
    assert [r.fits for r in reports] == [True, True, False, None, True]
    assert not any(r.on_frontier for r in reports)
    assert pick_of([*never, candidate("lora", 0.2, 12.0)]).name == "lora"


def test_the_expected_peak_has_to_fit():
    reports, chosen = decide([candidate(memory=memory(24.1, spread=0.02))], CARD, "accuracy")
    assert chosen is None
    assert reports[0].fits is False


@pytest.mark.parametrize("objective", ["accuracy", "balanced", "memory", "speed"])
def test_the_order_of_candidates_does_not_matter(objective):
    field = field_of_candidates()
    reports, expected = decide(field, CARD, objective)
    assert [r.name for r in reports] == [c.name for c in field]
    for seed in range(20):
        shuffled = field.copy()
        random.Random(seed).shuffle(shuffled)
        again, chosen = decide(shuffled, CARD, objective)
        assert chosen == expected
        assert {(r.name, r.learning_rate, r.on_frontier) for r in again} == {
            (r.name, r.learning_rate, r.on_frontier) for r in reports
        }


def test_one_entry_per_method_its_best_rate():
    rates = [candidate("lora", q, 12.0, learning_rate=lr) for q, lr in ((0.3, 1e-5), (0.5, 1e-4), (0.49, 1e-3))]
    chosen = pick_of([*rates, candidate("oft", 0.5, 14.0)])
    assert (chosen.name, chosen.learning_rate, chosen.ties) == ("lora", 1e-4, ("oft",))
    assert not any("learning rate" in w for w in chosen.warnings)
    assert any("highest that was tried: a higher" in w for w in pick_of(rates[:2]).warnings)


def test_a_rate_that_was_trained_to_its_end_before_does_not_displace_a_better_one():
    ended = candidate("lora", 0.3, 12.0, learning_rate=1e-4, steps=600, rests_on_own_runs=True)
    raced = candidate("lora", 0.5, 12.0, learning_rate=5e-4)
    assert ended.curve.last_step > raced.curve.last_step
    for rates in ([ended, raced], [raced, ended]):
        chosen = pick_of([*rates, candidate("oft", 0.4, 12.0)])
        assert (chosen.name, chosen.learning_rate) == ("lora", 5e-4)
    other = pick_of([ended, raced, candidate("oft", 0.6, 12.0)])
    assert other.name == "oft" and not any("left the race" in warning for warning in other.warnings)


def test_a_rate_that_diverged_was_tried():
    rates = [candidate("lora", q, 12.0, learning_rate=lr) for q, lr in ((0.3, 1e-5), (0.5, 1e-4))]
    burst = candidate(
        "lora", None, 12.0, learning_rate=1e-3, status="diverged", reason="training loss is nan at step 3"
    )
    assert not any("learning rate" in w for w in pick_of([*rates, burst]).warnings)


def test_an_untuned_metric_below_zero_keeps_its_sign():
    worse = candidate("lora", 0.5, 12.0)
    metric = worse.predicted.model_copy(update={"metric": "neg rmse", "value": -2.5, "low": -2.6, "high": -2.4})
    worse = worse.model_copy(update={"predicted": metric, "predicted_loss": None, "baseline_value": -2.3})
    assert any("whose neg rmse is -2.3" in w for w in pick_of([worse]).warnings)


def test_doubts_lower_the_confidence():
    alone = [candidate("lora", 0.5, 12.0, steps=60)]
    run = PlannedRun(max_steps=100)
    assert pick_of(alone, planned_run=run).confidence == "high"
    assert pick_of(alone, planned_run=PlannedRun(max_steps=6000)).confidence == "moderate"
    assert pick_of([*alone, candidate("oft", 0.5, 13.0)], planned_run=run).confidence == "moderate"
    both = [*alone, candidate("oft", 0.5, 13.0)]
    assert pick_of(both, planned_run=PlannedRun(max_steps=6000)).confidence == "low"
    assert pick_of([candidate("lora", 0.5, 12.0, status="from table")]).confidence == "low"
    handful = result().data.model_copy(update={"eval_rows": 5})
    assert pick_of(alone, planned_run=run, data=handful).confidence == "moderate"


def test_warnings_name_what_is_uncertain():
    falling = candidate("lora", 0.5, 23.0, curve=curve(1.2, start=6.0, points=2), memory=memory(23.2))
    base = result()
    small = base.data.model_copy(update={"eval_rows": 40})
    words = pick_of([falling], planned_run=PlannedRun(max_steps=600), data=small).warnings
    for expected in ("Not converged within the budget", "Memory is tight: 336 MB", "Only 40 held-out rows", "One seed"):
        assert any(expected in w for w in words), (expected, words)
    assert any("known to about 8 points" in w for w in words)


def test_a_loss_that_has_risen_is_told_where_the_rate_has_decayed():
    def words(steps, losses):
        points = tuple(CurvePoint(step=s, eval_loss=loss, metric=0.3) for s, loss in zip(steps, losses, strict=True))
        pick = candidate("lora", 0.5, 12.0, curve=Curve(points=points))
        return [w for w in pick_of([pick], planned_run=PlannedRun(max_steps=300)).warnings if "by heart" in w]

    risen = [1.2, 0.37, 0.43]
    assert "lowest at step 120 (0.370)" in words([60, 120, 300], risen)[0]
    assert words([30, 60, 120], risen) == []  # the decay may still take it back
    assert words([60, 120, 300], [1.2, 0.40, 0.405]) == []
    assert words([60, 120, 300], [0.5, 0.1, 0.0]) == []


def test_what_only_an_unlucky_order_does_not_fit_is_picked_with_the_way_out():
    risky = candidate("lora", 0.5, 23.0, memory=memory(23.5))
    assert risky.memory.high_bytes > CARD.limit_bytes * 0.99
    risky = risky.model_copy(update={"memory": risky.memory.model_copy(update={"high_bytes": 30 * 10**9})})
    assert any("expandable_segments" in warning for warning in pick_of([risky]).warnings)
    too_large = risky.memory.model_copy(update={"peak_bytes": 24_100_000_000})
    assert pick_of([risky.model_copy(update={"memory": too_large})]) is None
