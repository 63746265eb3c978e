"""Sparse COO tensors on the meta device, as far as PEFT's methods use them.

Meta has no sparse tensors. A stand-in with strides of 0 has the right shape and costs one element; the values and
indices that a real one keeps are held beside it, and `to_dense` makes a real dense tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch


class _SparseStandIn(torch.autograd.Function):
    """Expands one element to the sparse tensor's shape; its gradient has one entry per value."""

    @staticmethod
    def forward(ctx: Any, indices: torch.Tensor, values: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        ctx.save_for_backward(indices)
        ctx.num_values, ctx.dtype = values.numel(), values.dtype
        return torch.empty((1,) * len(size), dtype=values.dtype, device=values.device).expand(size)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        flat_positions = torch.empty(ctx.num_values, dtype=torch.int64, device=gradient.device)
        values = torch.empty(ctx.num_values, dtype=ctx.dtype, device=gradient.device)
        del flat_positions
        return None, values, None


class _HoldUntilBackward(torch.autograd.Function):
    """The identity, but for what it keeps until the backward pass."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, *held: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*held)  # not as attributes: checkpointing keeps nothing that is saved
        ctx.num_held = len(held)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradient, *(None,) * ctx.num_held


def _coalesce(tensor: torch.Tensor) -> torch.Tensor:
    """A sorted copy of indices and values; `to_dense` saves it for its gradient."""
    indices, values = (part.detach().clone() for part in tensor._sparse_parts)
    coalesced = _HoldUntilBackward.apply(tensor, indices, values)
    coalesced._sparse_parts = (indices, values)
    return coalesced


@contextmanager
def sparse_on_meta() -> Iterator[None]:
    """While active, `torch.sparse_coo_tensor` and what is called on its result work for meta tensors."""
    original = torch.sparse_coo_tensor

    def sparse_coo_tensor(indices: Any, values: Any = None, size: Any = None, **kwargs: Any) -> torch.Tensor:
        if not isinstance(values, torch.Tensor) or values.device.type != "meta":
            return original(indices, values, size, **kwargs)
        indices = indices.to(torch.int64)
        stand_in = _SparseStandIn.apply(indices, values, tuple(size))
        stand_in._sparse_parts = (indices, values)
        return stand_in

    methods = {
        "coalesce": _coalesce,
        "_nnz": lambda tensor: tensor._sparse_parts[1].numel(),
        "to_dense": lambda tensor, *args, **kwargs: tensor.clone(memory_format=torch.contiguous_format),
    }
    with ExitStack() as stack:
        stack.enter_context(patch.object(torch, "sparse_coo_tensor", sparse_coo_tensor))
        for name, stand_in_method in methods.items():
            stack.enter_context(patch.object(torch.Tensor, name, _dispatch(name, stand_in_method)))
        yield


def _dispatch(name: str, for_stand_in: Callable) -> Callable:
    original = getattr(torch.Tensor, name)

    def method(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        chosen = for_stand_in if hasattr(tensor, "_sparse_parts") else original
        return chosen(tensor, *args, **kwargs)

    return method
