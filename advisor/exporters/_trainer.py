"""What the exporters for other trainers share: which runs they can do, what of a LoRA config they know, and YAML.

These trainers fine-tune causal language models, load safetensors folders or hub ids, and read their own config format.
Whatever they cannot say is refused with the reason: a config that trains something else is worse than none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from advisor.exporters.base import NotExpressible, canonical, model_location, provenance, recommended
from advisor.recommendation import Result, TrainingPlan
from advisor.text import clean
from advisor.training_arguments import in_parts, training_arguments
from knowledge.places import at_home
from knowledge.schema import PlannedRun
from probes.reader import hub_place

UNWRAP = "Take the rows out of it, e.g. `jq -c '.[][]'`, or use the training script (--to script)."
SCRIPT = "Use the training script instead (--to script)."
ADAMW, LORA_PLUS = "torch.optim:AdamW", "peft.optimizers:create_loraplus_optimizer"
LORA_KEYS = frozenset({"peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules"})
CHAT_FORMATS = ("messages", "alpaca", "sharegpt")
ROWS_LOOKED_AT = 100
FORMS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True)
class TrainerRun:
    """A recommended run that a trainer of causal language models can do."""

    result: Result
    plan: TrainingPlan
    config: Mapping[str, Any]
    data_form: str | None
    """json, csv or parquet; None for a dataset on the hub."""

    @property
    def run(self) -> PlannedRun:
        """As its probe did it."""
        assert self.result.pick is not None
        return in_parts(self.result.planned_run, self.result.pick.micro_batches)

    @property
    def model(self) -> str:
        return model_location(self.result)

    @property
    def data(self) -> str:
        """Absolute path of the data file, or the id of a hub dataset."""
        if self.data_form is None:
            return hub_place(self.plan.data_path)[0]
        return str(at_home(self.plan.data_path).resolve())

    def part(self, name_of_subset: str) -> dict[str, str]:
        """Which split is read, and of a hub dataset which subset, under the trainer's name for it."""
        if self.data_form is not None:
            return {"split": "train"}
        _, subset, split = hub_place(self.plan.data_path)
        return {"split": split} | ({name_of_subset: subset} if subset else {})

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
    path = Path(facts.plan.data_path)
    form = FORMS.get(path.suffix.lower())
    if form is None and path.suffix.lower() in (".gz", ".bz2", ".zst", ".xz", ".tsv"):
        raise NotExpressible(
            f"{target} is not sure to read {path.suffix} files.", "Decompress the data, or use the script."
        )
    run = TrainerRun(result, facts.plan, canonical(facts.pick.peft_config), form)
    if _has_other_separator(path):
        raise NotExpressible(f"{target} reads {path.name} as separated by commas, which it is not.", SCRIPT)
    if others := {key: column for key, column in facts.plan.data_columns.items() if key != column}:
        named = ", ".join(f"{column} to {key}" for key, column in others.items())
        raise NotExpressible(f"{target} looks for other columns than the data has.", f"Rename {named}, or: {SCRIPT}")
    if _is_around_the_rows(path):
        raise NotExpressible(f"{target} would read {path.name}, an object around its rows, as a single row.", UNWRAP)
    if facts.plan.data_format == "messages" and columns_among(run, ["system"]):
        raise NotExpressible(f"{target} does not read `system` beside the messages.", SCRIPT)
    return run


def _is_around_the_rows(path: Path) -> bool:
    """Whether a JSON file, where it is here, is one object that holds the array of rows, as `{"data": [...]}`."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    from probes.reader import is_json_lines

    with path.open("rb") as file:
        head = file.read(2**16)
    return head.lstrip().startswith(b"{") and not is_json_lines(head)


def _has_other_separator(path: Path) -> bool:
    """Whether the values of a CSV file, where it is here, are separated by something else than commas."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    from probes.tables import separator_of

    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return separator_of(file.readline()) != ","


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
        if key not in LORA_KEYS and key not in also and value != _plain(defaults.get(key)):
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
    first = next(_rows(run), None)
    return first is None or isinstance(first.get("prompt"), str)


def may_join_at_the_border(run: TrainerRun) -> bool:
    """Whether a tokenizer that is given prompt and completion as one text may make a token of the end of one and the
    beginning of the other, as the first rows show; True where the file is not here."""
    rows = list(islice(_rows(run), ROWS_LOOKED_AT))
    borders = [(str(row.get("prompt", ""))[-1:], str(row.get("completion", ""))[:1]) for row in rows]
    return not rows or any(end.isspace() or not begin.isspace() for end, begin in borders)


def columns_among(run: TrainerRun, names: Collection[str]) -> set[str] | None:
    """Those of `names` that some row has; None where the file is not here."""
    missing = set(names)
    if not _is_here(run):
        return None
    for row in _rows(run):
        missing -= row.keys()
        if not missing:
            break
    return set(names) - missing


def has_tools(run: TrainerRun) -> bool:
    """Whether some conversation comes with tools, or calls one in a turn of ShareGPT's; False where the file is not
    here."""
    return any(row.get("tools") or _calls_a_tool(row.get("conversations")) for row in _rows(run))


def _calls_a_tool(turns: Any) -> bool:
    return isinstance(turns, list) and any(
        isinstance(turn, Mapping) and turn.get("from") == "function_call" for turn in turns
    )


def _is_here(run: TrainerRun) -> bool:
    return run.data_form is not None and Path(run.data).is_file()


def _rows(run: TrainerRun) -> Iterator[Mapping[str, Any]]:
    """The rows of a file that is here; of others none."""
    from probes.reader import read_rows
    from probes.skipped import SkipLedger

    if _is_here(run):
        yield from (row for _, row in read_rows(run.data, SkipLedger(run.data, budget=1.0)))


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


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value
