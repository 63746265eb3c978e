"""The benchmark of unseen tasks runs over the shipped table, and forecasts hold there about as often as they say."""

from __future__ import annotations

import json
from statistics import fmean

import pytest

from knowledge.prior import suite_of
from tests.benchmarks import new_task


@pytest.fixture(scope="module")
def tasks():
    return [(name, own, new_task.predictor_of(own, known)) for name, own, known in new_task.tasks()]


def figures_at(share, tasks):
    return {name: new_task.measure(own, predictor, share=share, sets=5) for name, own, predictor in tasks}


@pytest.fixture(scope="module")
def figures(tasks):
    return figures_at(0.1, tasks)


@pytest.fixture(scope="module")
def figures_of_longer_races(tasks):
    return figures_at(0.2, tasks)


def test_every_task_plays_the_unknown_one_and_is_not_among_the_known():
    tasks = list(new_task.tasks())
    assert len(tasks) >= 3
    for name, own, known in tasks:
        assert len(own) >= new_task.FEWEST_RUNS and len({run.max_steps for run in own}) == 1
        assert {suite_of(run) for run in own} == {name} and name not in {suite_of(run) for run in known}


def test_intervals_hold_on_tasks_that_nobody_has_run(figures, figures_of_longer_races):
    """On average over the tasks: one that is like no other is not foreseen by probes."""
    for inside in ("inside", "metric_inside"):
        assert 0.65 <= fmean(row[inside] for row in figures.values()) <= 0.95
        unlike_all_others, *shares = sorted(row[inside] for row in figures_of_longer_races.values())
        assert 0.75 <= fmean([unlike_all_others, *shares]) <= 0.95 and min(shares) > 0.5


def test_intervals_say_something(figures):
    """Half of an interval is less than what the losses of such tasks are, and than what a metric can be."""
    assert fmean(row["half_width"] for row in figures.values()) < 1.2
    assert fmean(row["metric_half_width"] for row in figures.values()) < 0.4


def test_what_is_called_better_mostly_is(figures):
    for name, row in figures.items():
        assert row["proven_right"] is None or row["proven_right"] > 0.6, name


def test_the_rate_that_stands_for_a_method_ends_better_than_the_one_that_is_foretold_best(figures_of_longer_races):
    differ = [row for row in figures_of_longer_races.values() if row["taken_behind"] is not None]
    assert len(differ) > 10
    kept, foretold, taken = (fmean(row[f"{rate}_behind"] for row in differ) for rate in ("kept", "foretold", "taken"))
    assert taken < 0.6 * foretold and taken < 1.2 * kept


def test_the_last_line_is_json(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["new_task", "--sets", "1"])
    few = list(new_task.tasks())[1:3]
    monkeypatch.setattr(new_task, "tasks", lambda: iter(few))
    new_task.main()
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(set(by_budget) == {"10%", "20%", "40%"} for by_budget in printed.values())
