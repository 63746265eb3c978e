"""Commands that serve what was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advisor.text import in_shell
from knowledge.schema import Task

VLLM_DEFAULT_RANK = 16
# The values that vLLM's --max-lora-rank takes (vllm.config.lora, 0.33; tests/contracts/test_vllm.py).
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def served_as(capabilities: Mapping[str, Any], model_source: str, task: Task) -> str:
    """How vLLM serves a method's result: 'adapter', 'merged' or 'no'. Beside a GGUF file an adapter is not sure to
    load, and what is no language model, or has a trained head, is served otherwise: vLLM takes no `modules_to_save`."""
    if task != "causal-lm":
        return "no"
    kind = str(capabilities.get("vllm", "no"))
    return "merged" if kind == "adapter" and model_source == "gguf file" else kind


def serve_model(folder: Path, *, trusts_code: bool = False) -> str:
    """vLLM with a whole model, whose own code may run where `trusts_code`."""
    return f"vllm serve {in_shell(folder)}{_trust(trusts_code)}"


def classify_with(folder: Path) -> str:
    """A whole classifier asked in Python, with the names of its labels: vLLM is for language models."""
    # As in Python, and always in double quotes: the single ones are the shell's.
    place = json.dumps(str(folder), ensure_ascii=False)
    ask = f'pipeline("text-classification", {place})("a text")'
    return f"python -c {in_shell(f'from transformers import pipeline; print({ask})')}"


def serve_adapter(base: str, adapter: Path, rank: int, *, trusts_code: bool = False) -> str | None:
    """vLLM with the adapter beside its base model; None where the rank is above what it takes."""
    needed = next((size for size in VLLM_RANKS if size >= rank), None)
    if needed is None:
        return None
    flag = f" --max-lora-rank {needed}" if needed > VLLM_DEFAULT_RANK else ""
    module = in_shell(_module(str(adapter)))
    return f"vllm serve {in_shell(base)} --enable-lora --lora-modules {module}{flag}{_trust(trusts_code)}"


def _trust(trusts_code: bool) -> str:
    return " --trust-remote-code" if trusts_code else ""


def _module(path: str) -> str:
    """vLLM reads what has a comma in it as JSON."""
    return json.dumps({"name": "tuned", "path": path}) if "," in path else f"tuned={path}"
