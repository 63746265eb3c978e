"""Base models with unset weights, from their configs alone.

A config is a transformers PretrainedConfig, or for a diffusion model the content of its config.json, whose
`_class_name` names the class of diffusers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from knowledge.schema import AUTO_CLASSES, PlannedRun
from probes.memory.not_estimable import NotEstimable

RANDOM_STD = 0.02  # of the weights of most models when they are new


def build_base(config: Any, run: PlannedRun, device: str = "meta") -> Any:
    """The base model in the run's dtype and quantisation."""
    make = _diffusers_model if isinstance(config, Mapping) else _transformers_model
    with torch.device(device), torch.random.fork_rng(devices=[]):
        model = make(config, run)
    if run.quantization != "none":
        from probes.memory.quantized import quantize

        quantize(model, run.quantization, getattr(torch, run.dtype), run.task)
    return model


def _transformers_model(config: Any, run: PlannedRun) -> Any:
    import transformers

    config = copy.deepcopy(config)  # the model writes its dtype and attention into it
    text = config.get_text_config()
    if run.task == "sequence-classification" and text.pad_token_id is None:
        text.pad_token_id = 0  # decoders refuse to classify batches without one; the probes take the tokenizer's
    # A config of a class of the model's own was read by code that the user trusts; without a word transformers asks.
    trusted = type(config).__module__.startswith("transformers_modules.")
    make = getattr(transformers, AUTO_CLASSES[run.task]).from_config
    model = make(config, dtype=getattr(torch, run.dtype), trust_remote_code=trusted)
    model.tie_weights()
    return model


def _diffusers_model(config: Mapping[str, Any], run: PlannedRun) -> Any:
    _require_diffusers()
    import diffusers

    return getattr(diffusers, config["_class_name"]).from_config(dict(config)).to(getattr(torch, run.dtype))


def _require_diffusers() -> None:
    if find_spec("diffusers") is None:
        raise NotEstimable(
            "models for images need diffusers, which is not installed: pip install 'peft-advisor[images]'"
        )


def config_facts(config: Any) -> dict[str, Any]:
    """What the config says, as plain values; for a diffusion model with the version of diffusers."""
    if isinstance(config, Mapping):
        _require_diffusers()
        return {**config, "diffusers": version("diffusers")}
    return config.to_dict()


def with_one_layer(config: Any) -> Any:
    """The config of the same model with one layer per stack of layers."""
    if isinstance(config, Mapping):
        return {key: 1 if key.startswith("num_") and key.endswith("layers") else value for key, value in config.items()}
    config = copy.deepcopy(config)
    for part in config_parts(config):
        part.num_hidden_layers = 1
        if getattr(part, "layer_types", None):
            part.layer_types = part.layer_types[:1]
    return config


def config_parts(config: Any) -> list[Any]:
    """The configs of which each stack of layers has its own: of a model that sees too, those of text and vision."""
    parts = [getattr(config, name) for name in getattr(config, "sub_configs", {}) if getattr(config, name, None)]
    return [part for part in parts if hasattr(part, "num_hidden_layers")] or [config]


def with_values(base: nn.Module) -> nn.Module:
    """The base of a config with one layer per stack, from meta to the CPU. The layers get random weights, for methods
    that decompose them; nothing looks at the others, and only to touch millions of embeddings would take seconds."""
    base.to_empty(device="cpu")
    in_layers = {id(p): p for m in base.modules() if isinstance(m, nn.ModuleList) for p in m.parameters()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for parameter in in_layers.values():
            parameter.normal_(std=RANDOM_STD)
        for buffer in base.buffers():
            buffer.zero_()
    tie_weights(base)
    return base


def tie_weights(base: nn.Module) -> None:
    """Makes tensors that the config ties one again; diffusion models have none."""
    if hasattr(base, "tie_weights"):
        base.tie_weights()


def stack_depths(base: nn.Module) -> dict[str, int]:
    """How many modules each list of modules has, by the list's name in the model."""
    return {name: len(module) for name, module in base.named_modules() if isinstance(module, nn.ModuleList)}


def enable_checkpointing(model: Any) -> None:
    """Keeps only the inputs of layers for the backward pass; `model` may be wrapped by PEFT."""
    if hasattr(model, "gradient_checkpointing_enable"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:  # diffusers; non-reentrant by default
        model.enable_gradient_checkpointing()
