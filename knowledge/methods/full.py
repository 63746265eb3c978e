"""Training the model's own weights: all of them, those of its last layers, or its biases."""

from __future__ import annotations

import re
from typing import Any

from knowledge.methods.base import BENCHMARK, Capabilities, Method
from knowledge.shape import ModelShape
from knowledge.targets import goes_through_text, target_paths

# There is no adapter: what is trained is what is served, and the base is no more what it was.
_IN_PLACE = Capabilities(mergeable=True, restores_base=False, quantized=(), vllm="merged")


class LastLayers(Method):
    """Copies the linear modules of the last quarter of the layers and trains the copies.

    PEFT's LN_TUNING does that for whatever modules it is given, not only for norms.
    """

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        patterns = []
        for path in target_paths(shape, "all-linear"):
            depth = shape.depth_of(path)
            chosen = "|".join(str(layer) for layer in range(depth - max(1, depth // 4), depth))
            patterns.append(re.escape(path).replace(r"\*", f"(?:{chosen})", 1).replace(r"\*", r"\d+"))
        return {**config, "target_modules": "|".join(patterns)}


class BitFit(Method):
    """Trains the biases that are there; most decoder models have none."""

    def unsupported_reason(self, shape: ModelShape) -> str | None:
        if not any("*" in path and goes_through_text(path) for path in shape.bias_paths):
            return f"{self.title} trains biases, and the layers of {shape.model_type} have none"
        return super().unsupported_reason(shape)

    def saves_head(self, name: str) -> bool:
        return re.search(self.trains, f"{name}.") is not None


METHODS = (
    Method(
        name="full",
        title="Full fine-tuning",
        peft_type=None,
        family="full",
        summary="Trains every weight of the model. "
        "The reference for quality, at nearly twice LoRA's memory or more, and the result is a whole model instead of "
        "an adapter.",
        paper="–",
        settings_source=f"{BENCHMARK}, full-finetuning/llama-3.2-3B-lr_0.00001; small models and short runs want more",
        learning_rates=(1e-5, 3e-5, 1e-4),
        supports_conv1d=True,
        cost="high",
        trains_in_base_dtype=True,
        capabilities=_IN_PLACE,
        reference_only=True,
    ),
    LastLayers(
        name="last-layers",
        title="Last layers",
        peft_type="LN_TUNING",
        family="full",
        summary="Trains the linear weights of the last quarter of the layers in full and nothing else. "
        "The backward pass stops early, so it is fast; the adapter is large.",
        paper="Lee et al., 2019, arXiv 1911.03090",
        settings_source="Lee et al. (2019): a quarter of the layers reaches 90 % of full fine-tuning; rates above "
        "those of full fine-tuning",
        targets="all-linear",
        learning_rates=(3e-5, 1e-4, 3e-4),
        supports_conv1d=True,
        capabilities=Capabilities(mergeable=True, quantized=(), vllm="merged"),
    ),
    BitFit(
        name="bitfit",
        title="BitFit",
        peft_type=None,
        trains=r"\.bias$|^(\w*classifier|score|pooler|head)\.",
        family="bias-or-norm",
        summary="Trains the biases of the model and, for classification, its head. "
        "A thousandth of the weights; strong for encoders with little data, no use for models without biases.",
        paper="Ben Zaken et al., 2021, arXiv 2106.10199",
        settings_source="the range of Ben Zaken et al. (2021), 1e-4 to 1e-3, and above for short runs",
        learning_rates=(3e-4, 1e-3, 3e-3),
        supports_conv1d=True,
        capabilities=_IN_PLACE,
    ),
)
