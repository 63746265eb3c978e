"""Reads off a model what methods must know of it: names and sizes of its layers."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import TYPE_CHECKING

from knowledge.schema import Quantization, Task
from knowledge.shape import ModelShape
from knowledge.targets import CLASSIFICATION_HEADS

if TYPE_CHECKING:
    import torch


def model_shape(model: torch.nn.Module, task: Task) -> ModelShape:
    """The names and sizes of a model's layers. Works on real, quantised and meta models."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    linear_sizes: dict[str, set[tuple[int, int]]] = {}
    conv1d_paths: dict[str, None] = {}
    norm_paths: dict[str, None] = {}
    for name, module in model.named_modules():
        path = _layer_free(name)
        if isinstance(module, Conv1D):
            linear_sizes.setdefault(path, set()).add((module.nx, module.nf))
            conv1d_paths[path] = None
        elif isinstance(module, nn.Linear):
            linear_sizes.setdefault(path, set()).add((module.in_features, module.out_features))
        elif _is_norm(module):
            norm_paths[path] = None
    identities = {_layer_free(n) for n, module in model.named_modules() if isinstance(module, nn.Identity)}
    config = model.config.get_text_config()
    return ModelShape(
        model_type=config.model_type,
        quantization=_quantization_of(model),
        task=task,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        stack_depths={
            _layer_free(n): len(module) for n, module in model.named_modules() if isinstance(module, nn.ModuleList)
        },
        linear_sizes={path: tuple(sorted(sizes)) for path, sizes in linear_sizes.items()},
        conv1d_paths=tuple(conv1d_paths),
        norm_paths=tuple(path for path in norm_paths if path not in identities),  # ModernBERT's first layer lacks one
        bias_paths=tuple(dict.fromkeys(_layer_free(n) for n, _ in model.named_parameters() if n.endswith(".bias"))),
        module_paths=tuple(dict.fromkeys(_layer_free(n) for n, _ in model.named_modules() if n)),
        head_modules=_head_modules(model) if task == "sequence-classification" else (),
        keeps_past=_keeps_past(model, task),
    )


def drawn_poolers(model: torch.nn.Module, stored: Collection[str]) -> tuple[str, ...]:
    """Poolers within a classifier's base that its files do not hold, as those of models that were made to fill in
    words do not: they are drawn anew wherever the model is loaded."""
    poolers = [
        name
        for name, module in model.named_modules()
        if name.endswith(".pooler") and next(module.parameters(), None) is not None
    ]
    return tuple(poolers) if not any("pooler" in name for name in stored) else ()


def _is_norm(module: torch.nn.Module) -> bool:
    """With weights of its own; what a gated one does beside normalising, its layer reads off it."""
    kind = type(module).__name__.lower()
    return "norm" in kind and "gated" not in kind and next(module.parameters(recurse=False), None) is not None


def _head_modules(model: torch.nn.Module) -> tuple[str, ...]:
    """What a classifier has beside its base, and PEFT does not take for its head: drawn anew where a model is made a
    classifier, as DeBERTa's pooler."""
    heads = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and not name.endswith(CLASSIFICATION_HEADS)
        if next(module.parameters(), None) is not None
    ]
    names = [name for name, _ in model.named_modules()]
    return tuple(head for head in heads if sum(name.endswith(head) for name in names) == 1)  # PEFT goes by endings


def _keeps_past(model: torch.nn.Module, task: Task) -> bool:
    """Whether all layers attend to keys and values that are handed to them, as PEFT hands them.

    From 5.24 transformers names them `cache`, and takes them under the old name too; but a classifier's signature PEFT
    (0.21) searches for the old name, and refuses where it is missing.
    """
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    base = getattr(model, model.base_model_prefix, model)
    names = {"past_key_values"} if task == "sequence-classification" else {"past_key_values", "cache"}
    takes = any(names & {*inspect.signature(type(m).forward).parameters} for m in (model, base))
    return takes and all("attention" in kind and "linear" not in kind for kind in kinds)


def _quantization_of(model: torch.nn.Module) -> Quantization:
    """How the base is kept; schemes of 4 bits other than nf4 are taken to be like it."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None:
        return "none"
    return "int8" if getattr(quantizer.quantization_config, "load_in_8bit", False) else "nf4"


def _layer_free(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))
