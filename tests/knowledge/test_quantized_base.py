"""QLoRA and LoftQ: only on quantised bases, and LoftQ starts nearer to the full weights than the quantised base is."""

from __future__ import annotations

import pytest
import torch

from knowledge.errors import BadInput
from knowledge.methods import get_method
from knowledge.methods.quantized_base import low_rank_factors
from probes import adapters
from probes.shape import model_shape
from probes.source import load_model, resolve_model
from tests.tiny import tiny_model

LOFTQ = get_method("loftq")


def start(base, rank=16):
    """LoftQ on `base` before training."""
    torch.manual_seed(0)
    config = LOFTQ.peft_config(model_shape(base, "causal-lm"), 20)
    return adapters.apply_method(base, LOFTQ, {**config, "r": rank, "lora_alpha": 2 * rank})


def errors(model):
    """For each adapted layer (error of its quantised weight, error with the adapter), as shares of the full weight."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_bnb_weight

    full = dict(tiny_model("llama").named_parameters())
    for name, layer in model.get_base_model().named_modules():
        if isinstance(layer, LoraLayer):
            linear, weight = layer.get_base_layer(), full[f"{name}.weight"]
            left = weight - dequantize_bnb_weight(linear.weight, getattr(linear, "state", None)).float()
            yield tuple((e.norm() / weight.norm()).item() for e in (left, left - layer.get_delta_weight("default")))


@pytest.mark.parametrize("name", ["qlora", "loftq"])
def test_they_want_a_quantised_base(name):
    shape = model_shape(tiny_model("llama"), "causal-lm")
    assert "--quantize nf4" in get_method(name).unsupported_reason(shape)
    for quantization in ("nf4", "int8"):
        assert get_method(name).unsupported_reason(shape.model_copy(update={"quantization": quantization})) is None


@pytest.mark.parametrize("column", ["llama-nf4", "llama-int8"])
def test_loftq_takes_up_what_the_quantisation_left(column):
    pytest.importorskip("bitsandbytes")
    found = list(errors(start(tiny_model(column))))
    assert len(found) == 14
    assert all(with_adapter < 0.9 * plain for plain, with_adapter in found)


def test_loftq_takes_up_more_at_a_higher_rank():
    pytest.importorskip("bitsandbytes")
    low, high = (sum(e for _, e in errors(start(tiny_model("llama-nf4"), rank))) for rank in (4, 32))
    assert high < 0.7 * low


def test_low_rank_factors_are_the_best_there_are():
    torch.manual_seed(0)
    matrix = torch.randn(96, 64)
    first, second = low_rank_factors(matrix, 8)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    best = (matrix - left[:, :8] * values[:8] @ right[:8]).norm()
    assert (matrix - second @ first).norm() < 1.001 * best
    assert torch.allclose(first.norm(dim=1), second.norm(dim=0), rtol=1e-3)  # neither outweighs the other


def test_loftq_reads_weights_that_are_spread_over_files(tmp_path):
    pytest.importorskip("bitsandbytes")
    tiny_model("llama").save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    base = load_model(resolve_model(str(tmp_path)), "causal-lm", quantization="nf4")
    assert all(with_adapter < plain for plain, with_adapter in errors(start(base)))


def test_loftq_reads_weights_of_a_model_without_its_head(tmp_path):
    pytest.importorskip("bitsandbytes")
    without_head = tiny_model("llama").model
    without_head.config.tie_word_embeddings = True  # the head is the embedding, so nothing is missing
    without_head.save_pretrained(tmp_path)  # names without 'model.'
    base = load_model(resolve_model(str(tmp_path)), "causal-lm", quantization="nf4")
    assert all(with_adapter < plain for plain, with_adapter in errors(start(base)))


def test_loftq_says_when_the_files_name_the_weights_otherwise(tmp_path):
    pytest.importorskip("bitsandbytes")
    tiny_model("gpt2").save_pretrained(tmp_path)
    base = tiny_model("llama-nf4")
    base.config._name_or_path = str(tmp_path)
    with pytest.raises(BadInput, match="other names"):
        start(base)
