"""train.py: one readable file that runs the recommended fine-tune with torch, transformers and peft alone. Only methods
that prepare the model by code of their own (`TrainingPlan.setup_by`) import that from the advisor."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from string import Template

from advisor.deciding.quality import TABLE_RANK
from advisor.exporters import _train_parts as parts
from advisor.exporters._train_data import data_section, held_out_settings, place_of
from advisor.exporters._train_evaluation import EVALUATION, MEAN_F1, RIGHT_SHARE
from advisor.exporters._train_section import has_head, literal, source, training_section
from advisor.exporters.base import (
    NotExpressible,
    Recommended,
    canonical,
    how_found,
    loads_gguf,
    provenance,
    recommended,
    script_model_location,
)
from advisor.files import write_text
from advisor.recommendation import Prediction, Result
from advisor.text import clean, duration_text, plural, quality_text
from knowledge.schema import AUTO_CLASSES
from probes import adapters, batching, forward
from probes.metrics import BUILT_IN, MACRO_F1, macro_f1

NAME = "script"
TITLE = "training script"

_FORWARD_FUNCTIONS = (
    *(batching.batch_order, batching.collate, batching._collate_causal, batching._padded),
    *(forward.forward_inputs, forward.label_logits, forward.label_loss),
    *(forward._classifies_at_the_end, forward._padded_on_the_left, forward._is_prompt_learning),
    *(forward._count_positions, forward._with_positions),
)
_STANDARD_MODULES = ("argparse", "bz2", "csv", "gzip", "inspect", "io", "json", "lzma", "math", "random", "re", "time")
_STANDARD_NAMES = {
    "Any": "typing",
    "Mapping": "collections.abc",
    "Path": "pathlib",
    "chain": "itertools",
    "partial": "functools",
}
_OTHER_MODULES = {
    "datasets": "datasets",
    "np": "numpy as np",
    "peft": "peft",
    "pyarrow": "pyarrow.parquet",
    "torch": "torch",
}


def export(folder: Path, result: Result) -> list[Path]:
    """Writes train.py. Raises NotExpressible for tasks that are not of text and for files it cannot read."""
    return [write_text(folder / "train.py", training_script(result), executable=True)]


def training_script(result: Result) -> str:
    """The source of train.py."""
    facts = recommended(result)
    if result.planned_run.task not in AUTO_CLASSES:
        raise NotExpressible(f"There is no training script for {result.planned_run.task}.", "Use the PEFT config.")
    sections = [
        _settings(facts),
        _banner("the data, read and split as the probes did"),
        data_section(facts),
        _banner("batches and the forward pass"),
        *map(source, _FORWARD_FUNCTIONS),
        _evaluation(facts),
        _banner("training"),
        training_section(facts),
    ]
    body = re.sub(r"\n{4,}", "\n\n\n", "".join(sections)).lstrip("\n")
    return _head(facts, body) + body


def _head(facts: Recommended, body: str) -> str:
    result = facts.result
    return Template(parts.HEAD).substitute(
        model=_comment(result.model.reference),
        title=_comment(facts.pick.title),
        how_found=how_found(result),
        how_complete="complete and self-contained" if facts.plan.setup_by is None else "its preparation imported",
        provenance="\n".join(textwrap.fill(_comment(line), 100) for line in provenance(result)),
        expectation=_expectation(facts),
        size=plural(result.planned_run.max_steps, "optimizer step"),
        packages=_packages(facts, body),
        imports=_imports(body),
    )


def _imports(body: str) -> str:
    """Import statements for the modules and names that the script uses."""
    names = {f"from {module} import {name}" for name, module in _STANDARD_NAMES.items() if _uses(body, name)}
    standard = [f"import {name}" for name in _STANDARD_MODULES if _uses(body, rf"{name}\.")] + sorted(names)
    others = [f"import {module}" for name, module in _OTHER_MODULES.items() if _uses(body, rf"{name}\.")]
    classes = sorted(name for name in (*AUTO_CLASSES.values(), "AutoTokenizer", "BitsAndBytesConfig") if name in body)
    ours = ["from knowledge.methods import get_method"] if "get_method(" in body else []
    ours += ["from probes import adapters"] if _uses(body, r"adapters\.") else []
    return "\n".join([*standard, "", *others, *ours, f"from transformers import {', '.join(classes)}"])


def _uses(body: str, pattern: str) -> bool:
    return re.search(rf"(?<![\w.\"'`]){pattern}(?!\w*[\"'`])", body) is not None


def _packages(facts: Recommended, body: str) -> str:
    names = ["torch", "transformers"]
    names += [name for name in ("peft", "pyarrow", "datasets") if _uses(body, rf"{name}\.")]
    names += ["gguf"] if loads_gguf(facts.result) else []
    names += ["bitsandbytes"] if facts.result.planned_run.quantization != "none" else []
    names += ["peft-advisor (for what the method does beside its PEFT config)"] if facts.plan.setup_by else []
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _expectation(facts: Recommended) -> str:
    pick, profile = facts.pick, facts.result.data
    sampled = profile is not None and profile.tokenised_rows < profile.usable_rows
    other_rows = " It draws from all rows; the probes drew from a sample of them." if sampled else ""
    predictions = {p.metric: p for p in (pick.predicted, pick.predicted_loss) if p and p.metric != TABLE_RANK}
    if not predictions:
        return f"No prediction was made for it.{other_rows}"
    text = f"Predicted at the end: {', '.join(map(_in_words, predictions.values()))}"
    place = " where the probes ran" if facts.result.device.planned else ""
    text += f"; it takes about {duration_text(pick.planned_run_s)}{place}." if pick.planned_run_s else "."
    return textwrap.fill(text + other_rows, 100)


def _in_words(p: Prediction) -> str:
    low, high = quality_text(p.low, p.metric), quality_text(p.high, p.metric)
    return f"{_comment(p.metric)} {quality_text(p.value, p.metric)} (80 % interval {low} to {high})"


def _settings(facts: Recommended) -> str:
    run, plan, pick = facts.result.planned_run, facts.plan, facts.pick
    config = None if pick.peft_config is None else canonical(pick.peft_config)
    text = Template(parts.SETTINGS).substitute(
        MODEL=literal(script_model_location(facts.result)),
        DATA=literal(place_of(plan.data_path)),
        PEFT_CONFIG=literal(config),
        TASK=literal(run.task),
        METRIC=literal(_metric(facts)),
        LEARNING_RATE=literal(plan.learning_rate),
        WEIGHT_DECAY=literal(plan.weight_decay),
        MAX_STEPS=run.max_steps,
        WARMUP_STEPS=run.warmup_steps,
        SCHEDULER=literal(run.scheduler),
        BATCH_SIZE=run.batch_size,
        GRADIENT_ACCUMULATION_STEPS=run.gradient_accumulation_steps,
        GRADIENT_CHECKPOINTING=run.gradient_checkpointing,
        MAX_GRAD_NORM=literal(run.max_grad_norm),
        MAX_LENGTH_TOKENS=run.max_length_tokens,
        DTYPE=literal(run.dtype),
        SEED=run.seed,
        held_out=held_out_settings(facts),
        EVAL_ROWS=facts.end_rows,
    )
    if plan.data_columns:
        text += f"COLUMNS = {literal(plan.data_columns)}  # of the data, by the names that its format has for them\n"
    if plan.label_names:
        text += f"LABEL_NAMES = {literal(list(plan.label_names))}\n"
    if has_head(facts):
        text += f"LARGEST_HEAD_RATE = {adapters.LARGEST_HEAD_RATE}  # the classification head learns no faster\n"
    if pick.micro_batches > 1:
        text += f"PARTS = {pick.micro_batches}  # of each batch, one after the other: whole ones ran out of memory\n"
    text += f"IGNORE_INDEX = {batching.IGNORE_INDEX}\n"
    return text + f"MEGA_BATCH = {batching.MEGA_BATCH}  # batches whose rows are sorted by length together\n"


def _evaluation(facts: Recommended) -> str:
    metric = _metric(facts)
    at_once = "BATCH_SIZE" if facts.pick.micro_batches == 1 else "-(-BATCH_SIZE // PARTS)"
    if metric == MACRO_F1:
        template = Template(source(macro_f1) + EVALUATION)
        return template.substitute(MEAN_F1, what="the mean F1 of the classes", at_once=at_once)
    counted = {"exact match": "answers", "accuracy": "classes"}.get(metric, "tokens")
    return Template(EVALUATION).substitute(RIGHT_SHARE, what=f"the share of right {counted}", at_once=at_once)


def _metric(facts: Recommended) -> str:
    """The script has no code of the user's, so instead of their own metric it tells what every run can."""
    if facts.plan.metric_name in BUILT_IN:
        return facts.plan.metric_name
    return "accuracy" if facts.result.planned_run.task == "sequence-classification" else "token accuracy"


def _banner(text: str) -> str:
    return f"\n\n# {'-' * 75} {text}\n\n"


def _comment(text: str) -> str:
    """Foreign text for a docstring: no control characters, nothing that could end the string or escape."""
    return clean(text, 200).replace("\\", "/").replace('"', "'")
