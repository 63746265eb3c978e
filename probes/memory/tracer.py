"""Watches a piece of PyTorch code and writes down every tensor storage that appears and disappears."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from probes.memory.data_dependent import run_on_cpu_instead
from probes.memory.grouped_products import with_float32_experts
from probes.memory.kinds import Kind
from probes.memory.meta_memo import MetaMemo


@dataclass
class Events:
    """What happened: `allocated[i]` bytes for storage number i of `kinds[i]`; `order` holds i where it
    appeared and ~i where it went."""

    order: list[int] = field(default_factory=list)
    allocated: list[int] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)


class AllocationTracer(TorchDispatchMode):
    """Records the storages of one device type while it is active.

    `logits_width`: a tensor whose last dimension has this size counts as logits.
    `phase` is the kind that other new storages get; the traced code sets it as it goes.
    """

    def __init__(self, device_type: str = "meta", logits_width: int | None = None) -> None:
        super().__init__()
        self.events = Events()
        self.phase = Kind.ACTIVATIONS
        self._device_type = device_type
        # On a device with data every operation has to run.
        self._call = with_float32_experts(MetaMemo().call) if device_type == "meta" else _simply_call
        self._logits_width = logits_width
        self._numbers: dict[int, int] = {}
        self._live_bytes = 0
        self.peak_live_bytes = 0

    @property
    def position(self) -> tuple[int, int]:
        """How many allocations and how many events have been seen."""
        return len(self.events.allocated), len(self.events.order)

    def watch(self, tensor: torch.Tensor, kind: Kind | None = None) -> int | None:
        """Starts to follow a tensor's storage; returns its number, or None if it is on another device."""
        if tensor.device.type != self._device_type:
            return None
        storage = tensor.untyped_storage()
        key = storage._cdata
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.events.allocated)
            size = storage.nbytes()
            self.events.order.append(number)
            self.events.allocated.append(size)
            self.events.kinds.append(self._kind_of(tensor) if kind is None else kind)
            self._live_bytes += size
            self.peak_live_bytes = max(self.peak_live_bytes, self._live_bytes)
            weakref.finalize(storage, self._gone, key)
        return number

    def relabel(self, tensor: torch.Tensor, kind: Kind) -> None:
        """Gives a storage that is followed already another kind, e.g. once it has become a gradient."""
        number = self._numbers.get(tensor.untyped_storage()._cdata)
        if number is not None:
            self.events.kinds[number] = kind

    def _kind_of(self, tensor: torch.Tensor) -> Kind:
        if self.phase is Kind.ACTIVATIONS and tensor.dim() > 1 and tensor.shape[-1] == self._logits_width:
            return Kind.LOGITS
        return self.phase

    def _gone(self, key: int) -> None:
        number = self._numbers.pop(key, None)
        if number is not None:
            self.events.order.append(~number)
            self._live_bytes -= self.events.allocated[number]

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        try:
            result = self._call(func, args, kwargs)
        except (NotImplementedError, RuntimeError) as error:
            if self._device_type != "meta":
                raise
            result = run_on_cpu_instead(func, args, kwargs, error)
        for output in tree_iter(result):
            if isinstance(output, torch.Tensor):
                self.watch(output)
        return result


def _simply_call(func: Callable, args: tuple, kwargs: dict) -> Any:
    return func(*args, **kwargs)
