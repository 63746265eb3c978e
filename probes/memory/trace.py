"""From a model on meta to a template: runs a few steps of the training loop and watches every storage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from knowledge.schema import PlannedRun
from probes.memory.build import BuiltModel
from probes.memory.cuda_choices import cuda_choices
from probes.memory.kinds import Kind
from probes.memory.layers import offload_base_weights
from probes.memory.loop import TrainingLoop
from probes.memory.optimizers import make_optimizer
from probes.memory.template import Length, RawStep, Template, build_steps
from probes.memory.tracer import AllocationTracer


def trace_training(
    built: BuiltModel,
    run: PlannedRun,
    lengths: Sequence[Length],
    exponents: Sequence[tuple[int, int]],
    *,
    loop: TrainingLoop,
    optimizer: str,
    optimizer_settings: dict[str, Any],
    padded: bool,
) -> Template:
    """Runs one step per length and describes them as a template. The first length is that of the first step, the
    others must be as many different ones as there are exponents.

    Raises OrderDependsOnLength, and what the model's or the method's code raises.
    """
    tracer = AllocationTracer(logits_width=_vocabulary_size(built.model))
    persistent = watch_persistent(tracer, built)
    boundaries = [tracer.position]
    with cuda_choices(padded=padded):
        steps = loop(
            built.model, make_optimizer(built.model, optimizer, optimizer_settings), iter(lengths), run, tracer
        )
        offload_base_weights(built.model)
        with tracer:
            # A step ends where the loop yields: what the loop's locals hold lives on into the next step.
            for _ in steps:
                boundaries.append(tracer.position)
    raw = split_into_steps(tracer, boundaries, lengths)
    sizes, kinds = persistent_facts(tracer, persistent)
    notes = (built.note,) if built.note else ()
    return Template(sizes, kinds, build_steps(raw, exponents), tuple(exponents), built.base_bytes, notes)


def watch_persistent(tracer: AllocationTracer, built: BuiltModel) -> int:
    """Follows the model's weights, adapters, buffers and tensors in plain attributes; returns how many there are.

    The base's come first, as the loader puts them on the device before the adapters are made.
    """
    named = [*built.model.named_parameters(), *built.model.named_buffers()]
    of_base = [tensor for name, tensor in named if _is_of_base(name, built.base_names)]
    others = [tensor for name, tensor in named if not _is_of_base(name, built.base_names)]
    plain = [
        value
        for module in built.model.modules()
        for name, value in vars(module).items()
        if isinstance(value, torch.Tensor)
    ]
    for tensor in of_base:
        tracer.watch(tensor, Kind.WEIGHTS)
    for tensor in itertools.chain(others, plain):
        tracer.watch(tensor, Kind.ADAPTER)
    return len(tracer.events.allocated)


def persistent_facts(tracer: AllocationTracer, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and kinds of the first `count` storages."""
    events = tracer.events
    return np.array(events.allocated[:count], dtype=np.int64), np.array(events.kinds[:count], dtype=np.int8)


def _is_of_base(name: str, base_names: frozenset[str]) -> bool:
    """Whether a parameter of this name was there before PEFT wrapped its module. Prompts wrap the model once,
    `base_model.`, other methods twice, `base_model.model.`, which may also be how the base's own names begin."""
    for part in ("base_layer.", "original_module.", "orig_module."):
        name = name.replace(part, "")
    return not base_names.isdisjoint((name, name.removeprefix("base_model."), name.removeprefix("base_model.model.")))


def _vocabulary_size(model: Any) -> int | None:
    text_config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return getattr(text_config, "vocab_size", None)


def split_into_steps(
    tracer: AllocationTracer, boundaries: Sequence[tuple[int, int]], lengths: Sequence[Length]
) -> list[RawStep]:
    """What was traced between each boundary and the next, as the step of that length."""
    events = tracer.events
    order, sizes = np.array(events.order, dtype=np.int64), np.array(events.allocated, dtype=np.int64)
    kinds = np.array(events.kinds, dtype=np.int8)
    return [
        RawStep(length, number, order[event:next_event], sizes[number:next_number], kinds[number:next_number])
        for length, ((number, event), (next_number, next_event)) in zip(
            lengths, itertools.pairwise(boundaries), strict=True
        )
    ]
