"""Methods that scale the model instead of adding to it: IA3 its activations, HiRA its weights."""

from __future__ import annotations

from typing import Any

from knowledge.methods.base import BENCHMARK, Capabilities, Method
from knowledge.methods.low_rank import LowRank
from knowledge.shape import ModelShape
from knowledge.targets import join_names, target_modules


class Ia3(Method):
    """PEFT must be told which of the targets are feed-forward layers: those scale inputs, the others outputs."""

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        feedforward = target_modules(shape, "mlp")
        attention = target_modules(shape, "attention")
        return {**config, "target_modules": join_names(attention, feedforward), "feedforward_modules": feedforward}


METHODS = (
    Ia3(
        name="ia3",
        title="IA3",
        peft_type="IA3",
        family="multiplicative",
        summary="Multiplies the activations of attention and feed-forward layers by trained vectors. "
        "Very few parameters; made for learning from a few examples.",
        paper="Liu et al., 2022, arXiv 2205.05638",
        settings_source=f"{BENCHMARK}, ia3/llama-3.2-3B-all-attn-5k-lr0.005; Liu et al. (2022) use 3e-3",
        targets="attention+mlp",
        learning_rates=(2e-3, 5e-3, 2e-2),
        supports_conv1d=True,
        capabilities=Capabilities(mergeable=True, vllm="merged"),
    ),
    LowRank(
        name="hira",
        title="HiRA",
        peft_type="HIRA",
        family="multiplicative",
        summary="Multiplies each weight, element by element, by a low-rank matrix, which gives an update of full rank. "
        "Among the best of the public benchmark; wants a high learning rate and no weight decay.",
        paper="Huang et al., 2025, ICLR (openreview TwJrTz9cRS)",
        settings={"r": 32},
        settings_source=f"{BENCHMARK}, hira/llama-3.2-3B-rank32-lr4.5e-3",
        targets="attention-qv",
        learning_rates=(1.5e-3, 4.5e-3, 1.35e-2),
        supports_conv1d=True,
        capabilities=Capabilities(mergeable=True, vllm="merged"),
    ),
)
