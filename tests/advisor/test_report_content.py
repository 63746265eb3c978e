"""What terminal and page both say of a result."""

from __future__ import annotations

import pytest

from advisor.report import content
from tests.advisor.factories import candidate, result


def timed_out(**race):
    """Two candidates whose race of a minute, 40 seconds of it for loading, ended before their first rung did."""
    made = result([candidate(name, None, status="not tried", reason="the race ended") for name in ("lora", "oft")])
    race = made.race.model_copy(update={"budget_s": 60.0, "duration_s": 100.0, "expected_s": 260.0, **race})
    return made.model_copy(update={"race": race, "recommendation": None})


def test_a_budget_that_ended_before_anything_was_evaluated_is_told_with_one_that_would_do():
    words = content.advice_without_pick(timed_out())
    assert "The budget of 60 s ended before a probe was evaluated" in words and "Give --budget 6" in words
    assert "memory" not in words


@pytest.mark.parametrize("race", [{"interrupted": True}, {"dry_run": True}])
def test_who_stopped_a_race_is_not_told_of_its_budget(race):
    assert "budget of" not in content.advice_without_pick(timed_out(**race))


def test_where_something_was_measured_memory_is_what_may_help():
    made = result([candidate("lora", 0.5, 30.0), candidate("oft", None, status="not tried", reason="no time")])
    assert not content.ran_out_of_time(made) and "--batch-size" in content.advice_without_pick(made)


def test_on_a_processor_the_memory_told_is_that_of_a_gpu_beside_what_was_held():
    made = result([candidate("lora", 0.5, 0.126, probe_peak_bytes=602_000_000)])
    here = made.model_copy(update={"device": made.device.model_copy(update={"kind": "cpu"})})
    told = content.memory_line(here, here.pick)
    assert told == "126 MB at the peak, as on an NVIDIA GPU; here the probes' process held 602 MB"
    assert "NVIDIA" not in content.memory_line(made, made.pick).partition("(")[0]


def test_a_run_of_one_step_is_told_as_one():
    made = result()
    run = made.planned_run.model_copy(update={"max_steps": 1, "batch_size": 1, "gradient_accumulation_steps": 1})
    told = content.time_line(made.model_copy(update={"planned_run": run}), made.pick)
    assert "1 step of 1 row" in told and "1 rows" not in told
