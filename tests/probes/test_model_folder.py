"""What a model's folder lacks is told in words, at once."""

import json
import shutil

import pytest
import torch

from knowledge.errors import BadInput
from probes.source import load_model, load_tokenizer, resolve_model
from tests.probes.tokenizers import byte_tokenizer
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model("llama", trained=False).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_weights_that_are_not_whole_are_told_before_anything_is_loaded(tmp_path, model_folder):
    pointer, torn, lacking = (shutil.copytree(model_folder, tmp_path / name) for name in ("pointer", "torn", "lacking"))
    (pointer / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    (torn / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes()[:-1])
    load_model(resolve_model(str(model_folder)), "causal-lm").save_pretrained(lacking, max_shard_size="100KB")
    gone = sorted(lacking.glob("model-*.safetensors"))[1]
    gone.unlink()
    for folder, words in ((pointer, "git lfs pull"), (torn, "no whole file of weights"), (lacking, gone.name)):
        with pytest.raises(BadInput, match=words):
            resolve_model(str(folder))
    (pointer / "model.safetensors").rename(pointer / "consolidated.safetensors")
    shutil.copy(model_folder / "model.safetensors", pointer)
    assert resolve_model(str(pointer)).kind == "local folder"


def test_an_adapter_that_would_be_put_onto_the_model_by_itself_is_refused(tmp_path, model_folder):
    import peft

    base = load_model(resolve_model(str(model_folder)), "causal-lm")
    both = shutil.copytree(model_folder, tmp_path / "both")
    peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"])).save_pretrained(both)
    with pytest.raises(BadInput, match=rf"holds an adapter(.)*\({model_folder}\)"):
        resolve_model(str(both))


def test_weights_in_another_form_are_converted_with_the_head_that_they_have(tmp_path, model_folder):
    import transformers

    pickled = shutil.copytree(model_folder, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(tiny_model("llama", trained=False).state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pytorch_model\.bin") as refused:
        resolve_model(str(pickled))
    code = str(refused.value).split("`")[1].replace("...", repr(str(pickled)))
    eval(code, {"transformers": transformers})  # as it is told
    assert load_model(resolve_model(str(pickled)), "causal-lm").lm_head is not None


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert", "t5"])
def test_a_folder_without_a_tokenizer_gives_none_in_which_all_words_are_unknown(architecture, tmp_path):
    tiny_model(architecture, trained=False).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="holds no tokenizer"):
        load_tokenizer(resolve_model(str(tmp_path)))
    byte_tokenizer().save_pretrained(tmp_path)
    assert len(load_tokenizer(resolve_model(str(tmp_path)))("12")["input_ids"]) == 2


def test_a_tokenizer_of_bytes_needs_no_vocabulary(tmp_path):
    tiny_model("t5", trained=False).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    assert load_tokenizer(resolve_model(str(tmp_path)))("12")["input_ids"] == [52, 53, 1]
