"""Orthogonal fine-tuning and its kin: the weights are turned instead of added to."""

from __future__ import annotations

import math
from typing import Any

from knowledge.methods.base import BENCHMARK, MERGES, MERGES_IN_FULL_PRECISION, Method, largest_divisor
from knowledge.methods.low_rank import LowRank
from knowledge.shape import ModelShape

# Smaller blocks have too few planes to turn in to learn anything.
_SMALLEST_BLOCK = 16


class Oft(Method):
    """Its `r` is the number of blocks and must divide every input size; the block size follows from it."""

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        common = math.gcd(*(inputs for inputs, _ in self.target_sizes(shape)))
        most_blocks = min(config["r"], max(1, common // _SMALLEST_BLOCK))
        return {**config, "r": largest_divisor(common, at_most=most_blocks)}


METHODS = (
    Oft(
        name="oft",
        title="OFT",
        peft_type="OFT",
        family="orthogonal",
        summary="Multiplies the weights by a block-diagonal rotation, which keeps the angles between neurons. "
        "Forgets little; on the public image-generation benchmark it beat LoRA of rank 32 with less memory.",
        paper="Qiu et al., 2023, arXiv 2306.07280; Qiu et al., 2025, arXiv 2506.19847",
        settings={"r": 32, "oft_block_size": 0, "use_cayley_neumann": True},
        settings_source=f"{BENCHMARK}, oft/llama-3.2-3B-rank32",
        targets="attention-qv",
        learning_rates=(1e-4, 4e-4, 1.5e-3),
        weight_decay=0.1,
        capabilities=MERGES,
    ),
    Method(
        name="boft",
        title="BOFT",
        peft_type="BOFT",
        family="orthogonal",
        summary="OFT with the rotation factored like a fast Fourier transform, so that small blocks reach everywhere. "
        "Seven times slower than LoRA on the public benchmark.",
        paper="Liu et al., 2023, arXiv 2311.06243",
        settings={"boft_block_size": 4, "boft_n_butterfly_factor": 1},
        settings_source=f"{BENCHMARK}, boft/llama-3.2-3B-default, whose 1e-4 is low for short runs",
        must_divide={"boft_block_size": "inputs"},
        targets="attention-qv",
        learning_rates=(3e-4, 1e-3, 3e-3),
        weight_decay=0.1,
        cost="high",
        capabilities=MERGES,
    ),
    LowRank(
        name="hra",
        title="HRA",
        peft_type="HRA",
        family="orthogonal",
        summary="Turns the weights by a chain of trained Householder reflections. "
        "A bridge between OFT and LoRA: orthogonal, and of low rank.",
        paper="Yuan et al., 2024, arXiv 2405.17484",
        settings={"r": 8},
        settings_source="PEFT's default rank; rates: this catalogue's choice",
        targets="attention-qv",
        learning_rates=(1e-3, 3e-3, 1e-2),
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
    Method(
        name="road",
        title="RoAd",
        peft_type="ROAD",
        family="orthogonal",
        summary="Rotates and scales pairs of each layer's outputs. "
        "Very few parameters, and adapters of different users can share a batch.",
        paper="Liao and Monz, 2024, arXiv 2409.00119",
        settings={"variant": "road_2", "group_size": 64},
        settings_source=f"{BENCHMARK}, road/llama-3.2-3B-lr_0.001",
        must_divide={"group_size": "outputs"},
        targets="attention-qv",
        learning_rates=(1e-3, 3e-3, 1e-2),
        capabilities=MERGES,
    ),
    LowRank(
        name="psoft",
        title="PSOFT",
        peft_type="PSOFT",
        family="orthogonal",
        summary="Rotates within the principal subspace of each weight only. "
        "Keeps OFT's geometry; on the public benchmark with a quarter of its parameters, in the same time.",
        paper="openreview FSHrinMArK",
        settings={"r": 256, "psoft_alpha": 256, "use_cayley_neumann": True},
        settings_source=f"{BENCHMARK}, psoft/llama-3.2-3B-fast, with the exact decomposition",
        targets="attention-qv",
        learning_rates=(1e-4, 4e-4, 1.5e-3),
        weight_decay=0.1,
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
)
