"""Methods that train coefficients of the update in another basis: Fourier, wavelets, circulants, shared vectors."""

from __future__ import annotations

from typing import Any

from knowledge.methods.base import BENCHMARK, MERGES, MERGES_IN_FULL_PRECISION, Capabilities, Method
from knowledge.methods.low_rank import LowRank
from knowledge.shape import ModelShape

_STARTS_ELSEWHERE = Capabilities(mergeable=True, identity_start=False, vllm="merged")


class Coefficients(Method):
    """Trains `n_frequency` coefficients per weight, of which there are as many as the weight has entries."""

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        entries = min(inputs * outputs for inputs, outputs in self.target_sizes(shape))
        return {**config, "n_frequency": min(config["n_frequency"], entries // 4)}


METHODS = (
    Method(
        name="c3a",
        title="C3A",
        peft_type="C3A",
        family="spectral",
        summary="The update is made of circulant blocks, computed by fast Fourier transforms. "
        "High rank with fewer parameters than LoRA; wants a learning rate a thousand times LoRA's.",
        paper="Chen et al., 2024, arXiv 2407.19342",
        settings={"block_size": 64},
        settings_source=f"{BENCHMARK}, c3a/llama-3.2-3B-default",
        must_divide={"block_size": "both"},
        targets="attention-qv",
        learning_rates=(0.1, 0.3, 1.0),
        weight_decay=1e-5,
        adds_in_place=True,
        capabilities=_STARTS_ELSEWHERE.model_copy(update={"quantized": ("nf4",)}),
    ),
    Coefficients(
        name="fourierft",
        title="FourierFT",
        peft_type="FOURIERFT",
        family="spectral",
        summary="Trains a few thousand coefficients of the update's two-dimensional Fourier transform. "
        "Tiny adapters; very sensitive to the learning rate and to its scaling.",
        paper="Gao et al., 2024, arXiv 2405.03003",
        settings={"n_frequency": 5000, "scaling": 300, "init_weights": True},
        settings_source=f"{BENCHMARK}, fourierft/llama-3.2-3B-n_frequency-5000, started from zero; its 1e-4 "
        "learned next to nothing there",
        targets="attention-qv",
        learning_rates=(1e-3, 3e-3, 1e-2),
        supports_conv1d=True,
        capabilities=MERGES,
    ),
    Coefficients(
        name="waveft",
        title="WaveFT",
        peft_type="WAVEFT",
        family="spectral",
        summary="Trains a few thousand wavelet coefficients of the update. "
        "Like FourierFT, with coefficients that act locally; for very small adapters.",
        paper="Bilican et al., 2025, arXiv 2505.12532",
        settings={"n_frequency": 5000, "scaling": 25.0},
        settings_source=f"{BENCHMARK}, waveft/llama-3.2-3B-n_frequency-5000, whose 1e-4 is low for short runs",
        targets="attention-qv",
        learning_rates=(3e-4, 1e-3, 3e-3),
        weight_decay=0.1,
        supports_conv1d=True,
        capabilities=MERGES,
    ),
    Method(
        name="frod",
        title="FRoD",
        peft_type="FROD",
        family="spectral",
        summary="Finds one basis for all layers of a kind and trains a sparse rotation with scales in it. "
        "Updates of full rank; its set-up decomposes every adapted weight.",
        paper="AAAI 2026, doi 10.1609/aaai.v40i31.39813",
        settings={"sparse_rate": 0.01, "progressbar": False},
        settings_source=f"{BENCHMARK}, frod/llama-3.2-3B-default",
        targets="attention-qv",
        learning_rates=(1e-4, 3e-4, 1e-3),
        weight_decay=0.1,
        cost="high",
        supports_conv1d=True,
        saved_size_differs=True,
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
    LowRank(
        name="vblora",
        title="VB-LoRA",
        peft_type="VBLORA",
        family="low-rank",
        summary="Builds all low-rank factors from one shared bank of vectors, choosing a few for each piece. "
        "On the public benchmark the stored adapter is an eighth of LoRA's.",
        paper="Li et al., 2024, arXiv 2405.15179",
        settings={"r": 4, "num_vectors": 256, "vector_length": 256},
        settings_source=f"{BENCHMARK}, vblora/llama-3.2-3B-default; Li et al. (2024) use 1e-3 for the bank and "
        "1e-2 for the choice of vectors",
        must_divide={"vector_length": "both"},
        targets="attention-qv",
        learning_rates=(1e-3, 3e-3, 1e-2),
        supports_conv1d=True,
        capabilities=_STARTS_ELSEWHERE,
    ),
    LowRank(
        name="unilora",
        title="Uni-LoRA",
        peft_type="UNILORA",
        family="low-rank",
        summary="One trained vector is projected at random into all the LoRA factors of the model. "
        "A few hundred parameters in all, so it learns slowly.",
        paper="Li et al., 2025, arXiv 2506.00799",
        settings={"r": 32, "theta_d_length": 256, "proj_seed": 42},
        settings_source=f"{BENCHMARK}, unilora/llama-3.2-3B-default, where 1e-4 learned nothing",
        targets="attention-qv",
        learning_rates=(2e-3, 5e-3, 2e-2),
        supports_conv1d=True,
        # On a 4-bit base it trains nothing, without a word.
        capabilities=_STARTS_ELSEWHERE.model_copy(update={"quantized": ()}),
    ),
    LowRank(
        name="tinylora",
        title="TinyLoRA",
        peft_type="TINYLORA",
        family="low-rank",
        summary="Trains a vector of a few dozen numbers per layer inside frozen singular directions of the weight. "
        "Made for reinforcement learning, where little information has to be stored.",
        paper="Morris et al., 2026, arXiv 2602.04118",
        settings={"r": 2, "u": 64, "projection_seed": 42},
        settings_source=f"{BENCHMARK}, tinylora/llama-3.2-3B-default, where 1e-3 was too low",
        targets="attention-qv",
        learning_rates=(2e-3, 5e-3, 2e-2),
        supports_conv1d=True,
        saved_size_differs=True,
        capabilities=MERGES_IN_FULL_PRECISION,
    ),
)
