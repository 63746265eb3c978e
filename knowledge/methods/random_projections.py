"""VeRA and its kin: frozen random matrices with trained scales."""

from __future__ import annotations

from knowledge.methods.base import BENCHMARK, Capabilities
from knowledge.methods.low_rank import LowRank

VERA = LowRank(
    name="vera",
    title="VeRA",
    peft_type="VERA",
    family="low-rank",
    summary="One pair of frozen random matrices is shared by all layers; each layer trains only two scaling vectors. "
    "One to four hundredths of LoRA's parameters, at some loss of quality.",
    paper="Kopiczko et al., 2023, arXiv 2310.11454",
    settings={"r": 256, "d_initial": 0.1, "projection_prng_key": 0},
    settings_source=f"{BENCHMARK}, vera/llama-3.2-3B-default; Kopiczko et al. (2023) go up to 1e-2 and above",
    targets="attention-qv",
    learning_rates=(1e-3, 3e-3, 1e-2),
    supports_conv1d=True,
    saved_size_differs=True,
    capabilities=Capabilities(mergeable=True, vllm="merged"),
)

PVERA = VERA.variant(
    name="pvera",
    title="PVeRA",
    peft_type="PVERA",
    summary="VeRA whose scaling vectors are distributions, sampled while training and fixed at their mean afterwards. "
    "The noise regularises; otherwise like VeRA.",
    paper="Fillioux et al., 2025, arXiv 2512.07703",
    settings={"r": 64, "d_initial": 0.1, "projection_prng_key": 0},
    settings_source=f"{BENCHMARK}, pvera/llama-3.2-3B-rank64",
)

RANDLORA = LowRank(
    name="randlora",
    title="RandLoRA",
    peft_type="RANDLORA",
    family="low-rank",
    summary="Sums many frozen random low-rank products with trained scales, which gives an update of full rank. "
    "About as many parameters as LoRA; the random bases cost time and memory.",
    paper="Albert et al., 2025, arXiv 2502.00987",
    settings={"r": 32, "randlora_alpha": 640, "projection_prng_key": 0},
    settings_source=f"{BENCHMARK}, randlora/llama-3.2-3B-default",
    targets="attention-qv",
    learning_rates=(1e-4, 3e-4, 1e-3),
    weight_decay=0.1,
    supports_conv1d=True,
    saved_size_differs=True,
    capabilities=Capabilities(mergeable=True, vllm="merged"),
)

METHODS = (VERA, PVERA, RANDLORA)
