"""Remembers what operations on meta tensors return, so that equal layers are worked out once.

Most meta kernels are written in Python and cost far more than the arithmetic that they do: a step of a model with 28
equal layers calls the same operation on the same shapes hundreds of times. What comes out depends on shapes, strides,
dtypes and plain arguments alone, as meta tensors have no data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch

# What is remembered of an operation that gives back what it was given, or a view of it, or something half filled.
NEVER = object()
# ... and of one that only fills its arguments, as those over lists of tensors do: on meta there is nothing to fill.
NOTHING = object()

PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)


class _NotPlainMeta(Exception):
    """A tensor has values, or a class of its own, on which the result can depend."""


class MetaMemo:
    """Calls operations, from memory where the same one has been called with equal arguments before."""

    def __init__(self) -> None:
        self._known: dict[tuple, Any] = {}
        self._calls = 0

    def call(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What `func(*args, **kwargs)` returns. Tensors are new ones with their own storages, as those of `func`."""
        self._calls += 1
        try:
            key = (func, _described(args), _described(kwargs.items())) if _is_repeatable(func) else None
        except _NotPlainMeta:
            key = None
        if key is None:
            return func(*args, **kwargs)
        known = self._known.get(key)
        if known is None:
            calls = self._calls
            result = func(*args, **kwargs)
            # Some call others where the tracer sees them, and all of those have to be seen each time.
            self._known[key] = _recipe(result, args) if self._calls == calls else NEVER
            return result
        if known is NEVER:
            return func(*args, **kwargs)
        if known is NOTHING:
            return None
        container, tensors = known
        made = [torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in tensors]
        return made[0] if container is None else container(made)


@cache
def _is_repeatable(func: Callable) -> bool:
    """Whether the operation declares that it returns nothing, or neither changes nor gives back its arguments."""
    schema = getattr(func, "_schema", None)
    if schema is None:
        return False
    return not schema.returns or all(part.alias_info is None for part in (*schema.arguments, *schema.returns))


def _described(values: Iterable[Any]) -> tuple:
    """What a result on meta can depend on. Raises _NotPlainMeta."""
    return tuple([_description(value) for value in values])


def _description(value: Any) -> tuple:
    kind = type(value)
    if kind in PLAIN_TENSORS:
        if not value.is_meta:
            raise _NotPlainMeta
        # Whether a conjugation or a change of sign is still to be done decides whether the operation has to copy first.
        return value.shape, value.stride(), value.dtype, value.is_conj(), value.is_neg()
    if isinstance(value, torch.Tensor):
        raise _NotPlainMeta
    if isinstance(value, (list, tuple)):
        return _described(value)
    return kind, value  # the type of a number decides the result's dtype


def _recipe(result: Any, args: tuple) -> Any:
    """How to make the result again: the type of its container, None for a bare tensor, and its tensors' metadata.
    Or NEVER, or NOTHING."""
    if result is None:
        return NOTHING
    tensors = [result] if isinstance(result, torch.Tensor) else result
    if not isinstance(tensors, (list, tuple)) or not all(_is_plain(tensor) for tensor in tensors):
        return NEVER
    storages = {tensor.untyped_storage()._cdata for tensor in tensors}
    if len(storages) < len(tensors) or not storages.isdisjoint(_storages(args)):
        return NEVER
    container = None if isinstance(result, torch.Tensor) else type(result)
    return container, [(tuple(tensor.shape), tensor.stride(), tensor.dtype) for tensor in tensors]


def _is_plain(tensor: Any) -> bool:
    """Whether a new tensor of the same shape and strides would be the same, down to the bytes of its storage."""
    if type(tensor) is not torch.Tensor or tensor.device.type != "meta" or tensor.layout is not torch.strided:
        return False
    if tensor.is_conj() or tensor.is_neg():
        return False
    again = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return tensor.storage_offset() == 0 and tensor.untyped_storage().nbytes() == again.untyped_storage().nbytes()


def _storages(values: Iterable[Any]) -> set[int]:
    found = set()
    for value in values:
        if isinstance(value, torch.Tensor):
            found.add(value.untyped_storage()._cdata)
        elif isinstance(value, (list, tuple)):
            found |= _storages(value)
    return found
