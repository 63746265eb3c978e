"""Linear layers on meta as bitsandbytes lays them out: what they store, and what they allocate in a step.

nf4 with double quantisation (QLoRA, arXiv 2305.14314): two weights per byte; one 8-bit scale per 64 weights; one fp32
scale per 256 of those. The weight is unpacked into a temporary for each matrix product, in the forward and in the
backward pass; no input is kept for a frozen weight. int8 (LLM.int8(), arXiv 2208.07339): one byte per weight and one
fp32 scale per row; the input is kept and quantised, the product is an int32 matrix, and the backward pass
unpacks the weight. See bitsandbytes/autograd/_functions.py: MatMul4Bit and MatMul8bitLt.

Where bitsandbytes is installed the stand-ins are subclasses of its layers, so that PEFT picks its quantised variants.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from knowledge.schema import Quantization, Task
from knowledge.targets import CLASSIFICATION_HEADS

WEIGHTS_PER_SCALE = 64
SCALES_PER_SECOND_SCALE = 256
CODE_VALUES = 256
NF4_VALUES = 16


def quantize(model: Any, quantization: Quantization, compute_dtype: torch.dtype, task: Task) -> None:
    """Replaces every linear layer of a model on meta but its output head by a quantised stand-in, in place."""
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    heads = CLASSIFICATION_HEADS if task == "sequence-classification" else get_keys_to_not_convert(model)
    kept = [*heads, *(model._keep_in_fp32_modules or ())]
    make = {"nf4": _linear_4bit, "int8": _linear_8bit}[quantization]
    for name, module in list(model.named_modules()):
        if type(module) in (nn.Linear, Conv1D) and should_convert_module(name, kept):
            linear = module if isinstance(module, nn.Linear) else _turned(module)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, make(linear, compute_dtype))
    model.is_loaded_in_4bit = quantization == "nf4"
    model.is_loaded_in_8bit = quantization == "int8"
    model.requires_grad_(False)


def _turned(layer: Any) -> nn.Linear:
    """GPT-2's Conv1D, whose weight lies the other way round, as the linear layer that transformers makes of it."""
    linear = nn.Linear(layer.nx, layer.nf, device=layer.weight.device, dtype=layer.weight.dtype)
    linear.bias = layer.bias
    return linear


def is_exact() -> bool:
    """Whether PEFT will see bitsandbytes' own layer types, and so choose the variants that a real run has."""
    return find_spec("bitsandbytes") is not None


@dataclass
class _QuantState:
    """What methods read of a packed weight's bitsandbytes.functional.QuantState."""

    shape: torch.Size
    dtype: torch.dtype

    def to(self, device: Any) -> None:
        """Moves its tensors, of which the stand-in has none: the layer holds them as buffers."""


@contextmanager
def bitsandbytes_on_meta() -> Iterator[None]:
    """While active, bitsandbytes unpacks 4-bit weights on meta too, as methods that need the whole weight ask for, and
    copies them there; its own copies are made on the processor first."""
    if not is_exact():
        yield
        return
    import bitsandbytes

    packed_class = bitsandbytes.nn.Params4bit
    unpack, deepcopy = bitsandbytes.functional.dequantize_4bit, packed_class.__deepcopy__

    def dequantize_4bit(packed: torch.Tensor, quant_state: Any = None, *args: Any, **kwargs: Any) -> torch.Tensor:
        if packed.device.type != "meta":
            return unpack(packed, quant_state, *args, **kwargs)
        return torch.empty(quant_state.shape, dtype=quant_state.dtype, device="meta")

    def copy_with_storage(packed: Any, memo: dict[int, Any]) -> Any:
        if packed.device.type != "meta":
            return deepcopy(packed, memo)
        copied = packed.to("meta")
        copied.data = torch.empty_like(packed.data)
        return copied

    with (
        patch.object(bitsandbytes.functional, "dequantize_4bit", dequantize_4bit),
        patch.object(packed_class, "__deepcopy__", copy_with_storage),
    ):
        yield


class _Product4Bit(torch.autograd.Function):
    """A product with a weight that is unpacked for the moment."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, layer: Any) -> torch.Tensor:
        ctx.layer = layer
        return nn.functional.linear(inputs, _unpack_4bit(layer, inputs.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.matmul(gradient, _unpack_4bit(ctx.layer, gradient.dtype)), None


def _unpack_4bit(layer: Any, dtype: torch.dtype) -> torch.Tensor:
    device = layer.weight.device
    scales = torch.empty(layer.scales.shape, dtype=torch.float32, device=device)
    weight = torch.empty(layer.out_features, layer.in_features, dtype=layer.compute_dtype, device=device)
    del scales
    return weight.to(dtype)


class _Product8Bit(torch.autograd.Function):
    """A product of int8 matrices; the input is quantised row by row."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, layer: Any) -> torch.Tensor:
        ctx.layer, ctx.shape, ctx.dtype = layer, inputs.shape, inputs.dtype
        flat = inputs.reshape(-1, inputs.shape[-1])
        ctx.inputs = flat
        half = flat.to(torch.float16)
        is_outlier = half.abs() >= 6.0
        quantised = torch.empty(flat.shape, dtype=torch.int8, device=flat.device)
        row_scales = torch.empty(flat.shape[0], dtype=torch.float32, device=flat.device)
        del half, is_outlier
        products = torch.empty(flat.shape[0], layer.out_features, dtype=torch.int32, device=flat.device)
        scaled = torch.empty(products.shape, dtype=torch.float16, device=flat.device)
        del products, quantised, row_scales
        return scaled.to(inputs.dtype).reshape(*inputs.shape[:-1], layer.out_features)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        layer = ctx.layer
        flat = gradient.reshape(-1, gradient.shape[-1]).contiguous()
        stored = layer.weight.detach().as_subclass(torch.Tensor)
        weight = stored.to(ctx.dtype, copy=True).mul_(layer.scales.unsqueeze(1).mul(1.0 / 127.0))
        return torch.matmul(flat.to(ctx.dtype), weight).view(ctx.shape), None


class _StandIn:
    """What both stand-ins share: a forward through `product`, in the compute dtype, with the bias added."""

    product: Any

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        given = inputs.dtype
        output = self.product.apply(inputs.to(self.compute_dtype), self)
        if self.bias is not None:
            output = output + self.bias.to(output.dtype)
        return output.to(given)


def _linear_4bit(linear: nn.Linear, compute_dtype: torch.dtype) -> nn.Module:
    weights, device = linear.weight.numel(), linear.weight.device
    num_scales = -(-weights // WEIGHTS_PER_SCALE)
    layer = _new_layer("Linear4bit", linear, compute_dtype, _Product4Bit)
    packed = torch.empty(-(-weights // 2), 1, dtype=torch.uint8, device=device)
    layer.weight = _parameter("Params4bit", packed, quant_type="nf4", compress_statistics=True, bnb_quantized=True)
    layer.weight.quant_state = _QuantState(linear.weight.shape, compute_dtype)
    layer.register_buffer("scales", torch.empty(num_scales, dtype=torch.uint8, device=device))
    second_scales = -(-num_scales // SCALES_PER_SECOND_SCALE)
    for name, values in (("second_scales", second_scales), ("code", CODE_VALUES), ("nf4", NF4_VALUES), ("offset", 1)):
        layer.register_buffer(name, torch.empty(values, dtype=torch.float32, device=device))
    return layer


def _linear_8bit(linear: nn.Linear, compute_dtype: torch.dtype) -> nn.Module:
    layer = _new_layer("Linear8bitLt", linear, compute_dtype, _Product8Bit)
    device = linear.weight.device
    weight = torch.empty(linear.weight.shape, dtype=torch.int8, device=device)
    layer.weight = _parameter("Int8Params", weight, has_fp16_weights=False)
    layer.register_buffer("scales", torch.empty(linear.out_features, dtype=torch.float32, device=device))
    layer.state = SimpleNamespace(has_fp16_weights=False, threshold=6.0, SCB=layer.scales)
    layer.index = None
    return layer


def _new_layer(bitsandbytes_name: str, linear: nn.Linear, compute_dtype: torch.dtype, product: Any) -> Any:
    base = nn.Linear
    if is_exact():
        import bitsandbytes

        base = getattr(bitsandbytes.nn, bitsandbytes_name)
    layer_class = type(f"{bitsandbytes_name}OnMeta", (_StandIn, base), {"product": product})
    layer = layer_class.__new__(layer_class)
    nn.Module.__init__(layer)
    layer.in_features, layer.out_features, layer.bias = linear.in_features, linear.out_features, linear.bias
    layer.compute_dtype = compute_dtype
    return layer


def _parameter(bitsandbytes_name: str, data: torch.Tensor, **settings: Any) -> nn.Parameter:
    if not is_exact():
        return nn.Parameter(data, requires_grad=False)
    import bitsandbytes

    return getattr(bitsandbytes.nn, bitsandbytes_name)(data, requires_grad=False, **settings)
