"""PEFT's methods that answer another question than "which method should I fine-tune with?".

They are listed, so that nobody looks for them in vain, and are never candidates.
"""

from __future__ import annotations

from knowledge.methods.base import Capabilities, Family, Method


def _listed(name: str, title: str, peft_type: str, family: Family, summary: str, paper: str, why: str) -> Method:
    return Method(
        name=name,
        title=title,
        peft_type=peft_type,
        family=family,
        summary=summary,
        paper=paper,
        settings_source="none: it is not tried",
        learning_rates=(1e-4, 3e-4, 1e-3),
        capabilities=Capabilities(mergeable=False, identity_start=False, restores_base=False, quantized=()),
        special_purpose=why,
    )


METHODS = (
    _listed(
        "qa-lora",
        "QA-LoRA",
        "LORA",
        "low-rank",
        "LoRA with grouped inputs, so that it merges into quantised weights without loss. For GPTQ models.",
        "Xu et al., 2023, arXiv 2309.14717",
        "it needs a base quantised by GPTQ",
    ),
    _listed(
        "alora",
        "Activated LoRA",
        "LORA",
        "low-rank",
        "LoRA that acts only after certain tokens appear in the text. The cache of the base stays valid before them.",
        "Greenewald et al., 2025, arXiv 2504.12397",
        "it needs invocation tokens in every sample",
    ),
    _listed(
        "lora-layer-replication",
        "LoRA with layer replication",
        "LORA",
        "low-rank",
        "Repeats layers of the model, each copy with a LoRA of its own. Makes a deeper model without new weights.",
        "Kim et al., 2023, arXiv 2312.15166",
        "it changes the model's depth and cannot be merged",
    ),
    _listed(
        "arrow",
        "Arrow",
        "LORA",
        "low-rank",
        "Routes each token to the fitting ones among trained LoRA adapters. Combines adapters without training.",
        "Ostapenko et al., 2024, arXiv 2405.11157",
        "it combines LoRA adapters that are trained already",
    ),
    _listed(
        "x-lora",
        "X-LoRA",
        "XLORA",
        "low-rank",
        "Trains a gate that mixes several trained LoRA adapters token by token. A mixture of experts made of adapters.",
        "Buehler and Buehler, 2024, arXiv 2402.07148",
        "it mixes LoRA adapters that are trained already",
    ),
    _listed(
        "poly",
        "Poly",
        "POLY",
        "low-rank",
        "Shares an inventory of small LoRA skills between many tasks and learns which task uses which. For multi-task "
        "training.",
        "Ponti et al., 2022, arXiv 2202.13914",
        "it needs a task id with every sample",
    ),
    _listed(
        "multitask-prompt-tuning",
        "Multitask prompt tuning",
        "MULTITASK_PROMPT_TUNING",
        "prompt",
        "Learns one shared prompt and a small change of it for each of many tasks. For transfer between tasks.",
        "Wang et al., 2023, arXiv 2303.02861",
        "it needs a task id with every sample",
    ),
    _listed(
        "cpt",
        "Context-aware prompt tuning",
        "CPT",
        "prompt",
        "Starts a prompt from in-context examples and trains it without letting them drift far. For a few examples.",
        "Blau et al., 2024, arXiv 2410.17222",
        "it needs each token's part (instruction, input, answer) marked in every sample",
    ),
    _listed(
        "cartridge",
        "Cartridge",
        "CARTRIDGE",
        "prompt",
        "Trains a key-value cache that stands for a long document. Replaces reading the document at every request.",
        "Eyuboglu et al., 2025, arXiv 2506.06266",
        "it compresses one text that the model should know, by distillation",
    ),
    _listed(
        "shadow",
        "ShadowPEFT",
        "SHADOW",
        "low-rank",
        "Runs a small network beside the layers of the model that corrects their outputs. Can be detached at once.",
        "PEFT's documentation",
        "it adds a side network with a loss of its own that works on plain decoders only and cannot be merged",
    ),
    _listed(
        "trainable-tokens",
        "Trainable tokens",
        "TRAINABLE_TOKENS",
        "bias-or-norm",
        "Trains the embeddings of chosen tokens and nothing else. For teaching new or special tokens to a model.",
        "PEFT's documentation",
        "it needs the ids of the tokens to train",
    ),
)
