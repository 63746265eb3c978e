"""Methods that train a few vectors of the model: biases and normalisation weights."""

from __future__ import annotations

from knowledge.methods.base import BENCHMARK, Capabilities, Method

METHODS = (
    Method(
        name="beft",
        title="BEFT",
        peft_type="BEFT",
        family="bias-or-norm",
        summary="Trains one bias vector on each value projection: thousands of numbers in a small model, tens of "
        "thousands in a large one. Among the smallest adapters, and among the smallest in memory; modest in quality.",
        paper="Huang et al., 2025, arXiv 2509.15974",
        settings_source=f"{BENCHMARK}, beft/llama-3.2-3B-target-v_proj; its 1e-4 is low: 1e-2 was far ahead in "
        "short probes on SmolLM2-135M",
        targets="attention-v",
        learning_rates=(1e-3, 3e-3, 1e-2),
        weight_decay=0.1,
        # Merging needs a bias in the base layer; the layers of most decoder models have none.
        capabilities=Capabilities(mergeable=False),
    ),
    Method(
        name="ln-tuning",
        title="LayerNorm tuning",
        peft_type="LN_TUNING",
        family="bias-or-norm",
        summary="Trains the weights of the normalisation layers and nothing else. "
        "Tiny and cheap; it needs a far higher learning rate than adapters do.",
        paper="Zhao et al., 2023, arXiv 2312.11420",
        settings_source=f"{BENCHMARK}, ln_tuning/llama-3.2-3B-default, which learned nothing at 1e-4",
        targets="norms",
        learning_rates=(1e-3, 3e-3, 1e-2),
        supports_conv1d=True,
        capabilities=Capabilities(mergeable=True, vllm="merged"),
    ),
)
