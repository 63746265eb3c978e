"""Predicted against reached, beside what tests/advisor/training/test_train.py sees of whole runs."""

from __future__ import annotations

import pytest

from advisor.deciding.quality import TABLE_RANK
from advisor.recommendation import Prediction
from advisor.training.training_report import compare
from knowledge.schema import Curve, CurvePoint
from probes.schema import ProbeOutcome
from tests.advisor.factories import candidate

LAST = CurvePoint(step=600, eval_loss=1.2, metric=0.5)


@pytest.mark.parametrize(
    ("device_kind", "reached", "place"), [("cuda", 7, ""), ("cpu", None, "a processor"), ("mps", None, "an Apple GPU")]
)
def test_memory_that_was_not_held_on_a_card_is_not_compared_and_the_note_says_where_it_was(device_kind, reached, place):
    outcome = ProbeOutcome(id="lora", status="finished", peak_bytes=7)
    (memory,) = [
        c for c in compare(candidate(), LAST, outcome, device_kind, "exact match") if c.quantity == "peak memory"
    ]
    assert memory.reached == reached
    assert memory.note == (place and f"the prediction is for an NVIDIA GPU, this run was on {place}")


@pytest.mark.parametrize(("off_bytes", "inside"), [(0.9, True), (-0.9, True), (1.1, False)])
def test_memory_is_held_against_what_dry_runs_are_off_by(off_bytes, inside):
    pick = candidate()
    outcome = ProbeOutcome(
        id="lora", status="finished", peak_bytes=round(pick.memory.peak_bytes + off_bytes * pick.memory.noise_bytes)
    )
    measured = pick.model_copy(update={"memory": pick.memory.model_copy(update={"basis": "measured"})})
    for of, verdict in ((pick, inside), (measured, None)):
        (memory,) = [c for c in compare(of, LAST, outcome, "cuda", "exact match") if c.quantity == "peak memory"]
        assert memory.inside is verdict


def test_a_rank_in_the_table_is_no_value_that_a_run_could_reach():
    rank = Prediction(metric=TABLE_RANK, value=0.5, low=0.3, high=0.7)
    outcome = ProbeOutcome(id="lora", status="finished")
    pick = candidate(status="from table", predicted=rank, predicted_loss=None, curve=Curve())
    compared = {c.quantity: c for c in compare(pick, LAST, outcome, "cuda", "exact match")}
    assert list(compared) == ["eval loss", "exact match", "peak memory", "training time"]
    assert compared["exact match"].reached == 0.5
    assert compared["exact match"].predicted is None and compared["exact match"].inside is None


@pytest.mark.parametrize(("reached", "inside"), [(1250.0, True), (1300.0, False)])
def test_the_time_is_held_against_its_interval(reached, inside):
    outcome = ProbeOutcome(id="lora", status="finished", train_s=reached)
    pick = candidate(planned_run_s=1200.0, planned_run_range_s=(1150.0, 1260.0))
    *_, time = compare(pick, LAST, outcome, "cuda", "exact match")
    assert (time.quantity, time.low, time.high, time.inside) == ("training time", 1150.0, 1260.0, inside)
    *_, untold = compare(candidate(planned_run_s=1200.0), LAST, outcome, "cuda", "exact match")
    assert untold.inside is None


def test_loss_and_metric_are_held_against_what_was_predicted_of_each():
    compared = compare(candidate(), LAST, ProbeOutcome(id="lora", status="finished"), "cuda", "exact match")
    assert [(c.quantity, c.predicted, c.reached, c.inside) for c in compared[:2]] == [
        *(("eval loss", 1.2, 1.2, True), ("exact match", 0.5, 0.5, True))
    ]
