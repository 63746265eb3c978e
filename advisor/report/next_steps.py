"""What to do with a recommendation: train, use the config, serve. As headings, words and commands to copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advisor.recommendation import CandidateReport, Result
from advisor.report.content import mark, shown_candidates
from advisor.result import facts_of_method
from advisor.text import clean, in_shell
from advisor.training.serving import classify_with, serve_adapter, serve_model, served_as


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
    steps = _training(result, folder)
    draws = result.planned_run.task == "text-to-image"
    if pick.peft_config is not None:
        model = "pipeline.transformer" if draws else "model"
        code = _python(_place(result, folder, "adapter_config.json"), model)
        words = "" if draws else _beside_the_config(result)
        steps.append(Step("Use the config in your own code", words, code))
    if draws:  # what serves image generators is not known here
        return steps
    return [*steps, _serving(result, pick, _place(result, folder, "train.py"))]


def paths_of_files(result: Result, folder: Path | None) -> list[str]:
    """The files as one can open them from where the command was given; their names where the folder is unknown."""
    return [clean(folder / name if folder else name, 300) for name in result.files]


def training_script(result: Result, folder: Path | None) -> str | None:
    """Where the script lies that trains without `advisor train`; None where there is no data to train on."""
    return next(
        (str(folder / name if folder else name) for name in result.files if Path(name).name == "train.py"), None
    )


def training_command(result: Result, folder: Path | None) -> str | None:
    """What to run now, ready to be copied."""
    script = training_script(result, folder)
    return f"advisor train {in_shell(Path(script).parent)}" if script else None


def choice_command(result: Result, folder: Path | None) -> str | None:
    """How to take another one instead, with one that may well suit; None where nothing comes near, or the user has
    chosen already."""
    if folder is None or not result.files or result.recommendation is None or result.recommendation.chosen_over:
        return None
    near = [c for c in shown_candidates(result) if mark(c, result) in ("frontier", "tie")]
    if not near:
        return None
    other = min(near, key=lambda c: (c.status == "eliminated", not c.on_frontier))  # they come best first
    return f"advisor choose {in_shell(folder)} {other.name}"


def serving_step(result: Result, folder: Path) -> Step | None:
    """How to serve what was trained."""
    return next((step for step in next_steps(result, folder) if step.heading == "Serve"), None)


def _training(result: Result, folder: Path | None) -> list[Step]:
    """Nothing where there is no data to train on."""
    command, script = training_command(result, folder), training_script(result, folder)
    if command is None or script is None:
        return []
    words = "To its end with progress, resume and a comparison of predicted and reached. "
    alone = result.training is None or result.training.setup_by is None
    words += "Without the advisor" if alone else "By a script that imports the advisor for the method's preparation"
    steps = [Step("Train", f"{words}: python {in_shell(script)}", command)]
    if other := choice_command(result, folder):
        known = "was raced" if result.race else "the table knows"
        words = f"Any other that {known}, with its config, script and report, in a folder of its own. For instance:"
        steps.append(Step("Or take another one", words, other))
    return steps


def _place(result: Result, folder: Path | None, name: str) -> Path:
    """The folder in which the file of that name was written."""
    return next((Path(f).parent for f in paths_of_files(result, folder) if Path(f).name == name), folder or Path("DIR"))


def _beside_the_config(result: Result) -> str:
    """What makes the method beside its config; '' where that is all."""
    plan = result.training
    facts = facts_of_method(result.recommendation) if plan is None else dict(plan)
    parts = []
    if facts["optimizer"] != "torch.optim:AdamW":
        settings = ", ".join(f"{key}={value!r}" for key, value in sorted(facts["optimizer_settings"].items()))
        parts.append(f"the optimizer {facts['optimizer'].replace(':', '.')}{f' ({settings})' if settings else ''}")
    if facts["setup_by"] is not None:
        parts.append("a preparation of the model by code of its own")
    if facts["through_model_loss"]:
        parts.append("a term of the loss, which the model's own loss holds")
    place = "as train.py has it" if plan else "as the script has it that is written where data is given"
    return f"The method is more than its config: {' and '.join(parts)}, {place}." if parts else ""


def _python(folder: Path, model: str) -> str:
    return (
        "import peft\n\n"
        f"config = peft.PeftConfig.from_pretrained({str(folder)!r})\n"
        f"{model} = peft.get_peft_model({model}, config)"
    )


def _serving(result: Result, pick: CandidateReport, folder: Path) -> Step:
    """How vLLM serves what was trained, which lies in `folder`/adapter."""
    adapter = folder / "adapter"
    by_vllm = result.planned_run.task == "causal-lm"
    if served_as(pick.capabilities, result.model.source, result.planned_run.task) == "adapter":
        base, trusts_code = result.model.location or result.model.reference, result.trusts_model_code
        command = serve_adapter(base, adapter, _rank(pick, adapter), trusts_code=trusts_code)
        if command is not None:
            return Step("Serve", "vLLM loads the adapter beside the base model.", command)
    if pick.capabilities.get("mergeable") or pick.peft_config is None:
        words = "Merge it into the full-precision base model and serve that like any other."
        if _converts(pick):
            words += " With --to lora it becomes a LoRA adapter instead, and its error is measured."
        code = f"advisor merge {in_shell(folder)}"
        if by_vllm:
            code += f"\n{serve_model(folder / 'merged', trusts_code=result.trusts_model_code)}"
        elif result.planned_run.task == "sequence-classification" and not result.trusts_model_code:
            code += f"\n{classify_with(folder / 'merged')}"
        return Step("Serve", words, code)
    why = "vLLM does not load this adapter and it" if by_vllm else "It"
    return Step("Serve", f"{why} cannot be merged: serve with transformers and peft.")


def _converts(pick: CandidateReport) -> bool:
    """Whether PEFT was seen to make a LoRA of such an adapter."""
    from knowledge.seen import matrix

    return any(seen.lora_error is not None for seen in matrix().get(pick.name, {}).values())


def _rank(pick: CandidateReport, adapter: Path) -> int:
    """The rank of the LoRA that is or will be saved; PEFT's default is 8."""
    from knowledge.methods import get_method
    from probes.merging import saved_rank

    if (saved := saved_rank(adapter)) is not None:
        return saved
    config = pick.peft_config or {}
    ranks = [config.get("r", 8), *dict(config.get("rank_pattern") or {}).values()]
    return get_method(pick.name).saved_rank_factor * max((rank for rank in ranks if isinstance(rank, int)), default=8)
