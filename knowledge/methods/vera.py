"""VeRA: shared random matrices with trained scaling vectors."""

from __future__ import annotations

from knowledge.methods.base import Capabilities
from knowledge.methods.low_rank import LowRank

_BENCHMARK = "PEFT's public method comparison (MetaMathQA, Llama-3.2-3B)"

VERA = LowRank(
    name="vera",
    title="VeRA",
    peft_type="VERA",
    family="low-rank",
    summary="One pair of frozen random matrices is shared by all layers; each layer trains only two scaling vectors. "
    "A tenth of LoRA's parameters, at some loss of quality.",
    paper="Kopiczko et al., 2023, arXiv 2310.11454",
    settings={"r": 256, "d_initial": 0.1, "projection_prng_key": 0},
    settings_source=f"{_BENCHMARK}, vera/llama-3.2-3B-default; Kopiczko et al. (2023), tables 8-10, use 4e-3 to 2e-2",
    targets="attention-qv",
    learning_rates=(1e-3, 3e-3, 1e-2),
    supports_conv1d=True,
    capabilities=Capabilities(mergeable=True, vllm="merged"),
)

METHODS = (VERA,)
