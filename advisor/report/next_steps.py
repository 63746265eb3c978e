"""What to do with a recommendation: train, use the config, serve. As headings, words and commands to copy."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from advisor.recommendation import CandidateReport, Result
from advisor.report.content import paths_of_files, training_command
from advisor.text import clean

VLLM_DEFAULT_RANK = 16
# The values that vLLM's --max-lora-rank takes (vllm.config.lora, 0.11).
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Step:
    heading: str
    words: str = ""
    code: str = ""


def next_steps(result: Result, folder: Path | None = None) -> list[Step]:
    """The steps in their order; none without a recommendation. `folder` is where the files of the result lie."""
    pick = result.pick
    if pick is None:
        return []
    command = training_command(result, folder)
    steps = [Step("Train", code=command)] if command else []
    if pick.peft_config is not None:
        steps.append(
            Step("Use the config in your own code", code=_python(_place(result, folder, "adapter_config.json")))
        )
    return [*steps, _serving(result, pick, _place(result, folder, "train.py") / "adapter")]


def _place(result: Result, folder: Path | None, name: str) -> Path:
    """The folder in which the file of that name was written."""
    return next((Path(f).parent for f in paths_of_files(result, folder) if Path(f).name == name), folder or Path("DIR"))


def _python(folder: Path) -> str:
    return (
        "import peft\n\n"
        f"config = peft.PeftConfig.from_pretrained({clean(folder)!r})\n"
        "model = peft.get_peft_model(model, config)"
    )


def _serving(result: Result, pick: CandidateReport, adapter: Path) -> Step:
    """How vLLM serves what was trained. The training script leaves it in `adapter`."""
    kind = pick.capabilities.get("vllm")
    if kind == "adapter":
        model = shlex.quote(clean(result.model.location or result.model.reference))
        rank = _rank(pick)
        needed = next((size for size in VLLM_RANKS if size >= rank), None)
        if needed is not None:
            flag = f" --max-lora-rank {needed}" if needed > VLLM_DEFAULT_RANK else ""
            words = "vLLM loads the adapter beside the base model."
            module = shlex.quote(f"tuned={clean(adapter)}")
            return Step("Serve", words, f"vllm serve {model} --enable-lora --lora-modules {module}{flag}")
    if kind in ("adapter", "merged") and pick.capabilities.get("mergeable"):
        return Step("Serve", "Merge the adapter into the full-precision base model and serve it like any other.")
    return Step("Serve", "vLLM does not load this adapter and it cannot be merged: serve with transformers and peft.")


def _rank(pick: CandidateReport) -> int:
    """The largest rank in the config; PEFT's default is 8."""
    config = pick.peft_config or {}
    ranks = [config.get("r", 8), *dict(config.get("rank_pattern") or {}).values()]
    return max((rank for rank in ranks if isinstance(rank, int)), default=8)
