"""Methods that leave the model as it is and train what stands before the input."""

from __future__ import annotations

from typing import Any

from knowledge.methods.base import BENCHMARK, Capabilities, Method
from knowledge.shape import ModelShape

_PROMPT = Capabilities(mergeable=False, identity_start=False)


class PTuning(Method):
    """The network that produces the prompt is as wide as the model, as in the benchmark."""

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        return {**config, "encoder_hidden_size": shape.hidden_size}


class AdaptionPrompt(Method):
    """Goes into all layers, as in the benchmark; PEFT knows the attention of three architectures."""

    def unsupported_reason(self, shape: ModelShape) -> str | None:
        if shape.model_type not in ("llama", "mistral", "gpt2"):
            return f"{self.title} knows Llama, Mistral and GPT-2 only, not {shape.model_type}"
        return super().unsupported_reason(shape)

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        return {**config, "adapter_layers": shape.num_layers}


class PrefixTuning(Method):
    """Hands keys and values to all layers."""

    def unsupported_reason(self, shape: ModelShape) -> str | None:
        if not shape.keeps_past:
            return f"{self.title} hands every layer keys and values, which {shape.model_type} does not take from PEFT"
        return super().unsupported_reason(shape)


METHODS = (
    Method(
        name="prompt-tuning",
        title="Prompt tuning",
        peft_type="PROMPT_TUNING",
        family="prompt",
        summary="Trains a short sequence of embeddings that is put before every input. "
        "The model stays untouched and serves many tasks at once; weak on small models.",
        paper="Lester et al., 2021, arXiv 2104.08691",
        settings={"num_virtual_tokens": 20, "prompt_tuning_init": "SAMPLE_VOCAB"},
        settings_source=f"{BENCHMARK}, prompt_tuning/llama-3.2-3B-sample_vocab-lr_0.001, with the 20 tokens beyond "
        "which Lester et al. (2021) found little gain",
        learning_rates=(1e-3, 5e-3, 2e-2),
        supports_conv1d=True,
        capabilities=_PROMPT,
    ),
    PTuning(
        name="p-tuning",
        title="P-tuning",
        peft_type="P_TUNING",
        family="prompt",
        summary="Prompt tuning whose embeddings come from a small network, which makes them easier to train. "
        "The network is dropped after training.",
        paper="Liu et al., 2021, arXiv 2103.10385",
        settings={"num_virtual_tokens": 20, "encoder_reparameterization_type": "MLP", "encoder_num_layers": 2},
        settings_source=f"{BENCHMARK}, ptuning/llama-3.2-3B-default; above 1e-3 it was unstable on a small encoder",
        learning_rates=(1e-4, 3e-4, 1e-3),
        supports_conv1d=True,
        saved_size_differs=True,
        capabilities=_PROMPT,
    ),
    PrefixTuning(
        name="prefix-tuning",
        title="Prefix tuning",
        peft_type="PREFIX_TUNING",
        family="prompt",
        summary="Trains keys and values that every layer's attention sees before the input. "
        "Stronger than a prompt of embeddings, and it costs no memory in the layers' weights.",
        paper="Li and Liang, 2021, arXiv 2101.00190",
        settings={"num_virtual_tokens": 50, "init_weights": "zero"},
        settings_source=f"{BENCHMARK}, prefixtuning/llama-3.2-3B-tokens50-init_prefix-lr_0.005, started from zeros as "
        "in lr_0.005_zero_init",
        learning_rates=(2e-3, 5e-3, 2e-2),
        supports_conv1d=True,
        capabilities=_PROMPT,
    ),
    AdaptionPrompt(
        name="adaption-prompt",
        title="LLaMA-Adapter",
        peft_type="ADAPTION_PROMPT",
        family="prompt",
        summary="Trains prompts that each layer's attention reads through a gate that starts at zero. "
        "Keeps the model as it is at the start; only for Llama, Mistral and GPT-2.",
        paper="Zhang et al., 2023, arXiv 2303.16199",
        settings={"adapter_len": 100},
        settings_source=f"{BENCHMARK}, adaptionprompt/llama-3.2-3B-lr_5e-3; 5e-4 was too low there",
        learning_rates=(2e-3, 5e-3, 2e-2),
        tasks=("causal-lm",),
        supports_conv1d=True,
        trains_in_base_dtype=True,
        capabilities=Capabilities(mergeable=False),
    ),
)
