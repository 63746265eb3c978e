"""What a plan says of itself."""

from __future__ import annotations

from probes.racing.planner import plan_race
from tests.probes.races import grid, plan


def test_the_plan_can_be_read():
    entries, run_s = grid(8)
    text = plan_race(entries, run_s, 700.0).lines()
    assert text[0].startswith("24 candidates (8 methods) to 5.0 % of the run")
    assert text[1].endswith(", each also at its next lower learning rate, to 10.0 %")
    with_reference = plan(entries, reference_rungs=2).lines()
    assert with_reference[1].startswith("the best 2 and, in any case, lora,") and "lora" not in with_reference[2]
    both = plan_race(entries, run_s, 300.0, reference="m07").lines()
    assert both[1] == "the best 6 and, in any case, m07, each also at its next lower learning rate, to 10.0 %"
    assert text[-1].startswith("the best ") and text[-1].endswith(" to 100.0 %") and "lower" not in text[-1]


def test_its_first_rungs_are_a_plan_too():
    whole = plan([], fractions=(0.05, 0.1, 1.0), keep=(2, 1))
    assert (whole.until(2).fractions, whole.until(2).keep) == ((0.05, 0.1), (2,))
    assert (whole.until(1).fractions, whole.until(1).keep) == ((0.05,), ())
    assert whole.until(3) == whole
