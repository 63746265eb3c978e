"""What the probes of candidates measured, put together."""

from __future__ import annotations

from advisor.measured import Measured, step_s_by_method
from knowledge.schema import Curve
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
