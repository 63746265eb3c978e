"""The benchmark of objectives runs over the shipped table, and what they promise mostly holds there."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks import objectives
from tests.benchmarks.new_task import tasks


def of_task(name):
    return next((own, known) for suite, own, known in tasks() if suite.startswith(name))


@pytest.fixture(scope="module")
def published():
    own, known = of_task("metamathqa")
    return objectives.measure(objectives.of_one_seed(own), known, share=0.1, sets=3)


def test_an_objective_is_measured_where_all_that_it_trades_is_known(published):
    assert set(published) == {"accuracy", "balanced", "memory", "speed"}
    untimed, _ = of_task("debian_sections")
    assert objectives.objectives_of(untimed) == ("accuracy",)


def test_each_objective_pays_less_of_what_it_is_named_after(published):
    assert published["memory"]["memory"] <= published["balanced"]["memory"] <= published["accuracy"]["memory"]
    assert published["speed"]["time"] < published["accuracy"]["time"]
    assert published["accuracy"]["regret"] <= published["memory"]["regret"]


def test_what_is_promised_is_mostly_kept(published):
    assert published["memory"]["as_promised"] > 0.6 and published["speed"]["as_promised"] > 0.6
    assert published["accuracy"]["as_promised"] is None
    assert all(row["kept"] > 0.8 for row in published.values())


def test_a_candidate_takes_part_once():
    own, _ = of_task("chain_sum")
    once = objectives.of_one_seed(own)
    assert len(once) < len(own) and {run.seed for run in once} == {0}


def test_the_last_line_is_json(monkeypatch, capsys):
    few = [task for task in tasks() if task[0].startswith("debian_interfaces")]
    monkeypatch.setattr("sys.argv", ["objectives", "--sets", "1"])
    monkeypatch.setattr(objectives, "tasks", lambda: iter(few))
    objectives.main()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("speed, 20%") for line in lines)
    assert set(json.loads(lines[-1])["debian_interfaces/all-minilm-l6-v2"]["10%"]) == {"accuracy", "speed"}
