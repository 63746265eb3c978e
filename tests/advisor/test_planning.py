"""What the budget allows: the plan of a race in steps of the planned run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from advisor.candidates import Candidate
from advisor.planning import Costs, plan_probes
from knowledge.methods import get_method
from knowledge.schema import PlannedRun
from probes.conduct import stop_step

NAMES = ("lora", "dora", "ia3", "oft", "rslora", "vera", "boft", "loha")


@pytest.mark.parametrize(("max_steps", "ends"), [(1, [1]), (2, [1, 2]), (400, [20, 40, 80, 400])])
def test_no_rung_ends_where_the_one_before_it_does(max_steps, ends):
    """Of a run of one step nobody may leave before it: everybody's run is over then."""
    survey = SimpleNamespace(shape=SimpleNamespace(is_narrow=False), planned_run=PlannedRun(max_steps=max_steps))
    candidates = [Candidate(name, get_method(name), 1e-4, {}) for name in NAMES]
    costs = Costs(dict.fromkeys(NAMES, 1.0), evaluation_s=0.1, load_s=1.0)
    plan = plan_probes(survey, candidates, costs, {}, budget_s=2.0 * max_steps * len(NAMES), workers=1)
    assert [stop_step(fraction, max_steps) for fraction in plan.fractions] == ends
    assert len(plan.keep) == len(ends) - 1
