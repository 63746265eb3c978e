"""What the exporters for other trainers share: which runs they can do, what of a LoRA config they know, and YAML.

These trainers fine-tune causal language models, load safetensors folders or hub ids, and read their own config format.
Whatever they cannot say is refused with the reason: a config that trains something else is worse than none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from advisor.exporters._trainer_data import (
    SCRIPT,
    TEXT_COLUMNS,
    DataPlace,
    changed_in_a_table,
    columns_among,
    data_place,
    has_turns_of_no_weight,
)
from advisor.exporters.base import NotExpressible, canonical, model_location, provenance, recommended
from advisor.recommendation import Result, TrainingPlan
from advisor.text import clean, plural
from advisor.training.training_arguments import in_parts, training_arguments
from knowledge.schema import PlannedRun
from probes.data.hold_out import SAME_PROMPT

ADAMW, LORA_PLUS = "torch.optim:AdamW", "peft.optimizers:create_loraplus_optimizer"
LORA_KEYS = frozenset({"peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules"})
CHAT_FORMATS = ("messages", "alpaca", "sharegpt")
ROWS_LOOKED_AT = 100


@dataclass(frozen=True)
class TrainerRun:
    """A recommended run that a trainer of causal language models can do."""

    result: Result
    plan: TrainingPlan
    config: Mapping[str, Any]
    data: DataPlace
    eval_data: DataPlace | None
    """The user's own rows to hold out."""

    @property
    def run(self) -> PlannedRun:
        """As its probe did it."""
        assert self.result.pick is not None
        return in_parts(self.result.planned_run, self.result.pick.micro_batches)

    @property
    def model(self) -> str:
        return model_location(self.result)

    @property
    def trust(self) -> dict[str, bool]:
        """The key by which a model's own code may run, where the recommendation was allowed to."""
        return {"trust_remote_code": True} if self.result.trusts_model_code else {}

    @property
    def held_out_share(self) -> float:
        """The share of rows that the probes held out; the trainer draws its own rows."""
        data = self.result.data
        share = data.eval_rows / max(1, data.eval_rows + data.train_rows) if data else 0.1
        return float(f"{share:.4g}")  # of millions of rows too no zero, which trainers refuse beside evaluations


def trainer_run(result: Result, target: str) -> TrainerRun:
    """Checks what no config file of these trainers can say. Raises NotExpressible and BadInput."""
    facts = recommended(result)
    if result.planned_run.task != "causal-lm":
        raise NotExpressible(
            f"The {target} config is for causal language models, not {result.planned_run.task}.", SCRIPT
        )
    if result.model.source == "gguf file":
        raise NotExpressible(f"{target} loads no GGUF file.", f"{SCRIPT} Or give the model's safetensors folder.")
    if facts.pick.peft_config is None:
        raise NotExpressible(f"{facts.pick.title} adds no adapter.", SCRIPT)
    if facts.plan.setup_by is not None:
        raise NotExpressible(f"{facts.pick.title} prepares the model by code that {target} does not have.", SCRIPT)
    if facts.plan.data_format in CHAT_FORMATS and not facts.plan.uses_chat_template:
        raise NotExpressible(
            f"The model has no chat template, and {target} does not know the plain form of turns that the probes used.",
            SCRIPT,
        )
    plan = facts.plan
    eval_data = data_place(plan.eval_path, target) if plan.eval_path else None
    run = TrainerRun(result, plan, canonical(facts.pick.peft_config), data_place(plan.data_path, target), eval_data)
    if others := {key: column for key, column in facts.plan.data_columns.items() if key != column}:
        named = ", ".join(f"{column} to {key}" for key, column in others.items())
        raise NotExpressible(f"{target} looks for other columns than the data has.", f"Rename {named}, or: {SCRIPT}")
    _check_rows(run, target)
    return run


def _check_rows(run: TrainerRun, target: str) -> None:
    """Raises NotExpressible for rows of which the trainer would train something else than the probes did."""
    kind = run.plan.data_format
    if kind == "messages" and columns_among(run.data, ["system"]):
        raise NotExpressible(f"{target} does not read `system` beside the messages.", SCRIPT)
    if kind in ("messages", "prompt-completion") and has_turns_of_no_weight(run.data):
        raise NotExpressible(f"{target} trains the turns with a weight of 0 too.", SCRIPT)
    for data in filter(None, (run.data, run.eval_data)):
        if changed := changed_in_a_table(data, TEXT_COLUMNS.get(kind, ())):
            read = f"{target} guesses the types of a table: of the texts in {data.path}, {changed},"
            raise NotExpressible(f"{read} it makes numbers or nothing.", f"Write them as JSON Lines, or: {SCRIPT}")


def trainer_arguments(run: TrainerRun) -> dict[str, Any]:
    """The run in the words of transformers' trainer, with evaluations and checkpoints, for those built on it."""
    planned = run.run
    return {
        **training_arguments(planned, run.plan.learning_rate, run.plan.weight_decay),
        "optim": "adamw_torch",
        "per_device_eval_batch_size": planned.batch_size,
        "eval_strategy": "steps",
        "eval_steps": max(1, planned.max_steps // 5),
        "save_strategy": "steps",
        "save_steps": max(1, planned.max_steps // 5),
        "logging_steps": max(1, planned.max_steps // 50),
        "report_to": "none",
    }


def check_lora(run: TrainerRun, target: str, also: Collection[str] = ()) -> None:
    """Raises NotExpressible where the config is no LoRA, or sets what `target` has no key for to other than PEFT's
    default. `also` names the keys that it knows beside the common ones."""
    kind = run.config.get("peft_type")
    if kind != "LORA":
        raise NotExpressible(f"{target} has no setting for adapters of the type {kind}.", SCRIPT)
    import peft

    defaults = peft.LoraConfig().to_dict()
    for key, value in run.config.items():
        if key not in LORA_KEYS and key not in also and value != _sorted_if_set(defaults.get(key)):
            raise NotExpressible(f"{target} has no setting for {key} = {value!r} of LoRA.", SCRIPT)
    if not run.config.get("target_modules"):
        raise NotExpressible(f"{target} needs the names of the adapted modules.", SCRIPT)


def check_optimizer(run: TrainerRun, target: str, known: Sequence[str] = (ADAMW,)) -> None:
    """Raises NotExpressible for optimizers other than the `known`, and for further settings of AdamW."""
    if run.plan.optimizer not in known:
        raise NotExpressible(f"{target} has no setting for the optimizer {run.plan.optimizer}.", SCRIPT)
    if run.plan.optimizer == ADAMW and run.plan.optimizer_settings:
        raise NotExpressible(f"{target} export knows no settings {dict(run.plan.optimizer_settings)} of AdamW.", SCRIPT)


def lora_plus_ratio(run: TrainerRun) -> dict[str, float]:
    """How much faster B learns than A, under the name that the trainers took over from PEFT; empty without LoRA+."""
    if run.plan.optimizer != LORA_PLUS:
        return {}
    return {"loraplus_lr_ratio": float(run.plan.optimizer_settings["loraplus_lr_ratio"])}


def prompts_are_text(run: TrainerRun) -> bool:
    """Whether prompt and completion are strings, as the first row shows; True where the file is not here."""
    first = next(run.data.rows(), None)
    return first is None or isinstance(first.get("prompt"), str)


def may_join_at_the_border(run: TrainerRun) -> bool:
    """Whether a tokenizer that is given prompt and completion as one text may make a token of the end of one and the
    beginning of the other, as the first rows show; True where the file is not here."""
    rows = list(islice(run.data.rows(), ROWS_LOOKED_AT))
    borders = [(str(row.get("prompt", ""))[-1:], str(row.get("completion", ""))[:1]) for row in rows]
    return not rows or any(end.isspace() or not begin.isspace() for end, begin in borders)


def about_held_out(run: TrainerRun, target: str) -> list[str]:
    """How the held-out rows differ from those of the probes."""
    if run.eval_data is None:
        return [f"{target} draws its own held-out rows."]
    shared = run.result.data.dropped.get(SAME_PROMPT, 0) if run.result.data else 0
    left_out = f" {plural(shared, 'row')} of the data that the probes left out for having a prompt of them are trained."
    return [f"{target} evaluates all rows of your file.{left_out if shared else ''}"]


ABOUT_GPUS = "The batch is that of one GPU: where there are several, run it with CUDA_VISIBLE_DEVICES=0."


def header(result: Result, *lines: str) -> str:
    """Comment lines for the top of a YAML file."""
    return "".join(f"# {clean(line, 400)}\n" for line in (*provenance(result), *lines)) + "\n"


def yaml_text(values: Mapping[str, Any]) -> str:
    """`values` as YAML that versions 1.1 and 1.2 read alike: strings in double quotes as in JSON, floats always with a
    point (1.0e-05: without it YAML 1.1 reads a string)."""
    return "".join(_entry(key, value) for key, value in values.items())


def _entry(key: str, value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        items = []
        for item in value:
            lines = "".join(f"    {k}: {_scalar(v)}\n" for k, v in item.items())
            items.append("  - " + lines[4:])
        return f"{key}:\n{''.join(items)}"
    return f"{key}: {_scalar(value)}\n"


def _scalar(value: Any) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return json.dumps(value)
    if isinstance(value, float):
        text = repr(value)
        return re.sub(r"^(-?\d+)e", r"\1.0e", text)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {_scalar(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(v) for v in value) + "]"
    return json.dumps(str(value))


def _sorted_if_set(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value
