"""Lets code on the meta device take the paths that it would take on a CUDA device.

PyTorch and transformers choose implementations by device: multi-tensor optimizers on CUDA only, another attention
kernel for each device, fused norms, a mask that is left out where its contents allow it. `cuda_choices()` makes the
choices for meta tensors those of CUDA and puts everything back when it ends, also after an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

HALF_PRECISION = (torch.bfloat16, torch.float16)
FLASH_MAX_HEAD_SIZE = 256  # sdp_utils.cpp: check_head_dim_size_flash
BIAS_ALIGNMENT = 8  # elements; attention.cpp pads the bias so that the memory-efficient kernel can read it aligned


@contextmanager
def cuda_choices(*, padded: bool) -> Iterator[None]:
    """While active, meta tensors are treated like CUDA tensors.

    padded: whether rows of a batch differ in length, which makes transformers build an attention mask.
    """
    from transformers import masking_utils

    from probes.memory.fused_norm import fused_rms_norm
    from probes.memory.sparse_on_meta import sparse_on_meta

    masks = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS
    with (
        patch("torch.utils._foreach_utils._get_foreach_kernels_supported_devices", _foreach_devices),
        patch("torch.optim.optimizer._get_foreach_kernels_supported_devices", _foreach_devices),
        patch.object(F, "rms_norm", fused_rms_norm(F.rms_norm)),
        patch.object(F, "scaled_dot_product_attention", _attention(F.scaled_dot_product_attention)),
        patch.dict(masks._local_mapping, {"sdpa": _mask(masks["sdpa"], padded)}),
        sparse_on_meta(),
    ):
        yield


def _foreach_devices() -> list[str]:
    return ["cuda", "xpu", "meta"]


def _mask(original: Callable, padded: bool) -> Callable:
    """transformers looks into the padding mask to see whether it can be left out; on meta there is nothing to see."""

    def mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
        if attention_mask is None or attention_mask.device.type != "meta":
            return original(*args, attention_mask=attention_mask, **kwargs)
        if not padded:
            return original(*args, attention_mask=None, **kwargs)
        kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return original(*args, attention_mask=attention_mask, **kwargs)

    return mask


def _attention(original: Callable) -> Callable:
    """Without a mask the flash kernel, with one the memory-efficient kernel: sdp_utils.cpp's order of preference on
    cards without cuDNN attention by default."""

    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        if query.device.type != "meta":
            options = {"attn_mask": attn_mask, "dropout_p": dropout_p, "is_causal": is_causal, "scale": scale}
            return original(query, key, value, **options, enable_gqa=enable_gqa)
        if attn_mask is None and _flash_takes(query, value):
            outputs = torch.ops.aten._scaled_dot_product_flash_attention(
                query, key, value, dropout_p, is_causal, False, scale=scale
            )
            return outputs[0]
        if enable_gqa and key.shape[1] != query.shape[1]:
            key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
        bias = None if attn_mask is None else _bias(attn_mask, query, key)
        needs_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
        outputs = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, needs_gradient, dropout_p, is_causal, scale=scale
        )
        return outputs[0]

    return attention


def _flash_takes(query: torch.Tensor, value: torch.Tensor) -> bool:
    head_size = query.shape[-1]
    return query.dtype in HALF_PRECISION and head_size <= FLASH_MAX_HEAD_SIZE and head_size == value.shape[-1]


def _bias(mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The additive bias that attention.cpp makes of a mask: in the query's dtype, rows padded to a multiple of 8."""
    if mask.dtype == torch.bool:
        kept = torch.zeros((), dtype=query.dtype, device=mask.device)
        hidden = torch.full((), -torch.inf, dtype=query.dtype, device=mask.device)
        mask = torch.where(mask.logical_not(), hidden, kept)
    width = mask.shape[-1]
    if width % BIAS_ALIGNMENT:
        mask = F.pad(mask, (0, BIAS_ALIGNMENT - width % BIAS_ALIGNMENT))[..., :width]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
