"""Methods with low-rank updates that are their own types in PEFT."""

from __future__ import annotations

from knowledge.methods.base import BENCHMARK, MERGES, MERGES_IN_FULL_PRECISION, Capabilities
from knowledge.methods.low_rank import LowRank

# Reads the shape of the weight, which nf4 packs into a column and int8 leaves as it is.
_NEEDS_THE_SHAPE = Capabilities(mergeable=True, quantized=("int8",), vllm="merged")
_RATES = (1e-4, 3e-4, 1e-3)

METHODS = (
    LowRank(
        name="gralora",
        title="GraLoRA",
        peft_type="GRALORA",
        family="low-rank",
        summary="Splits each weight into blocks and gives each its own small LoRA. "
        "The update has a higher rank than LoRA's with the same number of parameters.",
        paper="Jung et al., 2025, arXiv 2505.20355",
        settings={"r": 32, "alpha": 64, "gralora_k": 2},
        settings_source=f"{BENCHMARK}, gralora/llama-3.2-3B-rank32",
        must_divide={"gralora_k": "both"},
        targets="attention-qv",
        learning_rates=_RATES,
        supports_conv1d=True,
        adds_in_place=True,
        capabilities=MERGES.model_copy(update={"quantized": ("nf4",)}),
    ),
    LowRank(
        name="glora",
        title="GLoRA",
        peft_type="GLORA",
        family="low-rank",
        summary="Trains scales, low-rank updates and shifts of weights and biases at once. "
        "The most general of the linear reparametrisations; merges without a trace.",
        paper="Chavan et al., 2023, arXiv 2306.07967",
        settings={"r": 8},
        settings_source=f"{BENCHMARK}, glora/llama-3.2-3B-default",
        targets="attention-qv",
        learning_rates=_RATES,
        weight_decay=0.1,
        saved_size_differs=True,
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
    LowRank(
        name="delora",
        title="DeLoRA",
        peft_type="DELORA",
        family="low-rank",
        summary="LoRA whose update has a bounded length, trained apart from its direction. "
        "Robust against learning rates that are too high.",
        paper="Bini et al., 2025, arXiv 2503.18225",
        settings={"r": 32, "delora_lambda": 15},
        settings_source=f"{BENCHMARK}, delora/llama-3.2-3B-rank32",
        targets="attention-qv",
        learning_rates=(3e-4, 1e-3, 3e-3),
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
    LowRank(
        name="deft",
        title="DEFT",
        peft_type="DEFT",
        family="low-rank",
        summary="Takes a trained low-rank subspace out of each weight and puts a trained one in its place. "
        "Made for image models, where it forgets less than LoRA.",
        paper="Kumar et al., 2025, arXiv 2509.22793",
        settings={"r": 32, "alpha": 128, "decomposition_method": "relu"},
        settings_source=f"{BENCHMARK}, deft/llama-3.2-3B-rank32",
        targets="attention-qv",
        learning_rates=_RATES,
        weight_decay=0.1,
        supports_conv1d=True,
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
    LowRank(
        name="peanut",
        title="PEANuT",
        peft_type="PEANUT",
        family="low-rank",
        summary="Computes the update of each weight by a small neural network from the weight itself. "
        "The update is no longer linear in what is trained.",
        paper="Zhong et al., 2024, arXiv 2410.01870",
        settings={"r": 32, "depth": 0, "act_fn": "relu", "scaling": 2.0},
        settings_source=f"{BENCHMARK}, peanut/llama-3.2-3B-rank32-relu-depth0-s2.0",
        targets="attention-qv",
        learning_rates=_RATES,
        weight_decay=0.1,
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
    LowRank(
        name="adamss",
        title="AdaMSS",
        peft_type="ADAMSS",
        family="low-rank",
        summary="Clusters each weight's singular directions into subspaces and trains a tiny update in each. "
        "Few parameters; five times slower than LoRA on the public benchmark.",
        paper="Zheng et al., 2025, NeurIPS",
        settings={"r": 100, "num_subspaces": 32, "subspace_rank": 1},
        settings_source=f"{BENCHMARK}, adamss/llama-3.2-3B-rank32, whose 1e-4 is low for short runs",
        targets="attention-qv",
        learning_rates=(1e-3, 3e-3, 1e-2),
        weight_decay=0.1,
        cost="high",
        saved_size_differs=True,
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
    LowRank(
        name="loha",
        title="LoHa",
        peft_type="LOHA",
        family="low-rank",
        summary="The update is the element-wise product of two low-rank matrices; its rank is the product of theirs. "
        "From federated learning and image models; twice LoRA's parameters at the same rank.",
        paper="Hyeon-Woo et al., 2021, arXiv 2108.06098",
        settings={"r": 32, "alpha": 64},
        settings_source=f"{BENCHMARK}, loha/llama-3.2-3B-rank32, whose 1e-4 is low for short runs",
        targets="attention-qv",
        learning_rates=(3e-4, 1e-3, 3e-3),
        weight_decay=0.1,
        capabilities=_NEEDS_THE_SHAPE,
    ),
    LowRank(
        name="lokr",
        title="LoKr",
        peft_type="LOKR",
        family="low-rank",
        summary="The update is a Kronecker product of a small matrix and a low-rank one. "
        "Very small adapters, at home in image models.",
        paper="Yeh et al., 2023, arXiv 2309.14859",
        settings={"r": 32, "alpha": 64, "decompose_factor": 4},
        settings_source=f"{BENCHMARK}, lokr/llama-3.2-3B-rank32-factor4-lr0.003",
        targets="attention-qv",
        learning_rates=(1e-3, 3e-3, 1e-2),
        weight_decay=0.1,
        capabilities=_NEEDS_THE_SHAPE,
    ),
)
