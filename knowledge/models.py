"""Architecture facts of well-known models: what their public config.json says, so that an estimate needs no network.

Values are those of the config.json in the model's repository on the Hugging Face hub; the parameter counts that
follow from them are checked against the published ones in tests/knowledge/test_models.py. Tuned variants share the
architecture of their base, so they are found by their own names too (`Llama-3.2-3B-Instruct`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from knowledge.errors import did_you_mean

# Short names, as people type them -> hub id.
ALIASES: Mapping[str, str] = {
    "llama": "meta-llama/Llama-3.2-3B",
    "llama3": "meta-llama/Llama-3.2-3B",
    "llama-1b": "meta-llama/Llama-3.2-1B",
    "llama-3b": "meta-llama/Llama-3.2-3B",
    "llama-8b": "meta-llama/Llama-3.1-8B",
    "llama-70b": "meta-llama/Llama-3.1-70B",
    "qwen": "Qwen/Qwen3-4B",
    "qwen3": "Qwen/Qwen3-4B",
    "qwen2.5": "Qwen/Qwen2.5-7B",
    "qwen-0.6b": "Qwen/Qwen3-0.6B",
    "qwen-1.7b": "Qwen/Qwen3-1.7B",
    "qwen-4b": "Qwen/Qwen3-4B",
    "qwen-8b": "Qwen/Qwen3-8B",
    "qwen-14b": "Qwen/Qwen3-14B",
    "qwen-32b": "Qwen/Qwen3-32B",
    "qwen-moe": "Qwen/Qwen3-30B-A3B",
    "mistral": "mistralai/Mistral-7B-v0.3",
    "mistral-7b": "mistralai/Mistral-7B-v0.3",
    "mixtral": "mistralai/Mixtral-8x7B-v0.1",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B-v0.1",
    "gemma": "google/gemma-3-4b-pt",
    "gemma3": "google/gemma-3-4b-pt",
    "gemma-1b": "google/gemma-3-1b-pt",
    "gemma2": "google/gemma-2-2b",
    "phi": "microsoft/phi-4",
    "phi3": "microsoft/Phi-3-mini-4k-instruct",
    "phi-mini": "microsoft/Phi-4-mini-instruct",
    "smollm": "HuggingFaceTB/SmolLM2-1.7B",
    "smollm2": "HuggingFaceTB/SmolLM2-1.7B",
    "smollm-135m": "HuggingFaceTB/SmolLM2-135M",
    "smollm-360m": "HuggingFaceTB/SmolLM2-360M",
    "gpt2": "openai-community/gpt2",
    "bert": "google-bert/bert-base-uncased",
    "t5": "google-t5/t5-base",
}

_VARIANT = re.compile(r"-(instruct|it|pt|base|chat|hf)(-v\d[.\d]*)?$", re.IGNORECASE)
# How the tuned variant of a base is called, by the beginning of the base's hub id.
_TUNED = {"meta-llama/": "-Instruct", "Qwen/Qwen2.5": "-Instruct", "HuggingFaceTB/": "-Instruct", "google/gemma": "-it"}


def _decoder(
    model_type: str, vocab: int, hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        **more,
    }


def _llama3(*sizes: int, factor: float | None = 8.0, **more: Any) -> dict[str, Any]:
    scaling = factor and {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    more = {"max_position_embeddings": 131072 if factor else 8192, "rope_scaling": scaling, **more}
    return _decoder("llama", 128256, *sizes, rope_theta=500000.0, rms_norm_eps=1e-5, **more)


def _qwen25(vocab: int, *sizes: int, tied: bool = False) -> dict[str, Any]:
    more = {"rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768, "tie_word_embeddings": tied}
    return _decoder("qwen2", vocab, *sizes, **more)


def _qwen3(*sizes: int, tied: bool = False, model_type: str = "qwen3", **more: Any) -> dict[str, Any]:
    more = {"head_dim": 128, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 40960, **more}
    return _decoder(model_type, 151936, *sizes, tie_word_embeddings=tied, **more)


def _gemma2(*sizes: int, head_dim: int = 256, query_scalar: int = 256) -> dict[str, Any]:
    more = {"head_dim": head_dim, "query_pre_attn_scalar": query_scalar, "sliding_window": 4096}
    return _decoder("gemma2", 256000, *sizes, max_position_embeddings=8192, **more)


def _gemma3_text(vocab: int, *sizes: int, head_dim: int = 256, query_scalar: int = 256, window: int = 512) -> dict:
    more = {"head_dim": head_dim, "query_pre_attn_scalar": query_scalar, "sliding_window": window}
    return _decoder("gemma3_text", vocab, *sizes, max_position_embeddings=32768, sliding_window_pattern=6, **more)


def _gemma3(*sizes: int, **more: Any) -> dict[str, Any]:
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
        "vision_use_head": False,
    }
    text = _gemma3_text(262208, *sizes, window=1024, **more)
    return {"model_type": "gemma3", "text_config": text, "vision_config": vision, "mm_tokens_per_image": 256}


def _smollm2(*sizes: int) -> dict[str, Any]:
    more = {"max_position_embeddings": 8192, "rope_theta": 100000, "rms_norm_eps": 1e-5}
    return _decoder("llama", 49152, *sizes, tie_word_embeddings=True, **more)


def _gpt2(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {"model_type": "gpt2", "vocab_size": 50257, "n_embd": hidden, "n_layer": layers, "n_head": heads}


def _bert(hidden: int, mlp: int, layers: int, heads: int, vocab: int = 30522) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {"model_type": "bert", "vocab_size": vocab, **sizes}


def _t5(hidden: int, mlp: int, layers: int, heads: int) -> dict[str, Any]:
    sizes = {"d_model": hidden, "d_ff": mlp, "d_kv": 64, "num_layers": layers, "num_heads": heads}
    tokens = dict.fromkeys(("decoder_start_token_id", "pad_token_id"), 0)
    return {"model_type": "t5", "vocab_size": 32128, **tokens, **sizes}


CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "meta-llama/Llama-3.2-1B": _llama3(2048, 8192, 16, 32, 8, factor=32.0, head_dim=64, tie_word_embeddings=True),
    "meta-llama/Llama-3.2-3B": _llama3(3072, 8192, 28, 24, 8, factor=32.0, head_dim=128, tie_word_embeddings=True),
    "meta-llama/Llama-3.1-8B": _llama3(4096, 14336, 32, 32, 8),
    "meta-llama/Llama-3.1-70B": _llama3(8192, 28672, 80, 64, 8),
    "meta-llama/Llama-3.3-70B-Instruct": _llama3(8192, 28672, 80, 64, 8),
    "meta-llama/Meta-Llama-3-8B": _llama3(4096, 14336, 32, 32, 8, factor=None),
    "meta-llama/Meta-Llama-3-70B": _llama3(8192, 28672, 80, 64, 8, factor=None),
    "Qwen/Qwen2.5-0.5B": _qwen25(151936, 896, 4864, 24, 14, 2, tied=True),
    "Qwen/Qwen2.5-1.5B": _qwen25(151936, 1536, 8960, 28, 12, 2, tied=True),
    "Qwen/Qwen2.5-3B": _qwen25(151936, 2048, 11008, 36, 16, 2, tied=True),
    "Qwen/Qwen2.5-7B": _qwen25(152064, 3584, 18944, 28, 28, 4),
    "Qwen/Qwen2.5-14B": _qwen25(152064, 5120, 13824, 48, 40, 8),
    "Qwen/Qwen2.5-32B": _qwen25(152064, 5120, 27648, 64, 40, 8),
    "Qwen/Qwen2.5-72B": _qwen25(152064, 8192, 29568, 80, 64, 8),
    "Qwen/Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, 8, tied=True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, 8, tied=True),
    "Qwen/Qwen3-4B": _qwen3(2560, 9728, 36, 32, 8, tied=True),
    "Qwen/Qwen3-8B": _qwen3(4096, 12288, 36, 32, 8),
    "Qwen/Qwen3-14B": _qwen3(5120, 17408, 40, 40, 8),
    "Qwen/Qwen3-32B": _qwen3(5120, 25600, 64, 64, 8),
    "Qwen/Qwen3-30B-A3B": _qwen3(
        *(2048, 6144, 48, 32, 4),
        model_type="qwen3_moe",
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
        norm_topk_prob=True,
    ),
    "mistralai/Mistral-7B-v0.1": _decoder(
        "mistral", 32000, 4096, 14336, 32, 32, 8, sliding_window=4096, max_position_embeddings=32768
    ),
    "mistralai/Mistral-7B-v0.3": _decoder(
        "mistral", 32768, 4096, 14336, 32, 32, 8, sliding_window=None, rope_theta=1e6, max_position_embeddings=32768
    ),
    "mistralai/Mixtral-8x7B-v0.1": _decoder(
        "mixtral", 32000, 4096, 14336, 32, 32, 8, num_local_experts=8, num_experts_per_tok=2, rope_theta=1e6
    ),
    "google/gemma-2-2b": _gemma2(2304, 9216, 26, 8, 4),
    "google/gemma-2-9b": _gemma2(3584, 14336, 42, 16, 8),
    "google/gemma-2-27b": _gemma2(4608, 36864, 46, 32, 16, head_dim=128, query_scalar=144),
    "google/gemma-3-270m": _gemma3_text(262144, 640, 2048, 18, 4, 1),
    "google/gemma-3-1b-pt": _gemma3_text(262144, 1152, 6912, 26, 4, 1),
    "google/gemma-3-4b-pt": _gemma3(2560, 10240, 34, 8, 4),
    "google/gemma-3-12b-pt": _gemma3(3840, 15360, 48, 16, 8),
    "google/gemma-3-27b-pt": _gemma3(5376, 21504, 62, 32, 16, head_dim=128, query_scalar=168),
    "microsoft/Phi-3-mini-4k-instruct": _decoder(
        *("phi3", 32064, 3072, 8192, 32, 32, 32), max_position_embeddings=4096, pad_token_id=32000
    ),
    "microsoft/phi-4": _decoder(
        *("phi3", 100352, 5120, 17920, 40, 40, 10), max_position_embeddings=16384, pad_token_id=100349
    ),
    "microsoft/Phi-4-mini-instruct": _decoder(
        *("phi3", 200064, 3072, 8192, 32, 24, 8),
        max_position_embeddings=131072,
        partial_rotary_factor=0.75,
        tie_word_embeddings=True,
        pad_token_id=199999,
    ),
    "HuggingFaceTB/SmolLM2-135M": _smollm2(576, 1536, 30, 9, 3),
    "HuggingFaceTB/SmolLM2-360M": _smollm2(960, 2560, 32, 15, 5),
    "HuggingFaceTB/SmolLM2-1.7B": _smollm2(2048, 8192, 24, 32, 32),
    "openai-community/gpt2": _gpt2(768, 12, 12),
    "openai-community/gpt2-medium": _gpt2(1024, 24, 16),
    "openai-community/gpt2-large": _gpt2(1280, 36, 20),
    "openai-community/gpt2-xl": _gpt2(1600, 48, 25),
    "google-bert/bert-base-uncased": _bert(768, 3072, 12, 12),
    "google-bert/bert-base-cased": _bert(768, 3072, 12, 12, vocab=28996),
    "google-bert/bert-large-uncased": _bert(1024, 4096, 24, 16),
    "google-t5/t5-small": _t5(512, 2048, 6, 8),
    "google-t5/t5-base": _t5(768, 3072, 12, 12),
    "google-t5/t5-large": _t5(1024, 4096, 24, 16),
}


def _architecture_key(reference: str) -> str:
    """A hub id without its tuning suffix, in lower case."""
    return _VARIANT.sub("", reference.lower())


_BY_ARCHITECTURE = {_architecture_key(name): config for name, config in CONFIGS.items()}


def _letters_and_digits(name: str) -> str:
    """A name as its letters and digits alone: llama-3.2-1b, Llama3.2-1B and llama_3.2_1b are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _names() -> dict[str, str]:
    """Plain names of well-known models and of their tuned variants -> hub id."""
    found = {}
    for repository in CONFIGS:
        base = _VARIANT.sub("", repository)
        ids = [(base, repository), (repository, repository)]
        ids += [(base + suffix, base + suffix) for start, suffix in _TUNED.items() if base.startswith(start)]
        found |= {_letters_and_digits(name.rpartition("/")[2]): id for name, id in ids}
    return found | {_letters_and_digits(alias): repository for alias, repository in ALIASES.items()}


_BY_NAME = _names()


def resolve_alias(reference: str) -> str | None:
    """The hub id that an alias stands for, or the name of a well-known model without its owner, however it is written.
    None for anything else."""
    return None if "/" in reference else _BY_NAME.get(_letters_and_digits(reference))


def known_config(reference: str) -> dict[str, Any] | None:
    """The config.json values of a well-known model, by alias or hub id; None for any other model.

    They include `model_type`, so `transformers.AutoConfig.for_model(**values)` makes the config of them.
    """
    repository = resolve_alias(reference) or reference
    values = CONFIGS.get(repository) or _BY_ARCHITECTURE.get(_architecture_key(repository))
    return deepcopy(dict(values)) if values is not None else None  # transformers writes into what it is given


def suggest(reference: str) -> str:
    """A sentence that offers known names near an unknown one."""
    return did_you_mean(reference, [*ALIASES, *CONFIGS])
