"""Builds a model with its adapters on the meta device: shapes and dtypes of the real one, without its memory.

Some methods cannot be initialised without data (a decomposition, a random selection, a value that is read). They
are built in two other ways: with real adapters over the meta base, or by wrapping one real layer and copying it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from knowledge.methods.base import PEFT_TASK_TYPES
from knowledge.schema import PlannedRun
from probes.memory import cache
from probes.memory.bases import build_base, enable_checkpointing, stack_depths, with_one_layer, with_values
from probes.memory.layers import copy_layers, move_after_wrapping, move_to_meta
from probes.memory.not_estimable import NotEstimable

# Initialisations of LoRA that need data but leave tensors of plain LoRA's shapes and dtypes behind.
DATA_DRIVEN_INITS = ("pissa", "olora", "eva", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class BuiltModel:
    """A model on meta, ready to be traced. `base_names` tells the base's tensors from the adapter's; its weights take
    `base_bytes`."""

    model: Any
    base_names: frozenset[str]
    base_bytes: int
    note: str = ""


def ways_to_build(
    config: Any,
    peft_config: Mapping[str, Any] | None,
    run: PlannedRun,
    *,
    select_trainable: Callable[[Any], None] | None = None,
    autocast_adapter_dtype: bool = True,
    wrapped_on_cpu: bool = False,
) -> list[Callable[[], BuiltModel]]:
    """Functions that build the model of `config` (see bases.py) in the run's dtype on meta, best first; any may raise.

    `peft_config` None means no adapter: everything trains, or what `select_trainable` chooses.
    wrapped_on_cpu: whether the model goes to the device only after PEFT has wrapped it, as scripts for image
        generation do it; those for text load it there at once.
    """

    def without_adapter() -> BuiltModel:
        model = build_base(config, run)
        (select_trainable or _train_everything)(model)
        return _prepared(BuiltModel(model, *_facts(model)), run)

    if peft_config is None:
        return [without_adapter]
    wrap = _Wrapper(config, peft_config, run, autocast_adapter_dtype, wrapped_on_cpu)
    return [lambda way=way: _quietly(way, run) for way in (wrap.on_meta, wrap.adapters_on_cpu, wrap.one_layer_copied)]


def _quietly(way: Callable[[], BuiltModel], run: PlannedRun) -> BuiltModel:
    """PEFT warns of meta tensors and of what it puts right by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _prepared(way(), run)


class _Wrapper:
    """The ways to put one PEFT method on one base."""

    def __init__(
        self,
        config: Any,
        peft_config: Mapping[str, Any],
        run: PlannedRun,
        autocast_adapter_dtype: bool,
        wrapped_on_cpu: bool,
    ) -> None:
        self.config = config
        self.run = run
        self.peft_config, self.note = load_peft_config(peft_config, run)
        self.autocast = autocast_adapter_dtype
        self.wrapped_on_cpu = wrapped_on_cpu

    def on_meta(self) -> BuiltModel:
        base = build_base(self.config, self.run)
        reference = _facts(base)
        with torch.device("meta"):
            return self._finish(self._wrap(base), reference, "")

    def adapters_on_cpu(self) -> BuiltModel:
        base = build_base(self.config, self.run)
        reference = _facts(base)
        return self._finish(move_to_meta(self._wrap(base)), reference, "adapters initialised on the CPU")

    def one_layer_copied(self) -> BuiltModel:
        full = build_base(self.config, self.run)
        # A decomposition takes seconds, and a run's step and its generation are traced one after the other.
        model = _same_as_last(self._identity(), lambda: move_to_meta(self._wrap(self._one_layer())))
        copy_layers(model, stack_depths(full), full.config)
        return self._finish(model, _facts(full), "one layer built on the CPU and copied")

    def _identity(self) -> str:
        """What a wrapped layer depends on."""
        settings = {"peft_config": self.peft_config.to_dict(), "autocast": self.autocast, "seed": self.run.seed}
        return cache.key(self.config, self.run, (), **settings)

    def _one_layer(self) -> Any:
        config = with_one_layer(self.config)
        if self.run.quantization != "none":  # packed weights come with tables that must be the right ones
            return build_base(config, self.run, device="cpu")
        return with_values(build_base(config, self.run))

    def _wrap(self, base: Any) -> Any:
        from peft import get_peft_model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run.seed)
            # Wrapping writes the resolved targets into the config, so it gets a copy.
            return get_peft_model(base, copy.deepcopy(self.peft_config), autocast_adapter_dtype=self.autocast)

    def _finish(self, model: Any, reference: tuple[frozenset[str], int], how: str) -> BuiltModel:
        if self.wrapped_on_cpu:
            move_after_wrapping(model)
        return BuiltModel(model, *reference, note="; ".join(note for note in (self.note, how) if note))


_last: dict[str, Any] = {}


def _same_as_last(identity: str, make: Callable[[], Any]) -> Any:
    """A model of one's own: a copy of what was made last if that was the same. One is kept at a time."""
    if identity not in _last:
        made = make()
        _last.clear()
        _last[identity] = made
    return copy.deepcopy(_last[identity])


def load_peft_config(settings: Mapping[str, Any], run: PlannedRun) -> tuple[Any, str]:
    """The PeftConfig of an adapter_config.json's keys, and a note if it was replaced by an equally large one."""
    from peft import PeftConfig

    settings = {key: value for key, value in settings.items() if key != "auto_mapping"}
    note = ""
    if str(settings.get("init_lora_weights")).startswith(DATA_DRIVEN_INITS):
        note = f"{settings['init_lora_weights']} initialisation left out: it does not change any size"
        settings |= {"init_lora_weights": True, "eva_config": None, "corda_config": None, "lora_ga_config": None}
        settings["loftq_config"] = {}
    settings["inference_mode"] = False
    if "progressbar" in settings:
        settings["progressbar"] = False
    settings["task_type"] = settings.get("task_type") or PEFT_TASK_TYPES.get(run.task)
    return PeftConfig.from_peft_type(**settings), note


def _prepared(built: BuiltModel, run: PlannedRun) -> BuiltModel:
    """The model as training starts with it."""
    if not any(p.requires_grad for p in built.model.parameters()):
        raise NotEstimable("the method leaves nothing to train on this model")
    if run.gradient_checkpointing:
        enable_checkpointing(built.model)
    return built


def _facts(base: Any) -> tuple[frozenset[str], int]:
    """The names of the base's tensors, and the bytes of its weights."""
    names = [name for name, _ in base.named_parameters()] + [name for name, _ in base.named_buffers()]
    storages = {p.untyped_storage()._cdata: p.untyped_storage().nbytes() for p in base.parameters()}
    return frozenset(names), sum(storages.values())


def _train_everything(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(True)
