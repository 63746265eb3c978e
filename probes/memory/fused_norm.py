"""RMS normalisation as CUDA does it: one kernel that keeps the input and one number per row.

On other devices `torch.rms_norm` is put together from elementary operations, which keep several float32 copies of
the input for the backward pass (ATen/native/layer_norm.cpp, ATen/native/cuda/layer_norm_kernel.cu).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def fused_rms_norm(original: Callable) -> Callable:
    """`torch.nn.functional.rms_norm` with the fused kernel's allocations for meta tensors."""

    def rms_norm(
        input: torch.Tensor,
        normalized_shape: Sequence[int],
        weight: torch.Tensor | None = None,
        eps: float | None = None,
    ) -> torch.Tensor:
        # The kernel takes no weight of another dtype than the input's.
        if input.device.type != "meta" or (weight is not None and weight.dtype != input.dtype):
            return original(input, normalized_shape, weight, eps)
        return _FusedRmsNorm.apply(input, weight, len(normalized_shape))

    return rms_norm


class _FusedRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor | None, num_dims: int) -> torch.Tensor:
        inverse_rms = input.new_empty((*input.shape[:-num_dims], *(1,) * num_dims), dtype=torch.float32)
        output = torch.empty_like(input.contiguous())
        ctx.save_for_backward(input, weight, inverse_rms)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        input, weight, _ = ctx.saved_tensors
        input, gradient = input.contiguous(), gradient.contiguous()
        of_input = torch.empty_like(input)
        of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        return of_input, of_weight, None
