"""Lily: low-rank factors that are shared between layers."""

from __future__ import annotations

from typing import Any

from knowledge.methods.base import BENCHMARK, QUANTIZED_BASES, Capabilities
from knowledge.methods.low_rank import LowRank
from knowledge.shape import ModelShape
from knowledge.targets import target_modules


class Lily(LowRank):
    """The benchmark lets half of the layers share a first factor, whatever their number."""

    def unsupported_reason(self, shape: ModelShape) -> str | None:
        """PEFT finds the layers that share factors by the names that they are given by, or else by their weights'
        shapes, which are lost where weights are packed into 4 bits (tuners/lily/model.py)."""
        reason = super().unsupported_reason(shape)
        if reason or shape.quantization != "nf4" or not isinstance(target_modules(shape, self.targets), str):
            return reason
        return (
            f"{self.title} tells the layers of {shape.model_type} apart by the shapes of their weights, which are lost "
            f"in {QUANTIZED_BASES['nf4']}"
        )

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        return super().fit_settings({**config, "stride_A": max(1, shape.num_layers // 2)}, shape, max_steps)


METHODS = (
    Lily(
        name="lily",
        title="Lily",
        peft_type="LILY",
        family="low-rank",
        summary="Low-rank adapters whose factors are shared between layers and mixed by a small router. "
        "Led the public benchmark in accuracy; it cannot be merged, it forgot four times as much as LoRA, and its file "
        "holds the shared factors once for each layer.",
        paper="Zhong et al., 2024, arXiv 2407.09946",
        settings={"r": 140, "stride_A": 14, "num_B": 2, "scaling": 8.0},
        settings_source=f"{BENCHMARK}, lily/llama-3.2-3B-rank140-mlp-a2-b2-s8.0",
        targets="mlp",
        learning_rates=(1e-4, 3e-4, 1e-3),
        same_rates_on_narrow=True,  # 3e-4 is the best of its rates there too (examples/study/rates.py)
        weight_decay=0.1,
        saved_size_differs=True,
        capabilities=Capabilities(mergeable=False),
    ),
)
