"""Moves a wrapped model to meta, and multiplies one layer into many."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from probes.memory.not_estimable import NotEstimable

SHAPE_BUFFER_ELEMENTS = 8  # small integer buffers hold shapes that the forward pass reads
# What PEFT keeps on the CPU, by a part of its name: BOFT's permutations; FRoD's shared projections, which each layer
# copies to the device in each forward pass.
HOST_BUFFERS = ("boft_P", "frod_V", "frod_s_")


def move_to_meta(model: nn.Module) -> nn.Module:
    """Every tensor of the model goes to meta, those in plain attributes too, except what stays on the host or is
    read as a number. Tied weights stay tied."""
    kept = [
        (module, name, buffer)
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and _stays(f"{path}.{name}", buffer)
    ]
    model.to("meta")
    for module, name, buffer in kept:
        module._buffers[name] = buffer
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if name not in ("_parameters", "_buffers", "_modules"):
                vars(module)[name] = _to_meta(value)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.tie_weights()
    _offload_base_weights(model)
    return model


def _offload_base_weights(model: nn.Module) -> None:
    """FRoD replaces the base's weights while it trains and keeps them on the CPU (`runtime_offload_base_weight`)."""
    for module in model.modules():
        if any(getattr(module, "runtime_offload_base_weight", {}).values()):
            base_layer = module.get_base_layer()
            on_host = torch.empty(base_layer.weight.shape, dtype=base_layer.weight.dtype)
            base_layer.weight = nn.Parameter(on_host, requires_grad=False)


def _stays(path: str, buffer: torch.Tensor) -> bool:
    is_shape = not buffer.dtype.is_floating_point and buffer.numel() <= SHAPE_BUFFER_ELEMENTS
    return buffer.device.type == "cpu" and (is_shape or any(part in path for part in HOST_BUFFERS))


def _to_meta(value: Any, depth: int = 0) -> Any:
    if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        return value.to("meta")
    if depth < 3 and type(value) is dict:
        value.update({key: _to_meta(item, depth + 1) for key, item in value.items()})
    elif depth < 3 and type(value) is list:
        value[:] = [_to_meta(item, depth + 1) for item in value]
    return value


def copy_layer(model: nn.Module, num_layers: int) -> None:
    """Multiplies a wrapped one-layer model's layer. What is shared with the rest of the model stays shared."""
    base = model.get_base_model()
    layers = _layer_list(base)
    source = layers[0]
    outside = {id(thing): thing for thing in _reachable_outside(model, source)}
    for index in range(1, num_layers):
        layer = copy.deepcopy(source, dict(outside))
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
        layers.append(layer)
    base.config.num_hidden_layers = num_layers
    if getattr(base.config, "layer_types", None):
        base.config.layer_types = base.config.layer_types * num_layers
    base.tie_weights()


def _layer_list(base: nn.Module) -> nn.ModuleList:
    lists = [m for m in base.modules() if isinstance(m, nn.ModuleList) and len(m) == 1 and hasattr(m[0], "self_attn")]
    if len(lists) != 1:
        raise NotEstimable(f"{type(base).__name__} has {len(lists)} stacks of layers where one is expected")
    return lists[0]


def _reachable_outside(model: nn.Module, layer: nn.Module) -> Iterator[Any]:
    """Modules and tensors that can be reached without entering `layer`."""
    seen = {id(layer)}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield module
        yield from (t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None)
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))
        waiting.extend(child for child in module._modules.values() if child is not None)
