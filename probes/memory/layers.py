"""Moves a wrapped model to meta, and multiplies one layer of each stack into many."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from probes.memory.bases import config_parts, tie_weights
from probes.memory.not_estimable import NotEstimable

SHAPE_BUFFER_ELEMENTS = 8  # small integer buffers hold shapes that the forward pass reads
# What PEFT keeps on the CPU, by a part of its name: BOFT's permutations; FRoD's projections, which each layer copies to
# the device in each forward pass (they would follow `model.to(device)`, but PEFT wraps a model that is there already).
HOST_BUFFERS = ("boft_P", "frod_U", "frod_V", "frod_s_")

# What a forward pass reads of the config that depends on the number of layers.
DEPTH_SETTINGS = ("num_hidden_layers", "layer_types")


def move_to_meta(model: nn.Module) -> nn.Module:
    """Every tensor of the model goes to meta, those in plain attributes too, except what stays on the host or is
    read as a number. Tied weights stay tied."""
    kept = [
        (module, name, buffer)
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and _stays(f"{path}.{name}", buffer)
    ]
    for module in model.modules():  # bitsandbytes' parameters, which `model.to` can move to no other kind of device
        for name, parameter in module._parameters.items():
            if parameter is not None and type(parameter) is not nn.Parameter:
                module._parameters[name] = parameter.to("meta")
    model.to("meta")
    for module, name, buffer in kept:
        module._buffers[name] = buffer
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if name not in ("_parameters", "_buffers", "_modules"):
                vars(module)[name] = _to_meta(value)
    tie_weights(model.get_base_model() if hasattr(model, "get_base_model") else model)
    return model


def offload_base_weights(model: nn.Module) -> None:
    """FRoD replaces the base's weights while it trains: its first forward pass moves them to the CPU
    (`runtime_offload_base_weight`), which meta tensors cannot do by themselves."""
    for module in model.modules():
        if any(getattr(module, "runtime_offload_base_weight", {}).values()):
            base_layer = module.get_base_layer()
            on_host = torch.empty(base_layer.weight.shape, dtype=base_layer.weight.dtype)
            base_layer.weight = nn.Parameter(on_host, requires_grad=False)


def move_after_wrapping(model: nn.Module) -> None:
    """What `model.to(device)` does to a model that was wrapped on the CPU: the buffers come along that otherwise stay
    on the host, views leave behind what they do not show, and weights that are offloaded never arrive."""
    model._apply(lambda tensor: tensor if _is_shape(tensor) else torch.empty_like(tensor, device="meta"))
    offload_base_weights(model)


def _stays(path: str, buffer: torch.Tensor) -> bool:
    return _is_shape(buffer) or (buffer.device.type == "cpu" and any(part in path for part in HOST_BUFFERS))


def _is_shape(buffer: torch.Tensor) -> bool:
    is_small = not buffer.dtype.is_floating_point and buffer.numel() <= SHAPE_BUFFER_ELEMENTS
    return buffer.device.type == "cpu" and is_small


def _to_meta(value: Any, depth: int = 0) -> Any:
    if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        return value.to("meta")
    if depth < 3 and type(value) is dict:
        value.update({key: _to_meta(item, depth + 1) for key, item in value.items()})
    elif depth < 3 and type(value) is list:
        value[:] = [_to_meta(item, depth + 1) for item in value]
    return value


def copy_layers(model: nn.Module, depths: Mapping[str, int], full_config: Any) -> None:
    """Multiplies the layer of every stack of a wrapped model with one layer per stack, to the depths of the model of
    `full_config`. What is shared with the rest of the model stays shared."""
    base = model.get_base_model()
    stacks = {name: m for name, m in base.named_modules() if isinstance(m, nn.ModuleList) and len(m) == 1}
    if all(depths.get(name, 1) == 1 for name in stacks):
        raise NotEstimable(f"{type(base).__name__} has no stack of layers that could be copied")
    for name, stack in stacks.items():
        _copy_layer(model, stack, depths.get(name, 1))
    for part, full in zip(config_parts(base.config), config_parts(full_config), strict=True):
        for setting in DEPTH_SETTINGS:
            if hasattr(full, setting):
                setattr(part, setting, getattr(full, setting))
    tie_weights(base)


def _copy_layer(model: nn.Module, layers: nn.ModuleList, depth: int) -> None:
    source = layers[0]
    outside = {id(thing): thing for thing in _reachable_outside(model, source)}
    outside |= {id(buffer): buffer for buffer in source.buffers() if buffer.device.type == "cpu"}
    for index in range(1, depth):
        layer = copy.deepcopy(source, dict(outside))
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
        layers.append(layer)


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
