"""MiSS: one trainable matrix where LoRA has two."""

from __future__ import annotations

from knowledge.methods.base import BENCHMARK, Capabilities
from knowledge.methods.low_rank import LowRank

MISS = LowRank(
    name="miss",
    title="MiSS",
    peft_type="MISS",
    family="low-rank",
    summary="Adds the same small trainable matrix to each shard of a weight: one factor instead of LoRA's two. "
    "As good as LoRA with less memory and fewer parameters at the same rank.",
    paper="Kang and Yin, 2024, arXiv 2409.15371",
    settings={"r": 64},
    settings_source=f"{BENCHMARK}, miss/llama-3.2-3B-default",
    targets="attention-qv",
    learning_rates=(1e-4, 3e-4, 1e-3),
    weight_decay=0.1,
    capabilities=Capabilities(mergeable=True, vllm="merged"),
)

MISS_BAT = MISS.variant(
    name="miss-bat",
    title="MiSS (block affine)",
    summary="MiSS whose update also depends on the weight it changes, block by block. "
    "A little better than MiSS on the public benchmark, and slower.",
    settings={"r": 64, "init_weights": "bat"},
    settings_source=f"{BENCHMARK}, miss/llama-3.2-3B-bat",
    must_divide={"r": "both"},
)

MISS_MINI = MISS.variant(
    name="miss-mini",
    title="MiSS (mini)",
    summary="MiSS that repeats one narrow matrix along the outputs too. "
    "A small fraction of MiSS's parameters, at some loss of quality.",
    settings={"r": 64, "mini_r": 64, "init_weights": "mini"},
    settings_source=f"{BENCHMARK}, miss/llama-3.2-3B-mini",
    must_divide={"mini_r": "outputs"},
)

METHODS = (MISS, MISS_BAT, MISS_MINI)
