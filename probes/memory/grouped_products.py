"""Products of a mixture's experts in float32, as CUDA does them: PyTorch's meta kernel takes bfloat16 alone.

CUDA's takes float32 too: one product after the other, each written into its part of the same output
(ATen/native/cuda/GroupedBlas.cpp, _grouped_mm_fallback). So what is allocated is what it is in bfloat16, at twice the
width. Float16 stays without an estimate: it is for cards before Ampere, where transformers does these products itself,
with gradients of the frozen experts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Call = Callable[[Callable, tuple, dict], Any]


def with_float32_experts(call: Call) -> Call:
    """`call(func, args, kwargs)`, which runs an operation on meta tensors, for these products too."""

    def called(func: Callable, args: tuple, kwargs: dict) -> Any:
        if func is not torch.ops.aten._grouped_mm.default or args[0].dtype is not torch.float32:
            return call(func, args, kwargs)
        inputs = [x.to(torch.bfloat16) if _is_float32(x) else x for x in args]
        output = call(func, tuple(inputs), kwargs)
        return torch.empty_strided(output.shape, output.stride(), dtype=torch.float32, device="meta")

    return called


def _is_float32(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype is torch.float32
