"""What importing published result files yields, and what it leaves out with which reason."""

from __future__ import annotations

import pytest

from knowledge.errors import BadInput
from knowledge.importers import import_folder
from knowledge.importers.peft_method_comparison import method_name, read
from tests.knowledge.suite_files import image_run, llm_run, write


def test_an_llm_run_keeps_every_fact_in_plain_units():
    record = read(llm_run())
    assert record.benchmark == "metamathqa/llama-3.2-3b/transformers5-cuda13.0"
    assert (record.method, record.peft_type, record.task) == ("lora", "LORA", "causal-lm")
    assert (record.learning_rate, record.weight_decay, record.scheduler) == (1e-4, 0.1, "cosine")
    assert (record.metric_name, record.metric) == ("test accuracy", 0.49)
    assert (record.drift_name, record.drift) == ("forgetting", 0.05)
    assert record.peak_bytes == 22_292_725_760
    assert record.mean_reserved_bytes == 14_397_338_969
    assert (record.adapter_bytes, record.trainable_parameters) == (36_715_216, 9_175_040)
    assert record.train_s == pytest.approx(941.96)
    assert record.label_mean_tokens is None  # told by newer files alone
    assert record.device == "NVIDIA L40S"
    assert record.versions == {"transformers": "5.13.1", "torch": "2.13.0+cu130", "peft": "0.19.2"}
    assert record.peft_config == {"r": 32, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": True}


def test_the_curve_holds_the_evaluations_without_the_final_test():
    curve = read(llm_run(losses=(0.9, 0.8, 0.7))).curve
    assert [p.step for p in curve.points] == [250, 500, 750]
    assert [p.train_loss for p in curve.points] == [0.9, 0.8, 0.7]
    assert [p.elapsed_s for p in curve.points] == [30.0, 60.0, 90.0]
    assert curve.metric_name == "valid accuracy"
    assert curve.points[0].eval_loss is None


def test_an_image_run_has_its_own_metric_and_benchmark():
    record = read(image_run(similarity=0.708, drift=0.26))
    assert record.benchmark == "image-gen/flux.2-klein-base-4b/transformers5-cuda13.0"
    assert (record.task, record.method) == ("text-to-image", "oft")
    assert (record.metric_name, record.metric) == ("test dino_similarity", 0.708)
    assert (record.drift_name, record.drift) == ("drift", 0.26)


def test_the_length_of_rows_follows_from_what_was_trained_on():
    content = llm_run()
    content["train_info"]["metrics"][-1] |= {"train samples": 20_000, "train total tokens": 4_198_051}
    assert read(content).label_mean_tokens == 209.9


def test_older_field_names_are_read():
    content = llm_run()
    train, system = content["train_info"], content["meta_info"]["system_info"]
    train["cuda_memory_max"] = train.pop("accelerator_memory_max")
    train["cuda_memory_reserved_avg"] = train.pop("accelerator_memory_reserved_avg")
    system["gpu"] = system.pop("accelerator")
    del content["run_info"]["train_config"]["use_gc"]
    del train["metrics"][-1]["forgetting"]
    record = read(content)
    assert (record.peak_bytes, record.mean_reserved_bytes) == (22_292_725_760, 14_397_338_969)
    assert record.device == "NVIDIA L40S"
    assert record.drift is None and record.drift_name is None


def test_software_eras_are_separate_benchmarks():
    names = {
        read(llm_run(torch=torch, transformers=transformers)).benchmark
        for torch, transformers in [
            ("2.9.0+cu128", "4.57.1"),
            ("2.9.0+cu128", "5.5.4"),
            ("2.12.0+cu130", "5.10.2"),
            ("2.13.0+cu130", "5.13.1"),
        ]
    }
    assert len(names) == 3


def test_a_diverged_value_counts_as_not_measured():
    content = llm_run(losses=(0.9, float("nan")))
    content["train_info"]["metrics"][-1]["forgetting"] = float("nan")
    record = read(content)
    assert record.curve.points[1].train_loss is None
    assert record.drift is None


@pytest.mark.parametrize(
    ("adapter", "optimizer", "name"),
    [
        (None, "AdamW", "full"),
        ({"peft_type": "LORA", "target_modules": ["q_proj", "v_proj"]}, "AdamW", "lora"),
        ({"peft_type": "LORA", "target_modules": ["up_proj", "down_proj", "gate_proj"]}, "AdamW", "lora-mlp"),
        ({"peft_type": "LORA", "target_modules": "all-linear"}, "AdamW", "lora-all-linear"),
        ({"peft_type": "LORA", "use_rslora": True}, "AdamW", "rslora"),
        ({"peft_type": "LORA", "use_dora": True, "use_rslora": True}, "AdamW", "dora"),
        ({"peft_type": "LORA"}, "lora-fa", "lora-fa"),
        ({"peft_type": "LORA"}, "lora+", "lora-plus"),
        ({"peft_type": "LORA", "use_bdlora": {"nblocks": 2}}, "AdamW", "bd-lora"),
        ({"peft_type": "LORA", "kasa_config": {"beta": 1e-4}}, "AdamW", "kasa"),
        ({"peft_type": "LORA", "init_lora_weights": "mica"}, "AdamW", "mica"),
        ({"peft_type": "LORA", "init_lora_weights": "pissa_niter_16"}, "AdamW", "pissa"),
        ({"peft_type": "LORA", "init_lora_weights": "orthogonal"}, "AdamW", "lora-orthogonal"),
        ({"peft_type": "LORA", "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}, "AdamW", "lora-attention"),
        ({"peft_type": "MISS", "init_weights": True}, "AdamW", "miss"),
        ({"peft_type": "BONE", "init_weights": "bat"}, "AdamW", "miss-bat"),
        ({"peft_type": "PREFIX_TUNING"}, "AdamW", "prefix-tuning"),
        ({"peft_type": "IA3"}, "AdamW", "ia3"),
    ],
)
def test_methods_are_named_from_their_settings(adapter, optimizer, name):
    assert method_name(adapter or {}, optimizer) == name


def _without(*path):
    content = llm_run()
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return content


def _failed():
    content = llm_run()
    content["train_info"]["status"] = "failed"
    content["run_info"]["error_msg"] = "CUDA out of memory"
    return content


def _unfinished():
    content = llm_run()
    content["train_info"]["metrics"].pop()
    return content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_failed(), "status 'failed': CUDA out of memory"),
        (_unfinished(), "has none of"),
        (_without("run_info", "train_config", "optimizer_kwargs", "lr"), "'lr' is missing"),
        (_without("run_info", "created_at"), "'created_at' is missing"),
        ({"r": 8}, "not a known result format"),
        ([1, 2], "not a known result format"),
        ({"run_info": None, "train_info": 3}, "not subscriptable"),
    ],
)
def test_a_file_that_cannot_be_used_is_counted_with_its_reason(tmp_path, content, reason):
    write(tmp_path / "deep", good=llm_run(), bad=content)
    report = import_folder(tmp_path)
    assert len(report.records) == 1
    assert list(report.rejected) == ["deep/bad.json"]
    assert reason in report.rejected["deep/bad.json"]


def test_broken_json_is_counted(tmp_path):
    write(tmp_path, good=llm_run())
    (tmp_path / "torn.json").write_text('{"run_info": ')
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    report = import_folder(tmp_path)
    assert len(report.records) == 1
    assert set(report.rejected) == {"torn.json", "binary.json"}


def test_a_folder_without_results_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"no \*.json file"):
        import_folder(tmp_path)
    with pytest.raises(BadInput, match="is not a folder"):
        import_folder(tmp_path / "missing")
