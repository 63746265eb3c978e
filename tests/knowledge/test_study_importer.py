"""Results of the probe study as records of the benchmark table."""

from __future__ import annotations

import pytest

from knowledge.importers import NotARun, import_folder, study
from tests.examples.study_results import STEPS, result


def content(**settings):
    return result(**settings).model_dump(mode="json", exclude_none=True)


def test_a_record_is_the_full_run():
    record = study.read(content(method="oft", learning_rate=1.5e-3, final=0.7, metric=0.6, seed=1))
    assert record.benchmark == "chain_sum/smollm2-135m/transformers5-cpu"
    assert record.experiment == "oft/lr0.0015-seed1"
    assert (record.method, record.learning_rate, record.seed, record.max_steps) == ("oft", 1.5e-3, 1, STEPS)
    assert (record.metric_name, record.metric) == ("held-out exact match", 0.6)
    assert record.curve.last_step == STEPS and record.curve.points[-1].eval_loss == 0.7
    assert record.peft_type == "LORA" and record.peft_config == {"r": 32, "target_modules": ["q_proj", "v_proj"]}
    assert (record.optimizer, record.scheduler, record.label_mean_tokens) == ("AdamW", "cosine", 3.5)


def test_costs_are_processor_time_of_training_and_no_memory_of_a_device():
    record = study.read(content())
    assert record.train_s == 80.0
    assert record.peak_bytes is None
    assert all(point.elapsed_s is None for point in record.curve.points)


def test_where_the_machine_stood_still_the_time_is_not_known():
    made = content()
    full = next(run for run in made["runs"] if run["protocol"] == "full")
    full["duration_s"] = 2.9 * full["cpu_s"]
    assert study.read(made).train_s == 80.0
    full["duration_s"] = 3.1 * full["cpu_s"]
    assert study.read(made).train_s is None


def test_a_task_that_compares_nothing_says_so():
    assert study.read(content()).is_compared
    assert not study.read({**content(), "is_compared": False}).is_compared


def test_a_run_that_diverged_is_none():
    with pytest.raises(NotARun, match="diverged"):
        study.read(content(status="diverged"))


def test_a_missing_field_is_named():
    broken = content()
    del broken["weight_decay"]
    with pytest.raises(NotARun, match="weight_decay"):
        study.read(broken)


def test_another_layout_is_not_recognised():
    assert study.recognises(content())
    assert not study.recognises(content() | {"study": 2})


def test_a_folder_of_a_running_study_can_be_imported(tmp_path):
    from examples.study.records import write

    write(result(), tmp_path)
    write(result(learning_rate=1e-2, status="diverged"), tmp_path)
    report = import_folder(tmp_path)
    assert [r.experiment for r in report.records] == ["lora/lr0.001-seed0"]
    assert list(report.rejected) == ["chain_sum/lora-lr0.01-seed0.json"]
