"""`advisor merge`: what is served gives the outputs of what was trained, measured on the files that were written."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.save import load, save
from advisor.training.merge import merge_recommended
from advisor.training.training_report import ADAPTER_FOLDER
from knowledge.errors import BadInput
from knowledge.methods import get_method
from probes import adapters
from probes.merging import CannotMerge, saved_rank
from probes.shape import model_shape
from tests.advisor.trainings import Silent, planned
from tests.tiny import tiny_batch, tiny_calibration, tiny_model, tiny_task

pytestmark = pytest.mark.usefixtures("forked_workers")


def trained(folder, architecture="llama", method="lora", **changes):
    """A recommendation's folder as training leaves it, with an adapter that does something."""
    from tests.contracts.observe import train

    case, place = planned(folder, architecture, method, **changes)
    case.data.save(place / "data")
    base = tiny_model(architecture)
    chosen = get_method(method)
    config = chosen.peft_config(model_shape(base, tiny_task(architecture)), 20)
    model = adapters.apply_method(base, chosen, config, batches=lambda: tiny_calibration(architecture))
    train(model, chosen, tiny_batch(architecture), chosen.learning_rates[-1])
    adapters.save_adapter(model, place / ADAPTER_FOLDER)
    return place


def test_of_long_rows_the_last_labels_are_compared(tmp_path, monkeypatch):
    """Of thousands of them logits over a large vocabulary would fill the memory."""
    folder = trained(tmp_path)
    every = merge_recommended(folder).agreement.positions
    monkeypatch.setattr("probes.merging.LABELS_COMPARED", 1)
    assert merge_recommended(folder, force=True).agreement.positions == 8 < every


@pytest.mark.parametrize(
    ("architecture", "method"),
    [("llama", "lora"), ("llama", "pissa"), ("llama", "oft"), ("gpt2", "bitfit"), ("bert", "lora"), ("t5", "dora")],
)
def test_the_merged_model_is_the_trained_one(architecture, method, tmp_path):
    from transformers import AutoModel

    folder = trained(tmp_path, architecture, method)
    (tmp_path / "model" / "preprocessor_config.json").write_text("{}")  # as of a model that sees too
    made = merge_recommended(folder)
    assert made.form == "model"
    assert (folder / "merged" / "preprocessor_config.json").read_text() == "{}"
    assert not (folder / "merged" / "processor_config.json").exists()
    modes = {file.name: file.stat().st_mode & 0o777 for file in (folder / "merged").iterdir()}
    assert len(set(modes.values())) == 1, "weights can be read by whoever reads the config"
    assert made.agreement.change_error < 1e-3
    assert made.agreement.same_choice == 1
    assert made.agreement.positions > 4
    assert (folder / "merged" / "tokenizer.json").exists()
    assert AutoModel.from_pretrained(folder / "merged").config.model_type == architecture
    expected = {"bert": "python -c ", "t5": "None"}.get(architecture, f"vllm serve {folder}/merged")
    assert str(made.serve).startswith(expected)


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.mark.parametrize("form", ["model", "lora"])
def test_a_model_with_code_of_its_own_is_merged_and_served_with_it(form, tmp_path):
    folder = trained(tmp_path)
    model, made = tmp_path / "model", load(folder)
    (model / "own.py").write_text(OWN_CODE)
    config = json.loads((model / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}
    (model / "config.json").write_text(json.dumps({**config, **own}))
    save(made.model_copy(update={"request": {**made.request, "trust_remote_code": True}}), folder)
    merged = merge_recommended(folder, form=form)
    assert merged.agreement.change_error < (1e-3 if form == "model" else 0.1)
    assert merged.serve.endswith(" --trust-remote-code")
    assert (folder / "merged" / "own.py").exists() is (form == "model")


def test_a_decoder_that_classifies_finds_the_last_token_of_padded_rows(tmp_path, monkeypatch):
    from advisor.training.train import train

    monkeypatch.setattr("tests.advisor.tiny_run.tiny_task", lambda architecture: "sequence-classification")
    case, folder = planned(tmp_path, rate=1e-2)
    lengths = case.data.eval.lengths_tokens[:16]
    assert len(set(lengths.tolist())) > 1  # so that some are padded
    train(folder, live=Silent())
    made = merge_recommended(folder)
    assert made.form == "model" and made.agreement.change_error < 1e-3
    _, flag, code = shlex.split(made.serve)  # as a shell reads it
    asked = subprocess.run([sys.executable, flag, code], check=True, capture_output=True, text=True).stdout
    assert {name for name in case.data.label_names if repr(name) in asked}


def test_the_adapter_of_another_recommendation_is_not_merged_as_that_of_this_one(tmp_path):
    from advisor.training.train import train

    _, folder = planned(tmp_path)
    train(folder, live=Silent())
    result = load(folder)
    other = result.pick.model_copy(update={"learning_rate": 0.5})
    decision = result.recommendation.model_copy(update={"learning_rate": 0.5})
    save(result.model_copy(update={"candidates": (other,), "recommendation": decision}), folder)
    with pytest.raises(BadInput, match="is of another recommendation"):
        merge_recommended(folder)


def test_the_folder_one_is_in_and_that_of_the_recommendation_are_not_replaced(tmp_path, monkeypatch):
    folder = trained(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for out in (Path(), folder, tmp_path):
        with pytest.raises(BadInput, match="Use --out to name a folder of its own"):
            merge_recommended(folder, out=out, force=True)


def test_what_was_recommended_without_probes_reads_its_rows_anew(tmp_path):
    folder = trained(tmp_path)
    with_rows = merge_recommended(folder).agreement
    shutil.rmtree(folder / "data")
    assert merge_recommended(folder, force=True).agreement == with_rows


def test_classes_keep_their_names(tmp_path):
    folder = trained(tmp_path, "bert", "lora")
    merge_recommended(folder)
    config = json.loads((folder / "merged" / "config.json").read_text())
    assert config["id2label"] == {"0": "even", "1": "odd"}


def test_rounding_is_measured_on_what_was_written(tmp_path):
    folder = trained(tmp_path)
    made = merge_recommended(folder, dtype="bfloat16")
    assert 1e-4 < made.agreement.change_error < 0.5
    exact = merge_recommended(folder, dtype="float32", out=tmp_path / "exact")
    assert exact.agreement.change_error < 1e-3


def test_another_adapter_becomes_a_lora_with_its_error(tmp_path):
    folder = trained(tmp_path, method="fourierft")
    coarse = merge_recommended(folder, form="lora", rank=2)
    fine = merge_recommended(folder, form="lora", rank=32, force=True)
    assert fine.agreement.change_error < coarse.agreement.change_error
    assert saved_rank(folder / "lora") == 32
    assert saved_rank(folder / "lora.1.bak") == 2
    assert coarse.notes and "--rank" in coarse.notes[0]
    assert fine.serve.endswith(f"--enable-lora --lora-modules tuned={folder}/lora --max-lora-rank 32")


def test_what_merges_and_does_not_convert_is_pointed_to_the_merge(tmp_path):
    with pytest.raises(CannotMerge, match=r"no adapter of this type.*--to model"):
        merge_recommended(trained(tmp_path, method="oft"), form="lora")


@pytest.mark.parametrize("form", [None, "model"])
def test_what_can_neither_be_merged_nor_converted_is_refused_with_a_way_out(form, tmp_path):
    folder = trained(tmp_path, method="prompt-tuning")
    with pytest.raises(CannotMerge, match=r"peft\.PeftModel\.from_pretrained.*--require mergeable"):
        merge_recommended(folder, form=form)
    assert not (folder / "merged").exists() and not (folder / "lora").exists()
    assert not list(folder.glob(".*partial"))


def test_what_is_in_the_way_or_missing_is_told(tmp_path, monkeypatch):
    folder = trained(tmp_path)
    (folder / "merged").mkdir()
    (folder / "merged" / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="--force"):
        merge_recommended(folder)
    merge_recommended(folder, force=True)
    assert (folder / "merged.1.bak" / "mine.txt").exists()
    monkeypatch.setattr("advisor.training.merge.free_host_bytes", lambda: 1)
    with pytest.raises(BadInput, match=r"needs .* of memory"):
        merge_recommended(folder, out=tmp_path / "other")
    for weights in (folder / ADAPTER_FOLDER).glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(BadInput, match=r"holds no adapter yet.*advisor train"):
        merge_recommended(folder)


def test_a_base_in_four_bits_is_merged_in_full_precision_and_says_so(tmp_path):
    folder = trained(tmp_path)
    from advisor.save import save

    result = load(folder)
    run = result.planned_run.model_copy(update={"quantization": "nf4"})
    save(result.model_copy(update={"planned_run": run}), folder)
    made = merge_recommended(folder)
    assert made.agreement.change_error < 1e-3
    assert "full-precision" in made.notes[0]


def test_the_command_names_bad_options(tmp_path):
    from advisor.cli.merge import command

    with pytest.raises(BadInput, match="model, lora"):
        command(tmp_path, to="gguf", dtype=None)
    with pytest.raises(BadInput, match="float16"):
        command(tmp_path, to=None, dtype="int4")


@pytest.mark.parametrize("method", ["lora", "pissa", "delta-lora"])
def test_the_rank_that_a_server_needs_is_known_before_training(method, tmp_path):
    place = trained(tmp_path, method=method)
    config = load(place).pick.peft_config
    assert saved_rank(place / ADAPTER_FOLDER) == config["r"] * get_method(method).saved_rank_factor
