"""LoRA and the variants that differ from it by settings, targets or optimizer."""

from __future__ import annotations

from knowledge.methods.base import BENCHMARK, Capabilities
from knowledge.methods.low_rank import LowRank

# The benchmark's 1e-4 suits its 5000 steps. Shorter runs on smaller models want more: Hu et al. (2021)
# use 2e-4 to 5e-4, and in 20-step probes on SmolLM2-135M 1e-3 was ahead of 1e-4 by 0.38 nats per token.
_RATES = (1e-4, 3e-4, 1e-3)
_ADAPTER = Capabilities(mergeable=True, vllm="adapter")

LORA = LowRank(
    name="lora",
    title="LoRA",
    peft_type="LORA",
    family="low-rank",
    summary="Adds the product of two thin matrices to the query and value projections and trains only those. "
    "The common choice: well understood, and servable by every inference engine.",
    paper="Hu et al., 2021, arXiv 2106.09685",
    settings={"r": 32, "lora_alpha": 64},
    settings_source=f"{BENCHMARK}, lora/llama-3.2-3B-rank32; rates: see the top of lora.py",
    targets="attention-qv",
    learning_rates=_RATES,
    weight_decay=0.1,
    supports_conv1d=True,
    capabilities=_ADAPTER,
)

LORA_MLP = LORA.variant(
    name="lora-mlp",
    title="LoRA (MLP)",
    summary="LoRA on the feed-forward layers instead of the attention. "
    "Most of a model's knowledge sits there; on the public benchmark it beat LoRA on the attention.",
    settings={"r": 10, "lora_alpha": 20},
    settings_source=f"{BENCHMARK}, lora/llama-3.2-3B-rank10-target-mlp",
    targets="mlp",
)

LORA_ALL_LINEAR = LORA.variant(
    name="lora-all-linear",
    title="LoRA (all linear layers)",
    summary="LoRA on every linear layer of the model. "
    "The QLoRA authors found that this, more than the rank, closes the gap to full fine-tuning.",
    paper="Dettmers et al., 2023, arXiv 2305.14314",
    settings={"r": 16, "lora_alpha": 32},
    settings_source="Dettmers et al. (2023): all linear layers; alpha twice the rank as in the benchmark",
    targets="all-linear",
    weight_decay=0.0,
)

LORA_ATTENTION = LORA.variant(
    name="lora-attention",
    title="LoRA (attention)",
    summary="LoRA on all four projections of the attention. "
    "Between the two projections of the original and all linear layers, in cost and in reach.",
    settings={"r": 16, "lora_alpha": 32},
    settings_source="Hu et al. (2021) compare these at equal size: all four projections at half the rank of two",
    targets="attention",
)

RSLORA = LORA.variant(
    name="rslora",
    title="rsLoRA",
    summary="LoRA scaled by the square root of its rank, so that higher ranks keep learning. "
    "Made for ranks of 64 and above, where plain LoRA's updates become too small.",
    paper="Kalajdzievski, 2023, arXiv 2312.03732",
    settings={"r": 64, "lora_alpha": 64, "use_rslora": True},
    settings_source=f"{BENCHMARK}, lora/llama-3.2-3B-rank64-rslora",
)

DORA = LORA.variant(
    name="dora",
    title="DoRA",
    summary="Splits each weight into a length and a direction, trains the lengths, and the direction by LoRA. "
    "In its authors' runs a little better than LoRA at the same rank; slower.",
    paper="Liu et al., 2024, arXiv 2402.09353",
    settings={"r": 32, "lora_alpha": 64, "use_dora": True},
    settings_source=f"{BENCHMARK}, lora/llama-3.2-3B-rank32-dora",
    # vLLM's adapter loader refuses use_dora, so it is served merged. On a fresh base in int8 PEFT cannot read the
    # weights' lengths, so that a saved adapter would not load.
    capabilities=Capabilities(mergeable=True, quantized=("nf4",), vllm="merged"),
)

LORA_FA = LORA.variant(
    name="lora-fa",
    title="LoRA-FA",
    summary="LoRA with the first of its two matrices frozen at its random start. "
    "Half the gradients and optimizer state, and less activation memory, at some loss of quality.",
    paper="Zhang et al., 2023, arXiv 2308.03303",
    settings_source=f"{BENCHMARK}, lora/llama-3.2-3B-rank32-lorafa",
    optimizer="peft.optimizers:create_lorafa_optimizer",
)

LORA_PLUS = LORA.variant(
    name="lora-plus",
    title="LoRA+",
    summary="LoRA whose second matrix learns sixteen times as fast as the first. "
    "The authors show that equal rates are inefficient in wide models.",
    paper="Hayou et al., 2024, arXiv 2402.12354",
    settings_source=f"{BENCHMARK}, lora/llama-3.2-3B-rank32; Hayou et al. (2024): ratio 16, the rate of the "
    "first matrix a few times below LoRA's",
    learning_rates=(2e-5, 6e-5, 2e-4),
    weight_decay=0.0,
    optimizer="peft.optimizers:create_loraplus_optimizer",
    optimizer_settings={"loraplus_lr_ratio": 16},
)

METHODS = (LORA, LORA_MLP, LORA_ATTENTION, LORA_ALL_LINEAR, RSLORA, DORA, LORA_FA, LORA_PLUS)
