"""Delta-LoRA in its telescoped form against the published one, which moves the base weights in every step."""

from __future__ import annotations

import pytest
import torch

from knowledge.methods import get_method
from knowledge.methods.anchored_lora import as_plain_lora, lora_layers
from knowledge.methods.low_rank import LowRank
from probes import adapters
from probes.shape import model_shape
from tests.tiny import tiny_batch, tiny_model

STEPS, RATE = 25, 1e-2
METHOD = get_method("delta-lora")


def train(model, after_step) -> tuple[list[float], torch.Tensor]:
    """Losses of all steps, and the logits after the last."""
    optimizer = adapters.make_optimizer(model, METHOD, RATE)
    losses = []
    for step in range(STEPS):
        loss = model(**tiny_batch()).loss
        loss.backward()
        after_step(optimizer, step)
        optimizer.zero_grad()
        losses.append(loss.item())
    with torch.no_grad():
        return losses, model(**tiny_batch()).logits


def wrapped(method):
    torch.manual_seed(0)
    base = tiny_model()
    return adapters.apply_method(base, method, METHOD.peft_config(model_shape(base, "causal-lm"), STEPS))


def telescoped(ratio: float):
    model = wrapped(METHOD.variant(update_ratio=ratio))

    def after_step(optimizer, step):
        optimizer.step()
        adapters.after_optimizer_step(model, step)

    return model, *train(model, after_step)


def published(ratio: float):
    """Zi et al. (2023): after the warm-up, W += ratio * scaling * (B1 A1 - B0 A0) after each step."""
    model = wrapped(LowRank(**{k: v for k, v in dict(METHOD).items() if k in LowRank.model_fields}))
    layers = list(lora_layers(model))

    def product(layer):
        return layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight

    @torch.no_grad()
    def after_step(optimizer, step):
        before = [product(layer) for layer in layers]
        optimizer.step()
        if step >= METHOD.warmup_steps:
            for layer, old in zip(layers, before, strict=True):
                layer.get_base_layer().weight += ratio * (product(layer) - old)

    return model, *train(model, after_step)


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_telescoped_form_is_the_published_one(ratio):
    _, losses, logits = telescoped(ratio)
    _, expected_losses, expected_logits = published(ratio)
    assert losses == pytest.approx(expected_losses, abs=1e-4)
    assert torch.allclose(logits, expected_logits, atol=1e-3)


def test_it_differs_from_lora_after_the_warm_up_only():
    plain, delta = published(0.0)[1], telescoped(0.5)[1]
    assert delta[: METHOD.warmup_steps + 1] == pytest.approx(plain[: METHOD.warmup_steps + 1], abs=1e-6)
    assert abs(delta[-1] - plain[-1]) > 0.01


def test_it_is_saved_as_an_ordinary_lora_of_twice_the_rank(tmp_path):
    model, _, logits = telescoped(0.5)
    config, tensors = as_plain_lora(model)
    assert config.r == 2 * model.active_peft_config.r
    assert all(min(tensor.shape) == config.r for tensor in tensors.values())
    adapters.save_adapter(model, tmp_path)
    loaded = adapters.load_adapter(tiny_model(), tmp_path).eval()
    assert torch.allclose(loaded(**tiny_batch()).logits, logits, atol=1e-4)


def test_before_the_warm_up_ends_it_is_saved_as_plain_lora(tmp_path):
    model = wrapped(METHOD)
    adapters.save_adapter(model, tmp_path)
    assert adapters.load_adapter(tiny_model(), tmp_path).active_peft_config.r == model.active_peft_config.r
