"""Cohorts are made of whatever result files lie in a folder, and tell what of them cannot be used."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

import numpy as np
import pytest

from advisor.forecast import end_model
from tests.benchmarks import prediction_quality
from tests.benchmarks.cohorts import group_of, load_cohorts
from tests.benchmarks.test_selection import cohort_files
from tests.knowledge.suite_files import write


def load(folder, **files):
    write(folder, **files)
    return load_cohorts(folder)


def changed(content, **train_info):
    content = deepcopy(content)
    content["train_info"] |= train_info
    return content


def with_metrics(content, change):
    content = deepcopy(content)
    for entry in content["train_info"]["metrics"]:
        change(entry)
    return content


@pytest.fixture
def files():
    return cohort_files()


def odd_runs(content):
    def lose_the_loss(entry):
        entry["train loss"] = float("nan") if entry["step"] > 3000 else entry["train loss"]

    def lose_the_validation(entry):
        if "valid accuracy" in entry:
            entry["valid accuracy"] = float("nan")

    def lose_the_test(entry):
        if "test accuracy" in entry:
            entry["test accuracy"] = float("nan")

    return {
        "no memory": (changed(content, cuda_memory_max=0), "no peak memory"),
        "nan loss": (with_metrics(content, lose_the_loss), "no loss or no validation metric at 100% of the run"),
        "nan valid": (with_metrics(content, lose_the_validation), "no loss or no validation metric at 5% of the run"),
        "nan test": (with_metrics(content, lose_the_test), "no final metric"),
    }


@pytest.mark.parametrize("odd", list(odd_runs(cohort_files()["run0"])))
def test_a_run_that_lacks_something_is_left_out_with_the_reason(tmp_path, files, odd):
    content, reason = odd_runs(files["run0"])[odd]
    content["run_info"]["experiment_name"] = "odd"
    (cohort,), left_out = load(tmp_path, **files, odd=content)
    assert len(cohort.runs) == 12 and not left_out
    assert list(cohort.rejected.values()) == [reason] and "odd" in next(iter(cohort.rejected))


def test_of_reruns_and_seeds_one_takes_part_and_the_others_are_counted(tmp_path, files):
    rerun, seed = deepcopy(files["run0"]), deepcopy(files["run1"])
    rerun["run_info"]["created_at"] = "2020-01-01T00:00:00+00:00"
    seed["run_info"]["experiment_name"] = "run-1-again"
    seed["run_info"]["train_config"]["seed"] = 1
    decays = deepcopy(files["run2"])  # it is another candidate
    decays["run_info"]["experiment_name"] = "run-2-with-decay"
    decays["run_info"]["train_config"]["optimizer_kwargs"]["weight_decay"] = 0.5
    (cohort,), _ = load(tmp_path, **files, rerun=rerun, seed=seed, decays=decays)
    assert len(cohort.runs) == 13
    assert Counter(cohort.rejected.values()) == {
        "an older run of the same experiment": 1,
        "another seed of a candidate": 1,
    }


def test_runs_of_another_length_are_another_cohort(tmp_path, files):
    for name, content in cohort_files().items():
        content["run_info"]["train_config"]["max_steps"] *= 2
        for entry in content["train_info"]["metrics"]:
            entry["step"] *= 2
        files[f"long-{name}"] = content
    cohorts, _ = load(tmp_path, **files)
    assert {cohort.name.rpartition(", ")[2]: len(cohort.runs) for cohort in cohorts} == {
        "5000 steps": 12,
        "10000 steps": 12,
    }
    assert all(len({run.max_steps for run in cohort.runs}) == 1 for cohort in cohorts)


def test_a_folder_holds_its_own_files_alone(tmp_path, files):
    write(tmp_path / "results", **files)
    (cohort,), left_out = load(tmp_path, index={"made": "by hand"})
    assert cohort.name == "results: metamathqa/llama-3.2-3b" and len(cohort.runs) == 12
    assert list(left_out) == ["."]


def test_what_is_left_out_whole_is_told_with_the_reason(tmp_path, files):
    write(tmp_path / "few", **{name: files[name] for name in list(files)[:3]})
    write(tmp_path / "none", index={"made": "by hand"})
    cohorts, left_out = load_cohorts(tmp_path)
    assert not cohorts and set(left_out) == {"few: metamathqa/llama-3.2-3b", "none"}
    assert "3 of its 3 runs can be used, 12 are needed" in left_out["few: metamathqa/llama-3.2-3b"]
    assert "not a known result format" in left_out["none"]
    assert load_cohorts(tmp_path / "nowhere") == ([], {})


def test_a_type_that_was_renamed_is_held_out_with_its_new_name(tmp_path, files):
    for i, content in enumerate(files.values()):
        content["run_info"]["peft_config"] = {"peft_type": ("BONE", "MISS")[i % 2], "r": i}
    (cohort,), _ = load(tmp_path, **files)
    assert {group_of(run) for run in cohort.runs} == {"MISS"}


def test_of_a_suite_that_the_table_lacks_the_metric_of_the_curves_is_forecast(tmp_path, files, monkeypatch):
    monkeypatch.setattr(end_model, "TREES", 6)
    for content in files.values():
        content["run_info"]["train_config"]["model_id"] = "someone/else"
        for i, entry in enumerate(content["train_info"]["metrics"][:-1]):
            entry["valid accuracy"] = round(1.5 - entry["train loss"], 2) / 2 + i / 1000
    (cohort,), _ = load(tmp_path, **files)
    figures = prediction_quality.measure(cohort, 0.1, splits=2)
    assert figures["without forecast"] == 0 and np.isfinite([*figures.values()]).all()


def test_figures_of_nothing_are_none(tmp_path, files, monkeypatch):
    monkeypatch.setattr(end_model, "TREES", 6)
    for content in files.values():
        content["train_info"]["metrics"][-1]["test accuracy"] /= 10
    (cohort,), _ = load(tmp_path, **files)
    figures = prediction_quality.measure(cohort, 1.0, splits=1)
    assert figures["mae above .3"] is None and figures["mae"] is not None
