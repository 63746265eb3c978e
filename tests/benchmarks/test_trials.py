"""The trials: their tasks are what they say, and their table says what was told and reached."""

from __future__ import annotations

import json

import pytest

from tests.advisor.tiny_run import save_tiny, write_rows
from tests.benchmarks import trials
from tests.benchmarks.trial_tasks import TRIALS, Trial

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.mark.parametrize("name", ["manual", "leg_counting"])
def test_tasks_of_what_is_installed_have_rows_that_are_always_the_same(name, tmp_path):
    rows = TRIALS[name].write(tmp_path / "a.jsonl").read_text()
    assert TRIALS[name].write(tmp_path / "b.jsonl").read_text() == rows
    lines = rows.splitlines()
    assert len(set(lines)) == len(lines) == 500
    assert all(json.loads(line) for line in lines)


def test_a_trial_tells_what_was_predicted_and_reached_and_is_not_run_twice(tmp_path, monkeypatch):
    model = save_tiny(tmp_path / "model", "llama")
    rows = [
        json.loads(r) for r in write_rows(tmp_path / "r.jsonl", "causal-lm").read_text().splitlines() if r[-1] == "}"
    ]
    monkeypatch.setattr(trials, "packaged_model", lambda package: str(model))
    options = {"methods": ("lora", "ia3"), "epochs": 1, "workers": 1, "show_progress": False}
    race = trials.recommend
    monkeypatch.setattr(trials, "recommend", lambda *place, **given: race(*place, **given, **options))
    trial = Trial("tiny", lambda: rows)
    found = trials.measure(trial, tmp_path / "out", budget_minutes=2.0)
    monkeypatch.setattr(trials, "recommend", None)
    assert trials.measure(trial, tmp_path / "out", budget_minutes=2.0) == found
    told = {c["quantity"]: c for c in found["pick"]["comparisons"]}
    assert told["eval loss"]["low"] <= told["eval loss"]["predicted"] <= told["eval loss"]["high"]
    if found["pick"]["method"] == "lora":
        assert found["gain"]["told"] == found["gain"]["reached"] == 0
    table = list(trials.lines({"sums": found}))
    assert any(line.startswith(f"| sums | {found['pick']['method']} (pick)") for line in table)
    assert any(line.startswith("loss of the pick: ") for line in table)
