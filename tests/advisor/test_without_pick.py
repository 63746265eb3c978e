"""What is told where nothing could be recommended."""

from __future__ import annotations

import pytest

from advisor.report.without_pick import advice_without_pick, ran_out_of_time, why_no_pick
from tests.advisor.factories import candidate, result


def timed_out(**race):
    """Two candidates whose race of a minute, 40 seconds of it for loading, ended before their first rung did."""
    made = result([candidate(name, None, status="not tried", reason="the race ended") for name in ("lora", "oft")])
    race = made.race.model_copy(update={"budget_s": 60.0, "duration_s": 100.0, "expected_s": 260.0, **race})
    return made.model_copy(update={"race": race, "recommendation": None})


def test_a_budget_that_ended_before_anything_was_evaluated_is_told_with_one_that_would_do():
    words = advice_without_pick(timed_out())
    assert "The budget of 60 s ended before a probe was evaluated" in words and "Give --budget 6" in words
    assert "memory" not in words


@pytest.mark.parametrize("race", [{"interrupted": True}, {"dry_run": True}])
def test_who_stopped_a_race_is_not_told_of_its_budget(race):
    assert "budget of" not in advice_without_pick(timed_out(**race))


def test_where_something_was_measured_memory_is_what_may_help():
    made = result([candidate("lora", 0.5, 30.0), candidate("oft", None, status="not tried", reason="no time")])
    assert not ran_out_of_time(made) and "--batch-size" in advice_without_pick(made)


def all_failed(*others):
    failed = {"status": "failed", "reason": "the metric raised KeyError"}
    return result([candidate(name, None, **failed) for name in ("lora", "oft")] + list(others))


def test_where_memory_was_enough_a_smaller_batch_is_not_said_to_help():
    words = advice_without_pick(all_failed())
    assert "--batch-size" not in words and "--budget" not in words
    waiting = candidate("dora", None, status="not tried", reason="the budget did not reach it")
    assert "A longer --budget tries more" in advice_without_pick(all_failed(waiting))
    small_card = candidate("dora", None, 30.0, status="out of memory", reason="out of memory at step 3")
    assert "--batch-size" in advice_without_pick(all_failed(small_card))


def test_a_race_that_was_stopped_is_told_as_such_and_how_to_go_on():
    stopped = timed_out(interrupted=True)
    assert why_no_pick(stopped) == "the race was interrupted before a probe was evaluated"
    assert "--resume" in advice_without_pick(stopped) and "--batch-size" not in advice_without_pick(stopped)


def test_a_race_that_could_not_go_on_is_not_told_of_its_budget():
    made = timed_out(ended_by="No room is left on the disk.")
    assert why_no_pick(made) == "the race could not go on: No room is left on the disk"
    assert "--resume" in advice_without_pick(made) and "--budget" not in advice_without_pick(made)


def test_what_is_measured_for_comparison_alone_is_told_as_such():
    made = result([candidate("full", 0.5, status="reference"), candidate("lora", None, status="excluded")])
    assert made.recommendation is None
    assert "never recommended: name other --methods" in advice_without_pick(made)
