"""Methods that train a few entries of the weights themselves."""

from __future__ import annotations

from knowledge.methods.base import Capabilities
from knowledge.methods.low_rank import LowRank

METHODS = (
    LowRank(
        name="shira",
        title="SHiRA",
        peft_type="SHIRA",
        family="sparse",
        summary="Trains a random one or two percent of the entries of each weight, as many as a LoRA would have. "
        "An update of high rank that is quick to load and to switch.",
        paper="Bhardwaj et al., 2024, arXiv 2406.13175",
        settings={"r": 32, "mask_type": "random", "random_seed": 42},
        settings_source="PEFT's public method comparison (MetaMathQA, Llama-3.2-3B), "
        "shira/llama-3.2-3B-lr_0.0003-random_seed_42",
        targets="attention-qv",
        learning_rates=(1e-4, 3e-4, 1e-3),
        capabilities=Capabilities(mergeable=True, vllm="merged"),
    ),
)
