"""Tiny models and batches for tests: made here, offline, in seconds.

The task is to count: a sequence goes up by a fixed number modulo 20. The models are trained to count by one, so
their weights mean something (methods that scale weights do nothing to random ones), and tests fine-tune them to
count by two. The classifier tells small first tokens from large ones, then even from odd ones.
"""

from __future__ import annotations

import atexit
import copy
import inspect
import shutil
import tempfile
from functools import cache
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    T5Config,
)

from knowledge.schema import Quantization, Task
from probes.source import load_model, resolve_model
from tests.probes.tokenizers import byte_tokenizer

VOCABULARY = 64
# From 5.24 transformers calls them a cache, and PEFT (0.21) finds no place for prefixes in a classifier.
CLASSIFIERS_TAKE_PREFIXES = "past_key_values" in inspect.signature(BertModel.forward).parameters
_NUMBERS, _FIRST_NUMBER_TOKEN = 20, 4
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    **_TOKENS,
}
_CONFIGS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, _DECODER),
    "qwen3": (Qwen3Config, {**_DECODER, "head_dim": 16}),
    "mistral": (MistralConfig, _DECODER),
    "gemma3": (Gemma3TextConfig, {**_DECODER, "head_dim": 16, "query_pre_attn_scalar": 16}),
    "phi3": (Phi3Config, _DECODER),
    "gpt2": (
        GPT2Config,
        {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, **_TOKENS}
        | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    ),
    # All experts are taken: where a choice is to be made, the processor's rounding makes it, and all that follows.
    "mixtral": (MixtralConfig, {**_DECODER, "num_local_experts": 2, "num_experts_per_tok": 2}),
    "bert": (
        BertConfig,
        {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        | {"num_attention_heads": 4, "max_position_embeddings": 128, "num_labels": 2}
        | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    ),
    "t5": (
        T5Config,
        {"vocab_size": VOCABULARY, "d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 2, "num_heads": 4}
        | {"dropout_rate": 0.0, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
    ),
}
ARCHITECTURES = tuple(_CONFIGS)
# Named as in the matrix of knowledge/seen.py.
QUANTIZED: dict[str, Quantization] = {**{f"{name}-nf4": "nf4" for name in ARCHITECTURES}, "llama-int8": "int8"}


def in_full(architecture: str) -> str:
    """The architecture without what is said of its quantisation: 'gpt2' for 'gpt2-nf4'."""
    return architecture.removesuffix("-nf4").removesuffix("-int8")


def tiny_task(architecture: str) -> Task:
    return {"bert": "sequence-classification", "t5": "seq2seq-lm"}.get(in_full(architecture), "causal-lm")


def tiny_model(architecture: str = "llama", *, trained: bool = True) -> PreTrainedModel:
    """A fresh model of 2 layers and hidden size 64 in eval mode; with `trained`, one that counts by one.

    Those of QUANTIZED are as probes load them, with their trained weights in 4 or 8 bits.
    """
    if architecture in QUANTIZED:
        return copy.deepcopy(_quantized(architecture))  # a fifth of the time that loading it takes
    model = _build(architecture)
    if trained:
        model.load_state_dict(_trained_weights(architecture))
    return model.eval()


def tiny_model_that_sees() -> PreTrainedModel:
    """A language model with a tower for images, whose config has what is of texts, its padding too, in a part."""
    text = {**_CONFIGS["gemma3"][1], "pad_token_id": None}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 28, "patch_size": 14}
    return AutoModelForCausalLM.from_config(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))


def tiny_batch(architecture: str = "llama", *, stride: int = 2, rows: int = 16, seed: int = 100) -> dict[str, Any]:
    """`rows` sequences of 16 tokens counting by `stride`, with labels: the same for the same arguments."""
    start = torch.randint(0, _NUMBERS, (rows, 1), generator=torch.Generator().manual_seed(seed))
    tokens = (start + stride * torch.arange(16)) % _NUMBERS + _FIRST_NUMBER_TOKEN
    task = tiny_task(architecture)
    if task == "causal-lm":
        inputs, labels = tokens, tokens.clone()
    elif task == "seq2seq-lm":
        inputs, labels = tokens[:, :8].contiguous(), tokens[:, 8:].contiguous()
    else:
        inputs, labels = tokens, (start[:, 0] < _NUMBERS // 2 if stride == 1 else start[:, 0] % 2 == 1).long()
    return {"input_ids": inputs, "attention_mask": torch.ones_like(inputs), "labels": labels}


def tiny_calibration(architecture: str = "llama") -> list[dict[str, Any]]:
    """Batches with labels as probes use them: the last positions only, for decoders."""
    batch = tiny_batch(architecture, seed=1)
    if tiny_task(architecture) == "causal-lm":
        batch["labels"] = batch["labels"][:, 1:]
    return [batch]


def _build(architecture: str) -> PreTrainedModel:
    config_class, settings = _CONFIGS[architecture]
    auto_class = {
        "causal-lm": AutoModelForCausalLM,
        "seq2seq-lm": AutoModelForSeq2SeqLM,
        "sequence-classification": AutoModelForSequenceClassification,
    }[tiny_task(architecture)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return auto_class.from_config(config_class(**settings), dtype=torch.float32)


@cache
def _quantized(architecture: str) -> PreTrainedModel:
    """Never run: bitsandbytes packs weights once more when they are first used."""
    folder = _folder_of(in_full(architecture))
    return load_model(resolve_model(folder), tiny_task(architecture), quantization=QUANTIZED[architecture])


@cache
def _folder_of(architecture: str) -> str:
    folder = tempfile.mkdtemp(prefix=f"advisor-tests-tiny-{architecture}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_model(architecture).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@cache
def _trained_weights(architecture: str) -> dict[str, torch.Tensor]:
    model = _build(architecture).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(120):
        model(**tiny_batch(architecture, stride=1, seed=step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()
