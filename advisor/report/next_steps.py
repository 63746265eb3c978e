"""What to do with a recommendation: train, use the config, serve. As headings, words and commands to copy."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from advisor.recommendation import CandidateReport, Result
from advisor.report.content import next_commands
from advisor.text import clean

VLLM_DEFAULT_RANK = 16
# The values that vLLM's --max-lora-rank takes (vllm.config.lora, 0.11).
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Step:
    heading: str
    words: str = ""
    code: str = ""


def next_steps(result: Result) -> list[Step]:
    """The steps in their order; none without a recommendation."""
    pick = result.pick
    if pick is None:
        return []
    steps = [Step("Train", code=command) for command in next_commands(result)[:1]]
    if pick.peft_config is not None:
        steps.append(Step("Use the config in your own code", code=_python(result)))
    return [*steps, _serving(result, pick)]


def _python(result: Result) -> str:
    folder = next((str(Path(f).parent) for f in result.files if Path(f).name == "adapter_config.json"), "DIR")
    return (
        "import peft\n\n"
        f"config = peft.PeftConfig.from_pretrained({clean(folder)!r})\n"
        "model = peft.get_peft_model(model, config)"
    )


def _serving(result: Result, pick: CandidateReport) -> Step:
    """How vLLM serves what was trained."""
    kind = pick.capabilities.get("vllm")
    if kind == "adapter":
        model = shlex.quote(clean(result.model.location or result.model.reference))
        rank = _rank(pick)
        needed = next((size for size in VLLM_RANKS if size >= rank), None)
        if needed is not None:
            flag = f" --max-lora-rank {needed}" if needed > VLLM_DEFAULT_RANK else ""
            words = "vLLM loads the adapter beside the base model."
            return Step("Serve", words, f"vllm serve {model} --enable-lora --lora-modules tuned=ADAPTER_FOLDER{flag}")
    if kind in ("adapter", "merged") and pick.capabilities.get("mergeable"):
        return Step("Serve", "Merge the adapter into the full-precision base model and serve it like any other.")
    return Step("Serve", "vLLM does not load this adapter and it cannot be merged: serve with transformers and peft.")


def _rank(pick: CandidateReport) -> int:
    """The largest rank in the config; PEFT's default is 8."""
    config = pick.peft_config or {}
    ranks = [config.get("r", 8), *dict(config.get("rank_pattern") or {}).values()]
    return max((rank for rank in ranks if isinstance(rank, int)), default=8)
