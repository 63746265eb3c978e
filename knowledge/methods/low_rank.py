"""What low-rank entries share: a rank that fits the model's layers."""

from __future__ import annotations

from typing import Any

from knowledge.methods.base import Method
from knowledge.shape import ModelShape


class LowRank(Method):
    """A method whose rank `r` must stay well below the sizes of the layers it adapts."""

    def largest_rank(self, shape: ModelShape) -> int:
        """Half the smallest dimension of the adapted layers: above it, the factors outweigh the matrix itself."""
        return max(1, min(min(size) for size in self.target_sizes(shape)) // 2)

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        config = super().fit_settings(config, shape, max_steps)
        rank = min(config["r"], self.largest_rank(shape))
        return config if rank == config["r"] else with_rank(config, rank)


def with_rank(config: dict[str, Any], rank: int) -> dict[str, Any]:
    """The config at another rank with the same scaling of the update: alpha/r, or alpha/sqrt(r) for rsLoRA."""
    factor = rank / config["r"]
    if config.get("use_rslora"):
        factor **= 0.5
    scaled = {
        key: config[key] * factor for key in ("lora_alpha", "alpha", "psoft_alpha", "randlora_alpha") if config.get(key)
    }
    return {**config, "r": rank, **{k: max(1, round(v)) for k, v in scaled.items()}}
