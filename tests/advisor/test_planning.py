"""What the budget allows: the plan of a race in steps of the planned run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import LlamaConfig

from advisor import planning
from advisor.candidates import Candidate
from advisor.planning import Costs, Lineup, line_up, measure_costs, plan_probes
from knowledge.methods import get_method
from knowledge.prior import MethodPrior
from knowledge.schema import PlannedRun
from probes.racing.journal import Journal
from probes.racing.plan import Entry, RacePlan, stop_step
from probes.schema import Baseline
from tests.advisor.factories import memory

NAMES = ("lora", "dora", "ia3", "oft", "rslora", "vera", "boft", "loha")


@pytest.mark.parametrize(("max_steps", "ends"), [(1, [1]), (2, [1, 2]), (400, [20, 40, 80, 400])])
def test_no_rung_ends_where_the_one_before_it_does(max_steps, ends):
    """Of a run of one step nobody may leave before it: everybody's run is over then."""
    survey = SimpleNamespace(shape=SimpleNamespace(is_narrow=False), planned_run=PlannedRun(max_steps=max_steps))
    candidates = [Candidate(name, get_method(name), 1e-4, {}) for name in NAMES]
    costs = Costs(dict.fromkeys(NAMES, 1.0), evaluation_s=0.1, load_s=1.0)
    plan = plan_probes(survey, candidates, costs, {}, budget_s=2.0 * max_steps * len(NAMES), workers=1)
    assert [stop_step(fraction, max_steps) for fraction in plan.fractions] == ends
    assert len(plan.keep) == len(ends) - 1 and plan.reference_rungs == len(ends)


def costs_of(*names: str, eval_rows: int = 20, priors: Mapping[str, MethodPrior] | None = None) -> Costs:
    data = SimpleNamespace(
        batch_order=lambda batch_size, batches, seed: [np.arange(batch_size)] * batches,
        train=SimpleNamespace(lengths_tokens=np.full(8, 10)),
        profile=SimpleNamespace(eval_rows=eval_rows),
    )
    survey = SimpleNamespace(data=data, planned_run=PlannedRun(max_steps=4))
    baseline = Baseline(eval_loss=1.0, metric=None, load_s=1.0, eval_s=1.0, eval_tokens=640)
    return measure_costs(
        survey, baseline, [Candidate(name, get_method(name), 1e-4, {}) for name in names], priors or {}
    )


@pytest.mark.parametrize(("eval_rows", "end_s"), [(20, 0.0), (64, 0.0), (160, 5.0)])
def test_who_comes_to_the_end_pays_for_all_held_out_rows_and_for_the_untuned_model(eval_rows, end_s):
    costs = costs_of("lora", eval_rows=eval_rows)
    assert costs.end_s == end_s and costs.evaluation_s == 1.0


@pytest.mark.parametrize(("beside_lora", "as_long"), [(None, 3.2 / 2.4), (1.5, 1.5), (0.8, 1.0)])
def test_full_fine_tuning_is_as_slow_as_the_table_says_or_by_its_passes_where_that_is_silent(beside_lora, as_long):
    """Not both: with the table's word of 1.3 it was planned to take 1.8 times as long as LoRA."""
    priors = {"full": MethodPrior("full", 0.5, 0.0, 1.0, relative_time=beside_lora)}
    step_s = costs_of("lora", "full", priors=priors).step_s
    assert step_s["full"] / step_s["lora"] == pytest.approx(as_long)


def test_a_plan_leaves_time_for_what_is_measured_at_the_end():
    survey = SimpleNamespace(shape=SimpleNamespace(is_narrow=False), planned_run=PlannedRun(max_steps=400))
    candidates = [Candidate(name, get_method(name), 1e-4, {}) for name in NAMES]
    expected_s = [
        plan_probes(survey, candidates, Costs(dict.fromkeys(NAMES, 1.0), 0.1, 1.0, end_s), {}, 4e3, 1).expected_s
        for end_s in (0.0, 10.0)
    ]
    finalists = (expected_s[1] - expected_s[0]) / 10.0
    assert finalists == round(finalists) >= 2


def test_a_plan_that_is_gone_on_with_tells_how_much_of_it_is_done():
    plan = RacePlan((Entry("a", "lora", "low-rank", 1e-3, None, 0.5),), (0.05,), (), expected_s=30.0)
    lineup = Lineup(plan, [], [], probed_before_s=100.0)
    assert lineup.in_words(100.0, left_s=25.0)[-1] == "about 30 s of probing from here, more than the budget leaves"
    assert lineup.in_words(100.0, left_s=29.9)[-1] == "about 30 s of probing from here", "it spends all that is left"
    assert lineup.in_words(120.0, left_s=29.0)[-1] == "about 30 s of probing in all, 20 s of it done"


def test_who_was_too_large_for_a_requirement_is_back_where_a_resumed_race_drops_it(tmp_path, monkeypatch):
    """LoRA's adapter has 10 MB here, LN tuning's 10 kB."""
    sizes = {"lora": 10**7, "ln-tuning": 10**4}
    sized = {name: memory(1).model_copy(update={"breakdown": {"adapter": size}}) for name, size in sizes.items()}
    monkeypatch.setattr(
        planning, "with_memory", lambda found, *_: ([replace(c, memory=sized[c.method.name]) for c in found], [])
    )
    candidates = [Candidate(name, get_method(name), 1e-3, {}) for name in sizes]
    costs = Costs(dict.fromkeys(sizes, 1.0), evaluation_s=0.1, load_s=1.0)

    def lined_up(*require: str) -> tuple[set[str], list[str]]:
        with Journal(tmp_path / "journal.jsonl", "fingerprint", resume=True) as journal:
            found = line_up(_survey(require), candidates, costs, {}, 1, time.monotonic() + 900, journal, print)
        return {c.id for c in found.entering}, [report.name for report in found.too_large]

    assert lined_up("max-adapter-size=1MB") == ({"ln-tuning"}, ["lora"])
    assert lined_up() == ({"lora", "ln-tuning"}, [])
    assert lined_up("max-adapter-size=1MB") == ({"ln-tuning"}, ["lora"])


@pytest.mark.parametrize(("own_rate", "usual"), [(None, 3e-4), (1e-3, 1e-3)])
def test_a_method_enters_at_the_rate_of_ones_own_best_run_where_rates_cannot_be_compared(own_rate, usual):
    method = get_method("lora")
    rates = method.learning_rates
    candidates = [Candidate(f"lora@{rate:g}", method, rate, {}) for rate in rates]
    priors = {"lora": MethodPrior("lora", 0.5, 0.0, 1.0, own_learning_rate=own_rate)}
    costs = Costs(dict.fromkeys((c.id for c in candidates), 1.0), evaluation_s=0.1, load_s=1.0)
    shape = SimpleNamespace(is_narrow=False, hidden_size=4096, num_layers=32)
    survey = SimpleNamespace(planned_run=PlannedRun(max_steps=100), shape=shape)
    plan = plan_probes(survey, candidates, costs, priors, budget_s=60.0, workers=1)
    assert [entry.learning_rate for entry in plan.entries if entry.usual] == [usual]


def _survey(require: tuple[str, ...]) -> SimpleNamespace:
    return SimpleNamespace(
        config=LlamaConfig(),
        request=SimpleNamespace(require=require, budget_minutes=15.0, probe=True),
        planned_run=PlannedRun(max_steps=100),
        model=SimpleNamespace(model_type="llama", parameters=10**8),
        device=SimpleNamespace(limit_bytes=10**10),
        shape=SimpleNamespace(is_narrow=False),
        source=SimpleNamespace(kind="hub"),
    )
