"""Operations whose result's shape or value depends on the data: the meta device has no data, so they run on the
CPU with placeholder contents, and the result goes back to meta."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map

# What PyTorch's errors say when an operation cannot run without data.
SIGNS_OF_MISSING_DATA = ("meta", "fake", "data")


def run_on_cpu_instead(func: Callable, args: tuple, kwargs: dict, error: Exception) -> Any:
    """The result of `func` for placeholder contents of the right shapes; raises `error` if data is not the reason."""
    if not any(sign in str(error).lower() for sign in SIGNS_OF_MISSING_DATA):
        raise error
    cpu_args, cpu_kwargs = tree_map(_placeholder, (args, kwargs))
    return tree_map(_to_meta, func(*cpu_args, **cpu_kwargs))


def _placeholder(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.device.type == "meta":
        if not value.dtype.is_floating_point:
            return torch.zeros(value.shape, dtype=value.dtype)
        # Random values, since a decomposition or a selection of zeros can have another shape than that of real data.
        return torch.rand(value.shape, dtype=torch.float32).to(value.dtype)
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value
