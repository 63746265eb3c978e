"""`estimate_memory` and `advisor estimate`: verdicts, the reverse answers, and what is printed where."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from advisor import estimate_memory
from advisor.cli import build
from advisor.deciding.decision import decide
from advisor.memory.method_memory import Subject, verdict_on
from advisor.memory.reach import largest_within
from advisor.request import make_request
from advisor.survey import survey
from knowledge.errors import BadInput, NoModelAccess
from knowledge.schema import MemoryEstimate, PlannedRun
from tests.advisor.factories import candidate, device
from tests.probes.tokenizers import byte_tokenizer


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "traces"))


@pytest.fixture
def folder(tmp_path):
    from transformers import LlamaConfig

    LlamaConfig(
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(tmp_path)
    return str(tmp_path)


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""

SMALL = {"batch_size": 4, "max_length_tokens": 128}


def test_rows_that_are_longer_than_numbered_positions_are_refused(tmp_path):
    from transformers import BertConfig

    BertConfig(max_position_embeddings=64, num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="64 positions"):
        estimate_memory(str(tmp_path), "lora", max_length_tokens=65, task="sequence-classification")


def test_images_are_not_estimated_and_the_next_step_is_named():
    with pytest.raises(BadInput, match="--no-probe"):
        estimate_memory("smollm-135m", "lora", task="text-to-image")
    with pytest.raises(BadInput, match="--no-probe"):
        estimate_memory("flux2-klein", "lora")


def test_a_precision_that_is_none_is_refused_from_python_too():
    with pytest.raises(BadInput, match=r"dtype.*fp8"):
        estimate_memory("llama", "lora", dtype="fp8")


def test_a_known_model_needs_neither_network_nor_weights():
    report = estimate_memory("smollm-135m", "lora", vram="24GB", **SMALL)
    assert report.parameters == 134_515_008
    assert report.methods[0].verdict == "fits"
    assert report.methods[0].memory.breakdown["weights"] == pytest.approx(2 * 134_515_008, rel=0.001)


def test_a_local_config_is_enough(folder):
    report = estimate_memory(folder, ["lora", "bitfit"], vram="8GB", **SMALL)
    lora, bitfit = report.methods
    assert lora.memory.peak_bytes > 0
    assert (bitfit.verdict, bitfit.memory) == ("not applicable", None)
    assert "bias" in bitfit.reason


def peak_bytes(folder, batch_size, max_length_tokens, bound="peak", **options):
    report = estimate_memory(
        folder, "lora", vram="24GB", batch_size=batch_size, max_length_tokens=max_length_tokens, **options
    )
    return getattr(report.methods[0].memory, f"{bound}_bytes")


def test_what_does_not_fit_comes_with_the_cheapest_change(folder):
    limit = (peak_bytes(folder, 8, 256, bound="high") + peak_bytes(folder, 16, 256, bound="high")) // 2
    line = estimate_memory(folder, "lora", vram=f"{limit}B", batch_size=32, max_length_tokens=256).methods[0]
    assert line.verdict == "does not fit"
    assert line.change == "batch size 8 with 4 accumulation steps"


def test_smaller_batches_train_as_many_rows_a_step(folder):
    options = {"vram": f"{peak_bytes(folder, 4, 256)}B", "max_length_tokens": 256}
    for batch_size, expected in ((9, "batch size 3 with 3"), (7, "batch size 1 with 7")):
        (line,) = estimate_memory(folder, "lora", batch_size=batch_size, **options).methods
        assert line.change == f"{expected} accumulation steps"


def test_what_is_told_to_be_the_largest_batch_fits_for_sure(folder):
    limit = f"{peak_bytes(folder, 12, 128)}B"
    reach = estimate_memory(folder, "lora", vram=limit, max_batch=True, max_length_tokens=128).methods[0].reach
    (line,) = estimate_memory(
        folder, "lora", vram=limit, batch_size=reach.largest_batch_size, max_length_tokens=128
    ).methods
    assert line.verdict == "fits"


def test_a_change_under_which_a_method_cannot_be_followed_is_no_way_to_fit(folder):
    """OSF decomposes the base's weights, which packed 4-bit weights do not allow."""
    line = estimate_memory(folder, "osf", vram="1MB", **SMALL).methods[0]
    assert (line.verdict, line.change) == ("does not fit", None)


def test_four_bits_are_no_way_for_a_method_that_does_not_know_them(folder):
    """PEFT would make a plain LoRA of it, whose dry run fits."""
    from advisor.memory.estimate import _config, _shape
    from advisor.memory.reach import _fits
    from knowledge.methods import get_method

    run = PlannedRun(max_steps=100, batch_size=4, max_length_tokens=128)
    config, _ = _config(folder, None, None, False)
    shape, _ = _shape(config, run)
    in_4_bits, room = run.model_copy(update={"quantization": "nf4"}), 10**12
    for name, fits in (("lora", True), ("bd-lora", False)):
        subject = Subject(config, shape, get_method(name), None)
        assert _fits(subject, run, room) and _fits(subject, in_4_bits, room) is fits


def test_the_longest_rows_are_asked_of_full_ones_whatever_the_data_has(folder):
    from advisor.memory.estimate import _config, _shape
    from advisor.memory.reach import find_reach
    from knowledge.methods import get_method

    run = PlannedRun(max_steps=100, batch_size=4, max_length_tokens=128)
    config, _ = _config(folder, None, None, False)
    shape, _ = _shape(config, run)
    cut = np.array([(128, 100)] * 40)
    longest = [find_reach(Subject(config, shape, get_method("lora"), rows), run, 120_000_000) for rows in (None, cut)]
    assert longest[0].longest_tokens == longest[1].longest_tokens < 512


def test_rows_are_as_long_as_in_a_recommendation_for_the_same_data(folder, tmp_path):
    """Not cut at what is assumed without data."""
    byte_tokenizer().save_pretrained(folder)
    data = tmp_path / "long.jsonl"
    data.write_text("\n".join(json.dumps({"text": f"{i} " + "a" * (300 + i)}) for i in range(40)))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    made = make_request(model=folder, data=str(data), probe=False)
    run = estimate_memory(folder, "lora", data=data).planned_run
    assert run.max_length_tokens == survey(made, print).planned_run.max_length_tokens == 343
    assert estimate_memory(folder, "lora", data=data, max_length_tokens=128).planned_run.max_length_tokens == 128
    assert estimate_memory(folder, "lora").planned_run.max_length_tokens == 512


def test_rows_of_the_users_own_columns_are_read_and_classes_are_for_classification(folder, tmp_path):
    byte_tokenizer().save_pretrained(folder)
    (tmp_path / "mine.csv").write_text("review;stars\n" + "".join(f"{'a' * i};{i % 2}\n" for i in range(20, 60)))
    columns = {"text": "review", "label": "stars"}
    run = estimate_memory(folder, "lora", data=tmp_path / "mine.csv", columns=columns).planned_run
    assert (run.task, run.max_length_tokens) == ("sequence-classification", 59)
    texts = estimate_memory(folder, "lora", data=tmp_path / "mine.csv", columns=["text=review"], format="text")
    assert texts.planned_run.task == "causal-lm"


def test_a_decoder_without_a_padding_token_is_estimated_as_a_classifier(folder):
    line = estimate_memory(folder, "lora", task="sequence-classification", **SMALL).methods[0]
    assert line.memory is not None, line.reason


def test_a_task_that_the_architecture_has_no_model_for_is_refused(tmp_path):
    from transformers import T5Config

    T5Config(d_model=32, num_layers=1, num_heads=2, d_ff=32, vocab_size=64).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=r"no t5 model for causal-lm.*--task"):
        estimate_memory(str(tmp_path), "lora", task="causal-lm", **SMALL)


def test_two_cards_to_judge_for_are_one_too_many(folder):
    with pytest.raises(BadInput, match="give one of them"):
        estimate_memory(folder, "lora", vram="24GB", gpu="RTX 4090", **SMALL)


def test_the_precision_of_the_base_rules_methods_out_as_in_a_race(folder):
    line = estimate_memory(folder, "full", dtype="float16", **SMALL).methods[0]
    assert line.verdict == "not applicable" and "AdamW" in line.reason


def test_the_reverse_answer_is_where_fitting_ends(folder):
    limit = 120_000_000
    reach = estimate_memory(folder, "lora", vram=f"{limit}B", max_batch=True, **SMALL).methods[0].reach
    assert peak_bytes(folder, reach.largest_batch_size, 128) <= limit
    assert peak_bytes(folder, 2 * reach.largest_batch_size, 128) > limit
    assert 0 < reach.longest_tokens <= 512


@pytest.mark.parametrize(("limit", "answer"), [(0, None), (10, 1), (995, 99), (5000, 200)])
def test_the_search_ends_within_its_resolution(limit, answer):
    found = largest_within(limit, lambda n: 10 * n, start=8, largest=200)
    assert found == answer or (answer and answer * 0.94 <= found <= answer)


def test_the_search_takes_few_dry_runs_where_larger_ones_cannot_be_followed():
    """It went on by ones from the last that can."""
    tried = []
    found = largest_within(
        50, lambda n: tried.append(n) or (n / 1000 if n <= 1000 else math.inf), start=512, largest=2048
    )
    assert 940 <= found <= 1000 and len(tried) < 10


@pytest.mark.parametrize(
    ("limit", "verdict"), [(30, "fits"), (29, "fits with risk"), (20, "fits with risk"), (19, "does not fit")]
)
def test_verdicts_are_those_of_a_recommendation(limit, verdict):
    memory = MemoryEstimate(peak_bytes=20, low_bytes=10, high_bytes=30)
    assert verdict_on(memory, limit) == verdict
    card = device().model_copy(update={"limit_bytes": limit})
    reports, _ = decide([candidate(memory=memory)], card, "accuracy")
    assert reports[0].fits is (verdict != "does not fit")


def test_unknown_methods_are_named_with_the_nearest():
    with pytest.raises(BadInput, match="lora"):
        estimate_memory("smollm-135m", "lorra", vram="8GB")


def test_what_is_no_text_from_python_is_read_or_told():
    with pytest.raises(BadInput, match=r"'8' is no memory size without a unit, e\.g\. 8GB"):
        estimate_memory("smollm-135m", "lora", vram=8)
    with pytest.raises(NoModelAccess, match="smollm-136m"):
        estimate_memory(Path("smollm-136m"), "lora", vram="8GB")


def run(*arguments):
    return CliRunner().invoke(build(), ["estimate", *arguments])


def test_json_is_all_that_stdout_carries(folder):
    result = run("--model", folder, "--method", "lora", "--vram", "8GB", "--batch-size", "4", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["schema_version"] == 1
    assert sum(report["methods"][0]["memory"]["breakdown"].values()) == report["methods"][0]["memory"]["peak_bytes"]


def test_the_table_names_the_card_and_the_verdict(folder):
    result = run("--model", folder, "--method", "lora", "--gpu", "RTX 4090", "--batch-size", "4")
    assert result.exit_code == 0
    assert "NVIDIA GeForce RTX 4090" in result.stdout
    assert "fits" in result.stdout


def test_a_value_that_is_no_choice_is_refused_by_name(folder):
    result = run("--model", folder, "--method", "lora", "--vram", "8GB", "--quantize", "int3")
    assert isinstance(result.exception, BadInput)
    assert "--quantize: " in str(result.exception)


def test_without_a_card_the_smallest_that_fits_is_named(folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    line = estimate_memory("smollm-135m", "lora", **SMALL).methods[0]
    assert (line.verdict, line.smallest_card) == ("no card to judge for", "RTX 5060")
    result = run("--model", folder, "--method", "lora", "--batch-size", "4")
    assert "--gpu or --vram" in " ".join(result.stdout.split())
    with pytest.raises(BadInput, match="--vram"):
        estimate_memory(folder, "lora", max_batch=True, **SMALL)


def test_which_methods_apply_depends_on_how_the_base_is_kept(folder):
    names = ("lora", "qlora", "pissa")
    chosen = [word for name in names for word in ("--method", name)]

    def applicable(quantize):
        result = run("--model", folder, *chosen, "--vram", "8GB", "--quantize", quantize, "--json")
        return {m["name"] for m in json.loads(result.stdout)["methods"] if m["memory"]}

    assert applicable("none") == {"lora", "pissa"}
    assert applicable("nf4") == {"lora", "qlora"}


def test_a_model_of_its_own_code_is_estimated_without_being_asked_again(folder, tmp_path, monkeypatch):
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "own", "auto_map": own}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(OWN_CODE)
    monkeypatch.setattr("builtins.input", lambda prompt: pytest.fail(f"asked: {prompt}"))
    report = estimate_memory(folder, "lora", vram="8GB", trust_remote_code=True, **SMALL)
    assert report.planned_run.task == "causal-lm"
    assert report.methods[0].verdict == "fits"
