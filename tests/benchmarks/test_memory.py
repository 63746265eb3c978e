"""The memory benchmark runs on any folder of result files, on text and on images, and leaves no run out in silence."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from tests.benchmarks import memory, memory_images, memory_text
from tests.knowledge.suite_files import image_run, llm_run, write

SHARED = {"batch_size": 4, "grad_norm_clip": 1.0, "autocast_adapter_dtype": True, "use_gc": False}
TEXT = {
    "model_id": "HuggingFaceTB/SmolLM2-135M",
    "batch_size_eval": 4,
    "generation_kwargs": {"max_length": 800, "max_new_tokens": 8},
}
IMAGES = {
    "batch_size": 2,
    "resolution": 256,
    "max_sequence_length": 64,
    "instance_prompts": ["a cat"] * 20,
    "valid_size": 2,
    "test_size": 4,
}


def published(content, settings, peak_bytes, field="accelerator_memory_max"):
    """A result file with all that the script wrote down, and this as its measured peak."""
    content["run_info"]["train_config"] |= SHARED | settings
    train = content["train_info"]
    train["metrics"][-1] |= {"train samples": 4000, "train total tokens": 800_000}
    del train["accelerator_memory_max"]
    train[field] = peak_bytes
    return content


def run(folder, capsys):
    """The exit code of the benchmark over a folder, its predictions in GB by name, and its JSON line."""
    code = memory.main(["--results", str(folder)])
    _, *table, last = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in table]
    return code, {name: float(gb) for name, _, gb, *_ in rows if gb[0].isdigit()}, json.loads(last)


@pytest.mark.skipif(find_spec("diffusers") is None, reason="image generators need the extra peft-advisor[images]")
def test_an_image_generator_is_predicted_without_a_fit(tmp_path, capsys, monkeypatch):
    small = memory.known_diffusion_config("black-forest-labs/FLUX.2-klein-base-4B") | {
        "num_layers": 1,
        "num_single_layers": 2,
    }
    monkeypatch.setattr(memory_images, "known_diffusion_config", lambda _: small)
    adapter = {"peft_type": "LORA", "r": 16, "target_modules": ["to_q", "to_v"]}
    content = image_run()
    content["run_info"]["peft_config"] = adapter
    code, predicted, figures = run(write(tmp_path, lora=published(content, IMAGES, 4 * 10**9)), capsys)
    assert (code, figures["n"], figures["failed"]) == (0, 1, {})
    # At least the weights of its three blocks in bf16 and the judge in fp32, and some gigabytes to work in at most.
    assert 1.2 < predicted["oft/flux2-klein-default"] < 4
    assert figures["longest_batch_tokens"] == [64 + (256 // 16) ** 2]


def test_text_runs_of_both_formats_are_predicted_and_what_cannot_be_read_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory_text, "SHUFFLES", 1)
    monkeypatch.setattr(memory_text.TextCase, "candidate_lengths", (700,))
    small = published(llm_run(experiment="lora/r4", adapter=lora(4)), TEXT, 10**9)
    large = published(llm_run(experiment="lora/r256", adapter=lora(256)), TEXT, 10**9, field="cuda_memory_max")
    silent = llm_run()
    del silent["train_info"]["accelerator_memory_max"]
    without = published(llm_run(), TEXT, 0)
    failed = published(llm_run(), TEXT, 10**9)
    failed["train_info"]["status"] = "failed"
    left_out = {"silent": silent, "empty": {}, "without": without, "failed": failed}
    code, predicted, figures = run(write(tmp_path, small=small, large=large, **left_out), capsys)
    assert code == 1
    assert set(figures["failed"]) == left_out.keys()
    assert figures["n"] == 2
    assert set(predicted) == {"lora/r4", "lora/r256"}
    trainable_parameters = (256 - 4) * 30 * ((576 + 576) + (576 + 192))  # of rank 256 more than of rank 4
    assert predicted["lora/r256"] - predicted["lora/r4"] > 4 * 4 * trainable_parameters / 1e9  # AdamW
    assert figures["formula"]["max_abs_pct"] != figures["accelerate"]["max_abs_pct"]


def lora(rank):
    return {"peft_type": "LORA", "r": rank, "target_modules": ["q_proj", "v_proj"]}


def test_a_folder_without_results_is_not_reported_as_no_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        memory.main(["--results", str(tmp_path)])
    assert "no result file (*.json)" in capsys.readouterr().err


def test_the_interval_is_what_other_methods_are_off_by():
    def entry(method, percent):
        made = memory.Entry(name=method, method=method, measured_bytes=1000)
        made.predicted_bytes = 1000 + 10 * percent
        return made

    near = [entry(f"near-{i}", 1) for i in range(9)]
    assert memory._interval(near) == {"half_width_pct": 1.0, "inside": 1.0}
    assert memory._interval([*near, entry("far", -5)]) == {"half_width_pct": 1.0, "inside": 0.9}
    assert memory._interval(near[:3]) == {}  # four methods at least
    many = [entry("near", 1) for _ in range(9)]
    assert memory._interval([*many, entry("far", -5)]) == {"half_width_pct": 1.0, "inside": 0.0}  # one tells nothing


def test_text_and_images_are_not_fitted_to_each_other():
    def entry(method, by_length):
        return memory.Entry(name=method, method=method, measured_bytes=1000, by_length=by_length)

    text = [entry("a", {700: 1000, 704: 1100}), entry("b", {700: 900, 704: 1000})]
    image = entry("c", {320: 1000})
    assert [memory._fitted_length(one, [*text, image]) for one in (*text, image)] == [704, 700, 320]
