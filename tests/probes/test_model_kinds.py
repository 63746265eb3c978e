"""Models beside the usual decoders: heads with layers of their own, towers for images, encoders, quantized weights."""

from __future__ import annotations

import json
import re

import pytest
import torch
import transformers

from advisor.survey import max_positions, task_of
from knowledge.errors import BadInput
from knowledge.methods import get_method
from knowledge.targets import module_names, target_modules
from probes import adapters
from probes.merging import _merged
from probes.shape import drawn_poolers, model_shape
from probes.source import check_full_precision, empty_model, load_config, resolve_model, stored_names
from tests.tiny import CLASSIFIERS_TAKE_PREFIXES

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
IDS = torch.tensor([[4, 5, 6, 7], [8, 9, 10, 11]])


def classifier(config, seed=0):
    torch.manual_seed(seed)
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def tuned(model, name):
    """With something else in all that is trained than at the start."""
    method = get_method(name)
    config = method.peft_config(model_shape(model, "sequence-classification"), max_steps=10)
    wrapped = adapters.apply_method(model, method, config)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return wrapped.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@pytest.mark.parametrize("name", ["lora-all-linear", "ia3", "oft", "vera"])
def test_a_head_with_layers_comes_off_and_is_merged(name):
    base = classifier(transformers.RobertaConfig(**SIZES))
    before = logits(base)
    wrapped = tuned(base, name)
    after = logits(wrapped)
    assert not torch.allclose(after, before, atol=1e-3)
    if get_method(name).capabilities.mergeable:
        torch.testing.assert_close(logits(_merged(wrapped)), after, atol=1e-5, rtol=1e-4)
    else:
        torch.testing.assert_close(logits(adapters.remove_method(wrapped)), before, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["lora", "ia3", "oft"])
def test_what_is_drawn_anew_beside_the_head_is_trained_and_saved_with_it(name, tmp_path):
    """DeBERTa's pooler is in no checkpoint: on another base it would be another one."""
    config = transformers.DebertaV2Config(**SIZES, pooler_hidden_size=32, relative_attention=True)
    base = classifier(config)
    other = classifier(config, seed=1)
    other.deberta.load_state_dict(base.deberta.state_dict())
    wrapped = tuned(base, name)
    adapters.save_adapter(wrapped, tmp_path / "adapter")
    torch.testing.assert_close(logits(adapters.load_adapter(other, tmp_path / "adapter")), logits(wrapped))


def test_a_pooler_that_the_files_do_not_hold_is_known_as_drawn_anew(tmp_path):
    model = classifier(transformers.BertConfig(**SIZES))
    torch.manual_seed(0)
    transformers.BertForMaskedLM(model.config).save_pretrained(tmp_path / "words")
    model.bert.save_pretrained(tmp_path / "base")
    for name, drawn in (("words", ("bert.pooler",)), ("base", ())):
        source = resolve_model(str(tmp_path / name), need="config")
        meta = empty_model(source, load_config(source), "sequence-classification", num_labels=2)
        assert drawn_poolers(meta, stored_names(source)) == drawn


def test_what_would_not_save_what_is_drawn_anew_is_not_offered():
    shape = model_shape(classifier(transformers.DebertaV2Config(**SIZES)), "sequence-classification")
    assert "does not save pooler" in get_method("prompt-tuning").unsupported_reason(shape)
    assert get_method("bitfit").unsupported_reason(shape) is None, "it trains a pooler beside the base"
    inner = shape.model_copy(update={"head_modules": ("bert.pooler",)})
    assert "does not save bert.pooler" in get_method("bitfit").unsupported_reason(inner)


def test_a_name_that_ends_in_a_number_is_told_as_a_pattern():
    shape = model_shape(classifier(transformers.BertConfig(**SIZES)), "sequence-classification")
    shape = shape.model_copy(update={"linear_sizes": {"h.*.ffn.*": ((4, 4),)}, "module_paths": ("h.*.ffn.*",)})
    assert module_names(shape, ["h.*.ffn.*"]) == r"h\.\d+\.ffn\.\d+"


def test_biases_of_the_head_are_trained_with_all_of_it():
    model = classifier(transformers.DistilBertConfig(vocab_size=64, dim=32, hidden_dim=64, n_layers=2, n_heads=4))
    adapters.apply_method(model, get_method("bitfit"), None)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"pre_classifier.weight", "classifier.weight"} <= trained
    assert all(name.endswith(".bias") or name.startswith(("pre_classifier", "classifier")) for name in trained)


def test_a_wrapper_of_the_same_name_is_not_taken_for_a_target():
    """As of Gemma 4, whose images go through layers that wrap a linear one."""
    model = torch.nn.ModuleDict({"text": torch.nn.ModuleDict(), "vision": torch.nn.ModuleDict()})
    for part, projection in (("text", torch.nn.Linear(4, 4)), ("vision", torch.nn.Sequential(torch.nn.Linear(4, 4)))):
        model[part]["layers"] = torch.nn.ModuleList([torch.nn.ModuleDict({"q_proj": projection})])
    model.config = transformers.LlamaConfig(**SIZES)
    model.base_model_prefix = ""
    shape = model_shape(model, "causal-lm")
    names = module_names(shape, ["text.layers.*.q_proj"])
    assert names == r"text\.layers\.\d+\.q_proj"
    alone = shape.model_copy(update={"module_paths": ()})
    assert module_names(alone, ["text.layers.*.q_proj"]) == ["q_proj"]


def test_norms_that_do_more_or_are_missing_in_a_layer_are_left_alone():
    config = transformers.ModernBertConfig(**SIZES)
    shape = model_shape(classifier(config), "sequence-classification")
    assert "attn_norm" not in str(target_modules(shape, "norms")), "the first layer's does nothing"
    assert any("attn_norm" in path for path in shape.module_paths)


def test_prefixes_are_for_models_whose_every_layer_takes_them():
    shape = model_shape(classifier(transformers.DebertaV2Config(**SIZES)), "sequence-classification")
    assert "does not take from PEFT" in get_method("prefix-tuning").unsupported_reason(shape)
    shape = model_shape(classifier(transformers.BertConfig(**SIZES)), "sequence-classification")
    assert (get_method("prefix-tuning").unsupported_reason(shape) is None) == CLASSIFIERS_TAKE_PREFIXES


def test_prefixes_are_for_decoders_that_call_their_past_a_cache_and_not_for_such_classifiers(monkeypatch):
    """As from transformers 5.24: PEFT finds no place for them in a classifier."""

    def forward(self, input_ids=None, cache=None, **others):
        raise AssertionError("only its signature is read")

    decoder, classes = transformers.LlamaForCausalLM, transformers.LlamaForSequenceClassification
    for kind in (transformers.LlamaModel, decoder, classes):
        monkeypatch.setattr(kind, "forward", forward)
    config = transformers.LlamaConfig(**SIZES)
    assert model_shape(decoder(config), "causal-lm").keeps_past
    assert not model_shape(classes(config), "sequence-classification").keeps_past


@pytest.mark.parametrize("kind", ["camembert", "big_bird", "bert", "modernbert", "xlm-roberta-xl"])
def test_encoders_are_for_classification_unless_they_are_made_decoders(kind):
    assert task_of(transformers.AutoConfig.for_model(kind), None, None) == "sequence-classification"
    assert task_of(transformers.AutoConfig.for_model("llama"), None, None) == "causal-lm"
    decoder = transformers.AutoConfig.for_model("bert", is_decoder=True)
    assert task_of(decoder, None, None) == "causal-lm"


def test_a_model_without_a_limit_of_positions_has_none():
    assert max_positions(transformers.AutoConfig.for_model("xlnet")) is None


def test_a_model_that_has_no_such_form_is_told_in_a_line(tmp_path):
    transformers.AutoConfig.for_model("qwen2_5_vl").save_pretrained(tmp_path)
    source = resolve_model(str(tmp_path), need="config")
    with pytest.raises(BadInput, match="no form as a language model of texts alone") as raised:
        empty_model(source, load_config(source), "causal-lm", num_labels=None)
    assert len(str(raised.value)) < 400


def test_weights_that_are_quantized_already_are_refused(tmp_path):
    transformers.LlamaConfig(**SIZES).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = resolve_model(str(tmp_path), need="config")
    with pytest.raises(BadInput, match=r"quantized already \(gptq\).*full precision; --quantize nf4"):
        check_full_precision(source, load_config(source))


def test_the_last_layers_of_a_short_decoder_are_among_those_trained():
    """As of distilbart, whose decoder has half the layers of its encoder."""
    sizes = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = transformers.BartConfig(vocab_size=64, encoder_layers=8, decoder_layers=4, **sizes, **heads)
    with torch.device("meta"):
        model = transformers.AutoModelForSeq2SeqLM.from_config(config)
    shape = model_shape(model, "seq2seq-lm")
    pattern = get_method("last-layers").peft_config(shape, 100)["target_modules"]
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    stacks = {name.partition(".layers.")[0] + " " + name.split(".")[3] for name in names if re.fullmatch(pattern, name)}
    assert stacks == {"model.encoder 6", "model.encoder 7", "model.decoder 3"}
