"""What methods keep outside of trained weights and optimizer while training, as named tensors.

AdaLoRA smooths the importance of its directions and remembers which it has pruned; Delta-LoRA counts from an anchor
that it takes after its warm-up. Without these a run that goes on would prune or drift differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowledge.methods.anchored_lora import is_anchored, lora_layers, set_anchor

_IMPORTANCES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # PEFT's RankAllocator: dicts of tensors by parameter name
_ANCHORS = ("anchor_A", "anchor_B")


def is_known(model: Any) -> bool:
    """False where a method keeps something that collect() does not take along: MonteCLoRA draws its noise ahead of use,
    gigabytes of it."""
    return not any(hasattr(module, "sampler") for module in model.modules())


def collect(model: Any) -> dict[str, Any]:
    """Tensors by name; nothing for most methods."""
    import torch

    tensors: dict[str, Any] = {}
    tuner = getattr(model, "base_model", None)
    if allocator := getattr(tuner, "rankallocator", None):
        for kind in _IMPORTANCES:
            tensors |= {f"{kind}/{name}": tensor for name, tensor in getattr(allocator, kind).items()}
        pattern = model.active_peft_config.rank_pattern or {}
        tensors |= {f"rank_pattern/{name}": torch.tensor(kept) for name, kept in pattern.items()}
    if is_anchored(model):
        for index, layer in enumerate(lora_layers(model)):
            tensors |= {f"{name}/{index}": getattr(layer, name) for name in _ANCHORS}
        tensors["anchor_weights"] = torch.tensor(list(model.lora_anchor.values()), dtype=torch.float64)
    return tensors


def restore(model: Any, tensors: Mapping[str, Any]) -> None:
    """Puts back what collect() gave."""
    if allocator := getattr(getattr(model, "base_model", None), "rankallocator", None):
        device = next(model.parameters()).device
        for kind in _IMPORTANCES:
            setattr(allocator, kind, {name: tensor.to(device) for name, tensor in _under(kind, tensors)})
        pattern = {name: tensor.tolist() for name, tensor in _under("rank_pattern", tensors)}
        model.active_peft_config.rank_pattern = pattern or None
    if "anchor_weights" in tensors:
        gain, share = tensors["anchor_weights"].tolist()
        set_anchor(model, gain, share)
        for index, layer in enumerate(lora_layers(model)):
            for name in _ANCHORS:
                getattr(layer, name).copy_(tensors[f"{name}/{index}"])


def _under(prefix: str, tensors: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name.removeprefix(f"{prefix}/"), t) for name, t in tensors.items() if name.startswith(f"{prefix}/")]
