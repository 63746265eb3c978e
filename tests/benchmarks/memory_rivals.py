"""What others say about the same runs: a formula calculator, and `accelerate estimate-memory`."""

from __future__ import annotations

from typing import Any

from knowledge.schema import PlannedRun
from probes.memory.bases import build_base

# Bytes per token, layer and hidden unit that are kept for the backward pass in 16-bit training without attention
# matrices: Korthikanti et al. 2022 (arXiv 2205.05198), equation 2, as calculators use it.
ACTIVATION_BYTES = 34
INPUT_BYTES = 2  # what is left of them with checkpointing: a layer's input; the rest for one layer at a time
ADAM_BYTES_PER_TRAINABLE = 4 + 4 + 8  # fp32 weight, gradient and two moments


def formula(config: Any, run: PlannedRun, trainable_parameters: int, hidden_size: int, num_layers: int) -> int:
    """Weights + trainable weights, gradients and Adam states + activations of a batch of the greatest length."""
    base = build_base(config, run)
    weights = sum(p.numel() * p.element_size() for p in base.parameters())
    per_unit = ACTIVATION_BYTES * num_layers
    if run.gradient_checkpointing:
        per_unit = INPUT_BYTES * num_layers + ACTIVATION_BYTES
    activations = per_unit * hidden_size * run.batch_size * run.max_length_tokens
    return weights + ADAM_BYTES_PER_TRAINABLE * trainable_parameters + activations


def accelerate_estimate(config: Any, run: PlannedRun) -> int:
    """The 'Training using Adam' figure of `accelerate estimate-memory --dtypes bfloat16`; it knows neither PEFT nor
    batches, so it is the same for every method."""
    from accelerate.commands.estimate import estimate_training_usage
    from accelerate.utils import calculate_maximum_sizes

    base = build_base(config, run.model_copy(update={"dtype": "float32"}))
    total, _ = calculate_maximum_sizes(base)
    return max(estimate_training_usage(total, "bfloat16").values())
