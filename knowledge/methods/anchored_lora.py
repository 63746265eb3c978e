"""LoRA whose update counts from an earlier state of its two matrices, the anchor.

Two kinds of methods are of this form, both leaving the weights at W0 + s (g B A - h B* A*), s LoRA's scaling:

- initialisations that take their start out of the base (PiSSA, OLoRA, CorDA, LoRA-GA): the anchor is the start,
  g = h = 1, and the base holds W0 - s B* A* while training;
- Delta-LoRA with ratio l: the anchor is the state after the warm-up, g = 1 + l, h = l, and the base stays W0.

Either is exactly an ordinary LoRA of twice the rank on the untouched base: A' = [A; A*], B' = [g B, -h B*].
It is saved so, and a fresh base reloads it to the same outputs, whatever its initialisation would compute there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any


def lora_layers(model: Any) -> Iterator[Any]:
    """The LoRA layers of a wrapped model."""
    from peft.tuners.lora import LoraLayer

    return (module for module in model.modules() if isinstance(module, LoraLayer))


def set_anchor(model: Any, gain: float = 1.0, share: float = 1.0) -> None:
    """Makes the present state of all LoRA matrices the anchor, with g = `gain` and h = `share`."""
    for layer in lora_layers(model):
        layer.register_buffer("anchor_A", layer.lora_A["default"].weight.detach().clone(), persistent=False)
        layer.register_buffer("anchor_B", layer.lora_B["default"].weight.detach().clone(), persistent=False)
    model.lora_anchor = {"gain": gain, "share": share}


def is_anchored(model: Any) -> bool:
    return hasattr(model, "lora_anchor")


def as_plain_lora(model: Any) -> tuple[Any, dict[str, Any]]:
    """An anchored model's adapter as (LoraConfig, tensors) of an ordinary LoRA of twice the rank."""
    import torch
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(model)
    gain, share = model.lora_anchor["gain"], model.lora_anchor["share"]
    for name, tensor in tensors.items():
        if name.endswith(".lora_A.weight"):
            layer = model.get_submodule(name.removesuffix(".lora_A.weight"))
            tensors[name] = torch.cat([tensor, layer.anchor_A])
        elif name.endswith(".lora_B.weight"):
            layer = model.get_submodule(name.removesuffix(".lora_B.weight"))
            tensors[name] = torch.cat([gain * tensor, -share * layer.anchor_B], dim=1)
    config = copy.deepcopy(model.active_peft_config)
    config.r, config.lora_alpha = 2 * config.r, 2 * config.lora_alpha
    config.init_lora_weights = True
    config.corda_config = config.lora_ga_config = None
    config.inference_mode = True
    return config, tensors
