"""Forecasts on three tasks of the table, told by six others, are to the last figure what they were.

How a half-width is put together shows in no property that holds of every forecast, and in the benchmarks only on
average. So a change of these figures has to be meant: `UPDATE_SNAPSHOTS=1 pytest` writes them anew, and
`python -m tests.benchmarks.new_task` says whether it is for the better. The tasks are named, so that new ones in the
table change nothing here.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from advisor.forecast.end_model import probe_of
from advisor.forecast.predictor import Forecast, Predictor
from tests.benchmarks.new_task import tasks
from tests.benchmarks.race_quality import random_sets, replay

SNAPSHOT = Path(__file__).parent / "snapshots" / "forecasts.json"
UNKNOWN = ("debian_sections/all-minilm-l6-v2", "metamathqa/llama-3.2-3b", "word_sorting/smollm2-135m")
KNOWN = (
    *("chain_sum", "debian_interfaces", "debian_languages", "docstrings", "family_relationships", "function_names"),
    *("debian_sections", "library_packages", "metamathqa", "spell_backward", "word_sorting"),
)
SHARES = (0.1, 0.2)
CANDIDATES = 12


def told(forecast: Forecast) -> dict:
    """Numbers of a forecast, as they are compared."""
    found = {}
    for name, value in asdict(forecast).items():
        if name in ("loss", "metric"):
            prediction = getattr(forecast, name)
            value = prediction and [prediction.value, prediction.low, prediction.high]
            found[f"{name}_is_extrapolated"] = prediction and prediction.extrapolated
        found[name] = short(list(value) if isinstance(value, tuple) else value)
    return found


def short(value: float | list[float] | None) -> float | list[float] | None:
    """To six digits, for a file that can be read."""
    return [short(number) for number in value] if isinstance(value, list) else value and float(f"{value:.6g}")


@pytest.fixture(scope="module")
def figures() -> dict[str, dict]:
    found = {}
    for name, own, known in tasks():
        if name not in UNKNOWN:
            continue
        known = [run for run in known if run.benchmark.partition("/")[0] in KNOWN]
        predictor = Predictor(known, task=own[0].task, label_mean_tokens=own[0].label_mean_tokens or 1.0)
        runs = next(iter(random_sets(own, 1, CANDIDATES)))
        by_id = {run.experiment: run for run in runs}
        for share in SHARES:
            raced = replay(runs, share)
            probes = {id: probe_of(by_id[id], raced.reached[id]) for id in raced.observed}
            forecasts = predictor.predict(probes, own[0].max_steps, own[0].curve.metric_name)
            found[f"{name} {share:g}"] = {id: told(forecasts[id]) for id in sorted(forecasts)}
    return found


def test_forecasts_are_what_they_were(figures):
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    kept = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert figures.keys() == kept.keys() and len(kept) == len(UNKNOWN) * len(SHARES)
    for race, forecasts in figures.items():
        assert forecasts.keys() == kept[race].keys(), race
        for id, forecast in forecasts.items():
            for name, value in forecast.items():
                assert value == pytest.approx(kept[race][id][name], rel=1e-3, abs=1e-6), (race, id, name)
