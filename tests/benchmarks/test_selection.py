"""The selection benchmark runs on any folder of result files and reports every figure."""

from __future__ import annotations

import json

import pytest

from advisor.forecast import end_model
from tests.benchmarks import selection
from tests.benchmarks.race_quality import (
    always,
    hypervolume,
    measure,
    race,
    random_sets,
    successive_halving,
    true_frontier,
)
from tests.knowledge.suite_files import image_run, llm_run, write


def cohort_files():
    """Twelve runs whose loss tells their accuracy, of three types, in the older format."""
    files = {}
    for i in range(12):
        end = 0.5 + i / 40
        losses = tuple(end + (1.2 - end) * (step / 20) ** -0.3 / 3 for step in range(1, 21))
        content = llm_run(
            {"peft_type": ("LORA", "IA3", "OFT")[i % 3], "r": 8 * (i // 3 + 1)},
            experiment=f"run-{i}",
            accuracy=0.6 - i / 40,
            losses=losses,
            torch="2.6.0+cu124",
            transformers="4.52.1",
        )
        train = content["train_info"]
        train["cuda_memory_max"] = train.pop("accelerator_memory_max") - i * 10**8
        files[f"run{i}"] = content
    return files


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write(folder / "MetaMathQA" / "results", **cohort_files(), broken={"run_info": {}, "train_info": {}})
    write(folder / "image-gen" / "results", image=image_run())
    return folder


@pytest.fixture(scope="module")
def runs(results):
    (cohort,), _ = selection.load_cohorts(results)
    return cohort.runs


def test_every_figure_is_reported_as_json_on_the_last_line(results, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["selection", "--results", str(results), "--splits", "1", "--sets", "3"])
    monkeypatch.setattr(selection, "LENGTHS", (0.1, 1.0))
    monkeypatch.setattr(end_model, "TREES", 6)  # how good the figures are is of no interest here
    selection.main()
    *table, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    (cohort,) = figures["cohorts"].values()
    assert (cohort["runs"], cohort["methods"], len(cohort["rejected"])) == (12, 3, 1)
    assert list(figures["left_out"]) == ["image-gen/results: image-gen/flux.2-klein-base-4b"]
    for row in cohort["prediction"].values():
        assert -1 <= row["spearman"] <= 1 and row["mae"] < 0.5 and 0 <= row["coverage"] <= 1 and row["width"] > 0
        assert row["spearman of lowest loss"] == pytest.approx(1)  # so were they made
    assert set(cohort["selection under a memory limit"]) == {"21 GB", "22.5 GB", "24 GB"}
    assert cohort["selection under a memory limit"]["21 GB"]["race, 10 % of the sweep"] == {"sets": 0}
    assert any("random" in line for line in table) and any("nothing fits" in line for line in table)


def test_the_race_keeps_to_its_budget_and_finds_the_best(runs):
    sets = random_sets(runs, 20, 9)
    for share in (0.1, 0.2, 0.4):
        found = measure(race(share), sets)
        assert found["cost"] <= share * 9 + 1e-9
        if share >= 0.2:  # enough for all to enter
            assert found["regret"] == 0 and found["p"] == 1  # the loss tells the accuracy
    assert measure(successive_halving, sets)["regret"] == 0


def test_the_race_does_not_see_the_metric_that_it_is_judged_by(runs):
    by_loss = min(runs, key=lambda run: run.curve.points[-1].train_loss)
    turned = [run.model_copy(update={"metric": 1 - run.metric}) for run in runs]
    found = [race(0.4)(of) for of in (list(runs), turned)]
    assert [outcome.pick.experiment for outcome in found] == [by_loss.experiment] * 2
    assert len({tuple(run.experiment for run in outcome.frontier) for outcome in found}) == 1


def test_under_a_limit_only_what_fits_counts(runs):
    limit = sorted(run.peak_bytes for run in runs)[4]
    found = measure(race(0.2), [list(runs)], limit_bytes=limit)
    assert found["regret"] == 0 and found["sets"] == 1
    assert measure(race(0.2), [list(runs), []], limit_bytes=limit)["sets"] == 1


def test_what_is_always_picked_is_judged_in_sets_that_lack_it_too(runs):
    best, *others = sorted(runs, key=lambda run: -run.metric)
    found = measure(always(best), [others])
    assert found["regret"] == 0 and found["recall"] > 0 and found["hypervolume"] > 0
    assert measure(always(others[0]), [[best, *others]])["regret"] == pytest.approx(best.metric - others[0].metric)


def test_a_folder_without_results_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["selection", "--results", str(tmp_path)])
    with pytest.raises(SystemExit):
        selection.main()
    assert "no *.json file" in capsys.readouterr().err


def test_hypervolume_counts_each_byte_at_the_best_accuracy_so_far(runs):
    a = runs[0].model_copy(update={"metric": 0.2, "peak_bytes": 10})
    b = runs[0].model_copy(update={"metric": 0.5, "peak_bytes": 20})
    worse = runs[0].model_copy(update={"metric": 0.1, "peak_bytes": 15})
    assert hypervolume([a, b, worse], worst_bytes=40) == pytest.approx(0.2 * 10 + 0.5 * 20)
    assert hypervolume([], worst_bytes=40) == 0
    assert true_frontier([a, b, worse]) == [a, b]
