"""LoRA for a base that is kept in few bits: the published recipe, and a start that makes up for the rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from knowledge.errors import BadInput
from knowledge.methods.lora import LORA_ALL_LINEAR
from knowledge.methods.low_rank import LowRank
from knowledge.shape import ModelShape


class OnQuantizedBase(LowRank):
    """A method that is another one, or none at all, where the base is not quantised."""

    def unsupported_reason(self, shape: ModelShape) -> str | None:
        if shape.quantization == "none" and not self.special_purpose:
            return f"{self.title} is made for a quantised base (--quantize nf4)"
        return super().unsupported_reason(shape)


class LoftQ(OnQuantizedBase):
    """Starts at the best low-rank approximation of what the quantisation rounded away.

    This is one step of the paper's alternation: the base stays Q = quantise(W), and s B A = SVD_r(W - Q), so that
    the adapter is an ordinary LoRA on a base that anyone can make. More steps would quantise W - s B A instead, which
    is another base for each rank, to be stored with the adapter.
    PEFT's own start computes on CUDA alone and leaves out the scaling s.
    """

    def after_wrapping(self, model: Any, calibration: Any) -> None:
        import torch
        from peft.utils.integrations import dequantize_bnb_weight
        from transformers.pytorch_utils import Conv1D

        read = _full_weights(model.get_base_model())
        with torch.no_grad():
            for name, layer in _quantized_lora_layers(model):
                linear = layer.get_base_layer()
                quantized = dequantize_bnb_weight(linear.weight, getattr(linear, "state", None)).float()
                full = read(f"{name}.weight").to(quantized)
                # GPT-2's Conv1D keeps its weight the other way round; transformers turns it when it quantises.
                turned = issubclass(getattr(linear, "source_cls", torch.nn.Linear), Conv1D)
                residual = (full.T if turned else full) - quantized
                first, second = low_rank_factors(residual / layer.scaling["default"], layer.r["default"])
                layer.lora_A["default"].weight.copy_(first)
                layer.lora_B["default"].weight.copy_(second)


def low_rank_factors(matrix: Any, rank: int) -> tuple[Any, Any]:
    """(A, B) of the shapes (rank, inputs) and (outputs, rank) whose product B A is nearest to `matrix`, up to a
    thousandth of its norm; the singular values are shared evenly.

    The fast decomposition with 16 iterations, as PEFT advises for PiSSA: the full one takes six times as long.
    """
    import torch

    left, values, right = torch.svd_lowrank(matrix, q=rank, niter=16)
    root = values.sqrt()
    return (right * root).T, left * root


def _quantized_lora_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The LoRA layers whose base is quantised, by the names that these bases have in the bare model."""
    from peft.tuners.lora import LoraLayer

    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and type(module.get_base_layer().weight).__name__ != "Parameter":
            yield name, module


def _full_weights(base: Any) -> Callable[[str], Any]:
    """Reads single weights, in full precision, from the files that `base` was loaded from: all of them at once could
    be more than the machine that trains in 4 bits can hold."""
    from safetensors import safe_open

    files = [safe_open(path, framework="pt") for path in _weight_files(base.config._name_or_path)]
    places = {name: file for file in files for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    prefix = f"{base.base_model_prefix}."

    def read(name: str) -> Any:
        # Files of a model without its head leave out the prefix that the model with a head has.
        stored = next((n for n in (name, name.removeprefix(prefix)) if n in places), None)
        if stored is None:
            raise BadInput(
                f"LoftQ reads the weights in full precision, and {base.config._name_or_path} has no {name!r}: they are "
                "stored there under other names. Take QLoRA or another LoRA instead."
            )
        return places[stored].get_tensor(stored)

    return read


def _weight_files(place: str) -> list[Path]:
    """The safetensors files of a local folder, or of a hub model in the cache that it was loaded from."""
    from huggingface_hub import snapshot_download

    folder = Path(place)
    if not folder.is_dir():
        folder = Path(snapshot_download(place, allow_patterns=["*.safetensors"], local_files_only=True))
    return sorted(folder.glob("*.safetensors"))


QLORA = LORA_ALL_LINEAR.variant(
    OnQuantizedBase,
    name="qlora",
    title="QLoRA",
    summary="LoRA on every linear layer of a base that is kept in 4 bits. "
    "Keeps the weights in about a quarter of their memory, as LoRA itself and others of its kin can (--quantize nf4).",
    settings={"r": 64, "lora_alpha": 16},
    settings_source="Dettmers et al. (2023), appendix B: rank 64, alpha 16, all linear layers; rates around their 2e-4",
    learning_rates=(2e-4, 6e-4, 2e-3),
)

METHODS = (
    QLORA,
    LORA_ALL_LINEAR.variant(
        LoftQ,
        name="loftq",
        title="LoftQ",
        summary="LoRA that starts by making up for what the quantisation of the base rounded away. "
        "Helps the more the fewer bits there are; needs the full-precision weights once, one matrix at a time.",
        paper="Li et al., 2023, arXiv 2310.08659",
        settings_source="settings and rates of LoRA on all linear layers; one step of the alternation, so that the "
        "base stays as it is",
        capabilities=LORA_ALL_LINEAR.capabilities.model_copy(update={"identity_start": False}),
    ),
)
