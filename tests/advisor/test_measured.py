"""What the probes of candidates measured, put together."""

from __future__ import annotations

from advisor.measured import Measured, step_s_by_method
from knowledge.schema import Curve, CurvePoint
from probes.schema import ProbeOutcome
from tests.advisor.test_judge import proposed


def test_rates_of_a_method_take_the_same_time():
    outcomes = [
        ProbeOutcome(id="a", status="finished", last_step=8, train_s=16.0),
        ProbeOutcome(id="b", status="finished", last_step=92, train_s=84.0),
        ProbeOutcome(id="c", status="failed"),
    ]
    (lora,) = proposed("lora")
    found = [Measured(lora, Curve(), [outcome], None) for outcome in outcomes]
    assert step_s_by_method(found) == {"lora": 1.0}
    assert step_s_by_method(found[2:]) == {}


def test_of_a_probe_that_was_cut_off_its_last_point_tells_the_time():
    (lora,) = proposed("lora")
    seen = Curve(points=(CurvePoint(step=4, elapsed_s=10.0), CurvePoint(step=8, elapsed_s=16.0)))
    assert step_s_by_method([Measured(lora, seen, [], None)]) == {"lora": 2.0}
    assert step_s_by_method([Measured(lora, Curve(points=(CurvePoint(step=8),)), [], None)]) == {}
    failed = ProbeOutcome(id="a", status="failed", last_step=2, train_s=3.0)
    assert step_s_by_method([Measured(lora, seen, [failed], None)]) == {"lora": 1.5}


def test_a_worker_that_died_last_takes_no_time_away():
    """Its candidate was said to take an unknown time, which counts as the longest."""
    (lora,) = proposed("lora")
    trained = ProbeOutcome(id="a", status="finished", last_step=8, train_s=16.0)
    lost = ProbeOutcome(id="a", status="failed", worker_lost=True)
    assert step_s_by_method([Measured(lora, Curve(), [trained, lost], None)]) == {"lora": 2.0}
    seen = Curve(points=(CurvePoint(step=8, elapsed_s=24.0),))
    assert step_s_by_method([Measured(lora, seen, [lost], None)]) == {"lora": 3.0}
