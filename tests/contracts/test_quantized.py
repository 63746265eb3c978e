"""Methods on a base in 4 bits: those that claim to work there train as on a plain base, the others are refused."""

from __future__ import annotations

import pytest
import torch

from knowledge.methods import all_methods, get_method
from probes import adapters
from tests.contracts.observe import SAME, STEPS, cross_entropy, difference, logits, train
from tests.tiny import tiny_batch, tiny_calibration, tiny_model

pytest.importorskip("bitsandbytes", reason="4-bit bases need the extra peft-advisor[quantized]")

METHODS = [method for method in all_methods().values() if not method.special_purpose]
WORKING = [method for method in METHODS if method.capabilities.quantized]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def load(weights):
    """Loads the tiny Llama in nf4 on the CPU, as often as called."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )  # fmt: skip
    return lambda: AutoModelForCausalLM.from_pretrained(
        weights, quantization_config=config, device_map="cpu", dtype=torch.float32
    ).eval()


def wrap(base, method):
    torch.manual_seed(0)
    shape = adapters.model_shape(base, "causal-lm")
    assert method.unsupported_reason(shape) is None
    return adapters.apply_method(base, method, method.peft_config(shape, STEPS), batches=tiny_calibration)


def trained_shapes(model):
    return {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("method", WORKING, ids=lambda method: method.name)
def test_trains_in_4_bits_what_it_trains_in_full(method, load, tmp_path):
    base = load()
    model = wrap(base, method)
    # PEFT trains plain LoRA instead of some variants there, without a word.
    assert trained_shapes(model) == trained_shapes(wrap(tiny_model(), method))
    losses = train(model, method, tiny_batch(), method.learning_rates[-1])
    trained = logits(model, tiny_batch())
    assert cross_entropy(trained, tiny_batch()["labels"]) < 0.999 * losses[0]
    adapters.save_adapter(model, tmp_path)
    assert difference(logits(adapters.load_adapter(load(), tmp_path), tiny_batch()), trained) < SAME


@pytest.mark.parametrize(
    "method", [method for method in METHODS if not method.capabilities.quantized], ids=lambda method: method.name
)
def test_what_does_not_work_in_4_bits_is_refused(method, load):
    reason = method.unsupported_reason(adapters.model_shape(load(), "causal-lm"))
    assert reason is not None


def gradients(base):
    model = wrap(base, get_method("lora-all-linear"))
    model.train()
    model(**tiny_batch()).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def test_an_evaluation_before_training_does_not_cut_the_gradient(load):
    """bitsandbytes packs the weights for inference on some CPUs, after which no gradient passes through them."""
    evaluated, kept = load(), load()
    logits(evaluated, tiny_batch())
    adapters.keep_differentiable(kept)
    logits(kept, tiny_batch())
    expected = gradients(load())
    assert torch.equal(gradients(kept), expected)
    # Packing has rounded the scales of the quantisation, so this one is the same up to that.
    assert torch.cosine_similarity(gradients(evaluated), expected, dim=0) > 0.95
