"""Predicted against reached, beside what tests/advisor/test_train.py sees of whole runs."""

from __future__ import annotations

import pytest

from advisor.training_report import compare
from knowledge.schema import CurvePoint
from probes.schema import ProbeOutcome
from tests.advisor.factories import candidate

LAST = CurvePoint(step=600, eval_loss=1.2, metric=0.5)


@pytest.mark.parametrize(
    ("device_kind", "reached", "place"), [("cuda", 7, ""), ("cpu", None, "a processor"), ("mps", None, "an Apple GPU")]
)
def test_memory_that_was_not_held_on_a_card_is_not_compared_and_the_note_says_where_it_was(device_kind, reached, place):
    outcome = ProbeOutcome(id="lora", status="finished", peak_bytes=7)
    (memory,) = [c for c in compare(candidate(), LAST, outcome, device_kind) if c.quantity == "peak memory"]
    assert memory.reached == reached
    assert memory.note == (place and f"the prediction is for an NVIDIA GPU, this run was on {place}")
