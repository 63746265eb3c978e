"""What speaks against a pick: told where it is so, and not told where it is not."""

from __future__ import annotations

import pytest

from advisor.deciding.decision import decide
from knowledge.schema import Curve, CurvePoint, PlannedRun
from tests.advisor.factories import candidate, device, memory, result

CARD = device(24.0)


def pick_of(*candidates, max_steps=600, eval_rows=200, scheduler="cosine", **data):
    data = result().data.model_copy(update={"eval_rows": eval_rows, **data})
    run = PlannedRun(max_steps=max_steps, scheduler=scheduler)
    return decide(candidates, CARD, "accuracy", planned_run=run, data=data)[1]


def told(words, *candidates, **details):
    return [warning for warning in pick_of(*candidates, **details).warnings if words in warning]


def test_a_card_that_others_use_is_told_of():
    words = "12.5 GB of its memory are taken by others: it may run out"
    shared = device(taken=words)
    _, decision = decide([candidate()], shared, "balanced")
    assert f"When this was measured, of {shared.name}: {words}." in decision.warnings
    assert not told("When this was measured", candidate())


def beyond_what_is_known(pick):
    return pick.model_copy(update={"predicted": pick.predicted.model_copy(update={"extrapolated": True})})


def with_losses(losses):
    points = tuple(CurvePoint(step=step, eval_loss=loss, metric=0.3) for step, loss in losses.items())
    return candidate(curve=Curve(points=points))


@pytest.mark.parametrize(
    ("is_tied", "is_beyond", "max_steps", "expected"),
    [
        (False, False, 600, "high"),  # a tenth of the run was probed
        (False, False, 1000, "moderate"),
        (True, False, 600, "moderate"),
        (False, True, 600, "moderate"),
        (False, True, 1000, "low"),
        (True, True, 1000, "low"),
    ],
)
def test_each_doubt_takes_a_step_of_confidence(is_tied, is_beyond, max_steps, expected):
    pick = candidate("lora", 0.5, 12.0, steps=60)
    pick = beyond_what_is_known(pick) if is_beyond else pick
    others = [candidate("oft", 0.5, 13.0)] if is_tied else []
    assert pick_of(pick, *others, max_steps=max_steps).confidence == expected


@pytest.mark.parametrize(("left_at", "is_told"), [(10, True), (20, False), (0, False)])
def test_who_left_while_rates_still_rose_is_told_of(left_at, is_told):
    """3 % of 600 steps are 18."""
    left = candidate("oft", 0.4, 12.0, status="eliminated", steps=left_at)
    words = "1 candidate left the race within the warm-up of 18 steps"
    assert bool(told(words, candidate("lora", 0.5, 12.0), left)) is is_told


@pytest.mark.parametrize(
    ("scheduler", "steps", "expected"),
    [("constant", 60, "moderate"), ("linear", 60, "high"), ("cosine", 60, "high"), ("constant", 600, "high")],
)
def test_the_end_at_a_rate_that_never_falls_is_doubted(scheduler, steps, expected):
    """Unless the probe has come to it."""
    pick = candidate("lora", 0.5, 12.0, steps=steps)
    assert pick_of(pick, scheduler=scheduler).confidence == expected
    is_told = bool(told("With a constant learning rate", pick, scheduler=scheduler))
    assert is_told is (expected == "moderate")


def test_one_that_left_the_race_is_picked_with_low_confidence():
    assert pick_of(candidate(status="eliminated")).confidence == "low"


@pytest.mark.parametrize(
    ("words", "doubtful", "sure"),
    [
        ("end outside of its interval", beyond_what_is_known(candidate()), candidate()),
        ("Nothing was probed", candidate(status="from table"), candidate()),
        ("One seed", candidate(), candidate(status="from table")),
        ("ran out of memory with whole batches", candidate(micro_batches=2), candidate(micro_batches=1)),
        ("Memory is tight", candidate(memory=memory(22.6, spread=0.03)), candidate(memory=memory(21.6, spread=0.03))),
        ("compared with no other", candidate(), candidate(status="from table")),
    ],
)
def test_a_warning_is_given_where_it_is_so(words, doubtful, sure):
    assert len(told(words, doubtful)) == 1
    assert told(words, sure) == []


@pytest.mark.parametrize(
    ("kind", "basis", "spread", "words"),
    [
        ("cuda", "dry run", 0.03, "722 MB below the limit in the worst order of batches."),
        ("cuda", "dry run", 0.2, "PYTORCH_ALLOC_CONF=expandable_segments:True avoids that."),
        ("mps", "dry run", 0.2, "an unlucky order of batches reserves up to 27.1 GB."),
        ("cpu", "dry run", 0.2, None),
        ("cpu", "measured", 0.0, None),
        ("cuda", "published", 0.06, "such a run held 22.6 GB of 24.0 GB."),
    ],
)
def test_what_is_said_of_tight_memory_holds_on_that_device(kind, basis, spread, words):
    needed = memory(22.6, spread).model_copy(update={"basis": basis})
    _, decision = decide([candidate(memory=needed)], device(kind=kind), "balanced")
    found = [warning for warning in decision.warnings if "Memory is tight" in warning]
    assert len(found) == (words is not None) and all(warning.endswith(words) for warning in found)


def test_a_run_that_must_be_done_in_parts_is_told_which():
    _, decision = decide([candidate(micro_batches=4)], device(), "balanced")
    assert any("in 4 parts" in warning and "train.py" in warning for warning in decision.warnings)


@pytest.mark.parametrize(
    ("run", "by_heart"),
    [({"epochs": 3.0}, True), ({"epochs": 1.0}, False), ({}, True), ({"batch_size": 4}, False)],
)
def test_rows_that_come_once_are_not_said_to_be_learned_by_heart(run, by_heart):
    """300 steps of 8 rows pass over 1,600 rows more than once, of 4 rows less."""
    points = (CurvePoint(step=120, eval_loss=0.37), CurvePoint(step=300, eval_loss=0.43))
    pick = candidate("lora", 0.5, 12.0, curve=Curve(points=points))
    planned = PlannedRun(max_steps=300, **run)
    _, decision = decide([pick], device(), "balanced", planned_run=planned, data=result().data)
    [rise] = [warning for warning in decision.warnings if "lowest at step 120" in warning]
    assert rise.startswith("It learns its rows by heart") == by_heart and "a shorter run would do" in rise


def test_a_method_that_the_catalogue_does_not_know_is_not_asked_for_other_rates():
    assert told("compared with no other", candidate("my-own")) == []


@pytest.mark.parametrize(("best", "side"), [(1e-5, "lowest that was tried: a lower"), (1e-3, "highest"), (1e-4, "")])
def test_the_best_rate_at_an_edge_of_those_tried_is_told(best, side):
    rates = [candidate(quality=0.5 if rate == best else 0.3, learning_rate=rate) for rate in (1e-5, 1e-4, 1e-3)]
    assert len(told(f"Its best learning rate is the {side}", *rates)) == bool(side)
    assert told("compared with no other", *rates) == []


@pytest.mark.parametrize(
    ("metric", "rows", "words"),
    [
        ("exact match", 25, "Only 25 held-out rows: exact match is known to about 10 points."),
        ("accuracy", 25, "Only 25 held-out rows: accuracy is known to about 10 points."),
        ("token accuracy", 25, "Only 25 held-out rows."),  # tokens of a row are no independent trials
        ("exact match", 95, "Only 95 held-out rows: exact match is known to about 6 points."),  # 64 are evaluated
        ("exact match", 120, ""),
    ],
)
def test_few_held_out_rows_are_told_with_what_they_leave_open(metric, rows, words):
    pick = candidate()
    pick = pick.model_copy(update={"predicted": pick.predicted.model_copy(update={"metric": metric})})
    assert told("held-out rows", pick, eval_rows=rows) == ([words] if words else [])


def test_what_was_measured_on_all_held_out_rows_leaves_less_open():
    pick = candidate()
    pick = pick.model_copy(update={"predicted": pick.predicted.model_copy(update={"rows": 95})})
    assert told("held-out rows", pick, eval_rows=95) == [
        "Only 95 held-out rows: exact match is known to about 5 points."
    ]


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ({10: 2.0, 30: 1.00, 60: 0.90}, "from step 30 to 60 its loss fell by 10 %"),
        ({10: 2.0, 30: 1.00, 60: 0.97}, ""),  # nearly all of it fell in the first half
        ({10: 2.0, 30: 1.00, 50: 0.91, 60: 0.90}, "from step 30 to 60 its loss fell by 10 %"),
        ({10: 2.0, 30: 1.00, 45: None, 60: 0.90, 70: None}, "from step 30 to 60 its loss fell by 10 %"),
        ({10: 2.0, 30: 0.0, 60: 0.0}, ""),
        ({60: 0.90}, ""),
    ],
)
def test_a_probe_that_fell_in_its_second_half_has_not_converged(losses, words):
    found = told("Not converged", with_losses(losses))
    assert len(found) == bool(words) and all(words in warning for warning in found)
    assert (
        told("Not converged", with_losses(losses), max_steps=max(losses)) == []
    )  # there is no more of the run to come


def test_a_pick_as_good_as_the_untuned_model_is_not_said_to_be_worse():
    for baseline, is_worse in ((0.5, False), (0.51, True)):
        assert bool(told("worse than the untuned model", candidate(quality=0.5, baseline_value=baseline))) == is_worse


def test_where_the_loss_decided_it_is_the_untuned_loss_that_the_pick_is_held_against():
    pick = candidate(loss=2.5, baseline_loss=2.4, predicted=None)
    assert told("worse than the untuned model", pick) == [
        "It is expected to end worse than the untuned model, whose eval loss is 2.400."
    ]
    assert told("worse than the untuned model", candidate(loss=2.3, baseline_loss=2.4, predicted=None)) == []


def test_a_metric_that_falls_is_told_where_the_loss_decides_too():
    ends = {"lora": (0.48, 0.3), "oft": (0.48, 0.4)}  # the metric tells them not apart
    candidates = [
        candidate(name, metric, loss=loss, baseline_value=0.56, baseline_loss=0.7)
        for name, (metric, loss) in ends.items()
    ]
    assert told("worse than the untuned model", *candidates) == [
        f"It is expected to end worse than the untuned model, whose {candidates[0].predicted.metric} is 56.0 %."
    ]


def test_a_comparison_that_did_not_happen_is_a_doubt():
    unreached = candidate("oft", None, status="not tried", reason="the budget does not reach it")
    assert pick_of(candidate()).confidence == "high"
    assert pick_of(candidate(), unreached).confidence == "moderate"
    assert pick_of(candidate(), candidate("dora", 0.3), unreached).confidence == "high"


def test_that_a_pick_was_behind_in_the_race_is_told():
    left = candidate("oft", 0.5, status="eliminated", steps=8)
    assert told("left the race after 8 steps", left) and not told("left the race", candidate())


@pytest.mark.parametrize(("left_out", "is_told"), [(190, True), (5, False)])
def test_rows_that_are_left_out_are_told_where_they_are_many(left_out, is_told):
    dropped = {"the prompt alone is longer than the limit": left_out}
    words = f"{left_out} of the 200 rows are left out ({left_out}: the prompt alone is longer than the limit)."
    assert (words in pick_of(candidate(), rows=200, dropped=dropped).warnings) == is_told


@pytest.mark.parametrize(("accuracy", "is_told"), [(0.267, True), (0.6, False)])
def test_a_classifier_that_may_as_well_not_look_is_told(accuracy, is_told):
    pick = candidate("lora", accuracy, baseline_value=0.1)
    pick = pick.model_copy(update={"predicted": pick.predicted.model_copy(update={"metric": "accuracy"})})
    warnings = pick_of(pick, largest_class_share=0.267).warnings
    assert any("most frequent class would reach accuracy 26.7 %" in warning for warning in warnings) == is_told
    assert not any("most frequent" in warning for warning in pick_of(pick).warnings)


@pytest.mark.parametrize(
    ("metric", "blind", "measured", "is_told"),
    [
        ("accuracy", "80.0 %", 0.8, True),
        ("accuracy", "80.0 %", 0.85, False),
        # All of one class in four, of which 4 in 5 rows are: F1 of 0.889 there, of 0 in the other three.
        ("macro F1", "22.2 %", 0.222, True),
        ("macro F1", "22.2 %", 0.3, False),
    ],
)
def test_a_classifier_that_has_not_learned_more_than_the_shares_of_classes_yet_is_told(
    metric, blind, measured, is_told
):
    pick = candidate("lora", 0.9, baseline_value=0.1)
    last = CurvePoint(step=60, eval_loss=0.5, metric=measured)
    changes = {"predicted": pick.predicted.model_copy(update={"metric": metric}), "curve": Curve(points=(last,))}
    pick, data = pick.model_copy(update=changes), {"largest_class_share": 0.8, "held_out_classes": 4}
    words = f"After 60 steps it did no better than always naming the most frequent class ({metric} {blind})"
    assert bool(told(words, pick, **data)) == is_told
    assert not told(words, pick, **data, max_steps=60), "the run is over"


@pytest.mark.parametrize(
    ("accuracy", "untuned_accuracy", "loss", "is_told"),
    [(0.0, 0.0, 1.2, True), (0.0, 0.0, 0.9, False), (0.5, 0.1, 1.2, False), (0.1, 0.2, 0.9, True)],
)
def test_a_run_that_gains_nothing_is_told_first_and_never_surely_recommended(accuracy, untuned_accuracy, loss, is_told):
    pick = candidate("lora", accuracy, baseline_value=untuned_accuracy, loss=loss, baseline_loss=1.0)
    decision = pick_of(pick)
    assert decision.warnings[0].startswith("It is expected to end worse than the untuned model") == is_told
    assert (decision.confidence == "low") == is_told


@pytest.mark.parametrize(("share", "is_told"), [(0.67, True), (0.01, False)])
def test_texts_that_the_tokenizer_cannot_read_are_told(share, is_told):
    words = "67 % of the tokens are unknown to the model's tokenizer"
    assert bool(told(words, candidate("lora", 0.8, baseline_value=0.1), unknown_share=share)) == is_told


@pytest.mark.parametrize(
    ("steps", "tokenised_rows", "usable_rows", "is_told"),
    [
        (1800, 10_000, 100_000, True),  # 14,400 rows of 9,800
        (1200, 10_000, 100_000, False),
        (1800, 10_000, 10_000, False),  # all rows: the planned run sees them again, too
    ],
)
def test_a_probe_that_saw_a_sample_again_and_again_is_told(steps, tokenised_rows, usable_rows, is_told):
    rows = {"tokenised_rows": tokenised_rows, "usable_rows": usable_rows, "train_rows": usable_rows - 200}
    words = "Its probe went 1.5 times over a sample of 9,800 rows, where the planned run goes 0.1 times over all 99,800"
    assert bool(told(words, candidate(steps=steps), max_steps=30_000, **rows)) == is_told
    assert bool(told("over a sample", candidate(steps=steps), max_steps=30_000, **rows)) == is_told
    assert not told("over a sample", candidate(steps=steps, rests_on_own_runs=True), max_steps=30_000, **rows)


def test_an_end_that_was_measured_before_is_told_as_such():
    assert told("It has been trained to the end on this task before", candidate(rests_on_own_runs=True))
    assert not told("It has been trained", candidate())


def test_rows_that_nothing_can_learn_are_told():
    words = "7 of the 200 held-out rows have a class that no training row has"
    assert told(words, candidate(), unseen_class_rows=7) and not told(words, candidate())


def test_a_run_that_was_assumed_for_want_of_data_is_told():
    pick = candidate(status="from table", curve=Curve())
    run = PlannedRun(max_steps=375, max_length_tokens=512)
    without = decide([pick], CARD, "accuracy", planned_run=run)[1].warnings
    assert any("375 steps of rows of 512 tokens" in warning for warning in without)
    assert not told("is assumed", pick)
