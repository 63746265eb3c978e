"""Delta-LoRA, which PEFT lacks: the base weights follow the changes of the low-rank update.

Published form: after a warm-up, each optimizer step also adds l s (B1 A1 - B0 A0) to the frozen weight W, with 0 and 1
the matrices before and after the step. For a constant ratio l the additions telescope to l s (B A - B* A*), the
anchor B* A* being the state at the end of the warm-up. So W can stay untouched: the difference is added in the
forward pass instead, with A and B detached, since the published gradient does not see it either.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from knowledge.methods.anchored_lora import lora_layers, set_anchor
from knowledge.methods.lora import LORA
from knowledge.methods.low_rank import LowRank
from knowledge.schema import Finite


class DeltaLora(LowRank):
    """`update_ratio` is the paper's lambda, `warmup_steps` its K: optimizer steps as plain LoRA."""

    update_ratio: Finite = 0.5
    warmup_steps: int = 10

    @property
    def saved_rank_factor(self) -> int:
        return 2

    def after_wrapping(self, model: Any, calibration: Any) -> None:
        def anchor_after_warmup(step: int) -> None:
            if step + 1 == self.warmup_steps:
                set_anchor(model, gain=1 + self.update_ratio, share=self.update_ratio)

        for layer in lora_layers(model):
            layer.register_forward_hook(partial(_add_drift, ratio=self.update_ratio))
        # PEFT's name for what must happen after each optimizer step.
        model.base_model.update_and_allocate = anchor_after_warmup


def _add_drift(layer: Any, inputs: tuple[Any, ...], output: Any, ratio: float) -> Any:
    """Adds l s (B A - B* A*) x to a LoRA layer's output, once there is an anchor."""
    from torch.nn.functional import linear

    if not hasattr(layer, "anchor_A"):
        return output
    matrix_a, matrix_b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    x = inputs[0].to(matrix_a.dtype)
    drift = linear(linear(x, matrix_a), matrix_b) - linear(linear(x, layer.anchor_A), layer.anchor_B)
    return output + (ratio * layer.scaling["default"] * drift).to(output.dtype)


METHODS = (
    LORA.variant(
        DeltaLora,
        name="delta-lora",
        title="Delta-LoRA",
        summary="LoRA that also moves the base weights, by the change of its own update in every step. "
        "The weights gain more than the low rank allows, without gradients or optimizer state for them.",
        paper="Zi et al., 2023, arXiv 2309.02411",
        settings_source="LoRA's settings; ratio and warm-up are this catalogue's choice for short runs",
    ),
)
