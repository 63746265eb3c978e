"""LoRA with another structure or another way to train it."""

from __future__ import annotations

from typing import Any

from knowledge.methods.base import BENCHMARK, MERGES_IN_FULL_PRECISION, Capabilities, largest_divisor
from knowledge.methods.lora import LORA, LORA_MLP
from knowledge.methods.low_rank import LowRank
from knowledge.shape import ModelShape

# Layers that a tensor-parallel server splits by their inputs; all others are split by their outputs.
_SPLIT_BY_INPUTS = ("down_proj", "fc2", "fc_out", "wo", "dense_4h_to_h", "lin2")

# On a 4-bit base PEFT refuses VeLoRA, and trains plain LoRA instead of the others without a word.


class BlockDiagonal(LowRank):
    """Which of the two matrices is block-diagonal depends on how a server splits the layer."""

    def unsupported_reason(self, shape: ModelShape) -> str | None:
        reason = super().unsupported_reason(shape)
        if reason is None and isinstance(self.peft_config(shape, 1)["target_modules"], str):
            return f"{self.title} needs layers that are told apart by their names, which {shape.model_type} has not"
        return reason

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        config = super().fit_settings(config, shape, max_steps)
        names = config["target_modules"]
        blocks = {
            "target_modules_bd_a": [name for name in names if name in _SPLIT_BY_INPUTS],
            "target_modules_bd_b": [name for name in names if name not in _SPLIT_BY_INPUTS],
            "nblocks": 2,
        }
        return {**config, "use_bdlora": blocks}


class VeLora(LowRank):
    """Splits the inputs into groups, so that their number must divide the input sizes."""

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        config = super().fit_settings(config, shape, max_steps)
        smallest_input = min(inputs for inputs, _ in self.target_sizes(shape))
        groups = largest_divisor(smallest_input, at_most=config["velora_config"]["num_groups"])
        return {**config, "velora_config": {"num_groups": groups}}


class Regularised(LowRank):
    """PEFT computes its regulariser and leaves adding it to the training loop; here it joins the model's own loss."""

    loss_term: str

    def after_wrapping(self, model: Any, calibration: Any) -> None:
        term = getattr(model.base_model, self.loss_term)

        def add_term(module: Any, inputs: Any, output: Any) -> None:
            if module.training and output.loss is not None:
                output.loss = output.loss + term()

        model.register_forward_hook(add_term)


METHODS = (
    LORA.variant(
        name="lora-riemannian",
        title="LoRA (Riemannian)",
        summary="LoRA whose gradients are rescaled by the other matrix before each step. "
        "Makes the step independent of how the update is split over the two, at little cost.",
        paper="Zhang and Pilanci, 2024, arXiv 2402.02347",
        settings_source="LoRA's settings with PEFT's default damping",
        optimizer="peft.optimizers:create_riemannian_optimizer",
    ),
    LORA_MLP.variant(
        BlockDiagonal,
        name="bd-lora",
        title="BD-LoRA",
        summary="LoRA with one matrix of each pair block-diagonal. "
        "Several adapters can be served over several GPUs without extra communication.",
        paper="Wang et al., 2025, arXiv 2510.23346",
        settings={"r": 14, "lora_alpha": 28},
        settings_source=f"{BENCHMARK}, lora/llama-3.2-3B-rank14-target-mlp-bdlora",
        supports_conv1d=False,
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
    LORA.variant(
        VeLora,
        name="velora",
        title="VeLoRA",
        summary="LoRA that keeps only a compressed form of its inputs for the backward pass. "
        "Saves activation memory; the gradients are approximate.",
        paper="Miles et al., 2024, arXiv 2405.17991",
        settings={**LORA.settings, "velora_config": {"num_groups": 64}},
        settings_source="LoRA's settings with PEFT's defaults for VeLoRA",
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
    LORA.variant(
        Regularised,
        loss_term="_get_kasa_loss",
        name="kasa",
        title="KaSA",
        summary="Drops the smallest singular directions of each weight and trains a singular value form. "
        "The update's parts are weighed by trained singular values.",
        paper="Wang et al., 2024, arXiv 2412.06071",
        settings={**LORA.settings, "kasa_config": {}},
        settings_source="LoRA's settings with PEFT's defaults for KaSA",
        supports_conv1d=False,
        trains_through_model_loss=True,
        capabilities=Capabilities(
            mergeable=True, identity_start=False, restores_base=False, quantized=(), vllm="merged"
        ),
    ),
    LORA.variant(
        Regularised,
        loss_term="_get_monteclora_loss",
        name="monteclora",
        title="MonteCLoRA",
        summary="LoRA whose update is sampled while training, around a mean that is used afterwards. "
        "A Bayesian regulariser that steadies training against the choice of settings.",
        paper="Sengupta et al., 2024, arXiv 2411.04358",
        settings={**LORA.settings, "monteclora_config": {}},
        settings_source="LoRA's settings with PEFT's defaults for MonteCLoRA",
        trains_through_model_loss=True,
        saved_size_differs=True,
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
)
