"""Methods that train a few entries of the weights themselves."""

from __future__ import annotations

from knowledge.methods.base import BENCHMARK, Capabilities, Method
from knowledge.methods.low_rank import LowRank

METHODS = (
    LowRank(
        name="shira",
        title="SHiRA",
        peft_type="SHIRA",
        family="sparse",
        summary="Trains random entries of each weight, as many as a LoRA would have: a few percent in large models. "
        "An update of high rank that is quick to load and to switch.",
        paper="Bhardwaj et al., 2024, arXiv 2406.13175",
        settings={"r": 32, "mask_type": "random", "random_seed": 42},
        settings_source=f"{BENCHMARK}, shira/llama-3.2-3B-lr_0.0003-random_seed_42",
        targets="attention-qv",
        learning_rates=(1e-4, 3e-4, 1e-3),
        saved_size_differs=True,
        capabilities=Capabilities(mergeable=True, vllm="merged"),
    ),
    Method(
        name="supertuning",
        title="Super-Tuning",
        peft_type="SUPERTUNING",
        family="sparse",
        summary="Trains the one percent of each weight's entries that are largest, and nothing else. "
        "No calibration, no random choice, and an update that is cheap to store.",
        paper="arXiv 2607.09287",
        settings={"sparsity": 0.99},
        settings_source="PEFT's defaults, the paper's best configuration of one mechanism; rates above SHiRA's, as "
        "fewer entries move",
        targets="attention-qv",
        learning_rates=(1e-3, 3e-3, 1e-2),
        saved_size_differs=True,
        capabilities=Capabilities(mergeable=True, quantized=(), vllm="merged"),
    ),
    Method(
        name="osf",
        title="OSF",
        peft_type="OSF",
        family="full",
        summary="Trains each weight within the directions it uses least and keeps its main directions as they are. "
        "Nearly full fine-tuning, with its memory, that forgets less.",
        paper="Nayak et al., 2025, arXiv 2504.07097",
        settings_source=f"{BENCHMARK}, osf/llama-3.2-3B-rank128, with "
        "PEFT's default of half of each weight's directions",
        targets="all-linear",
        learning_rates=(2e-5, 5e-5, 2e-4),
        cost="high",
        capabilities=Capabilities(mergeable=True, quantized=(), vllm="merged"),
    ),
)
