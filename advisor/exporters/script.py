"""train.py: one readable file that runs the recommended fine-tune with torch, transformers and peft alone."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any

from advisor.exporters import _train_parts as parts
from advisor.exporters.base import NotExpressible, Recommended, canonical, model_location, provenance, recommended
from advisor.files import write_text
from advisor.recommendation import Result
from advisor.text import clean, duration_text, quality_text
from knowledge.schema import PlannedRun, Task
from probes import batching, forward, split, tokenise
from probes.formats import get_format

NAME = "script"
TITLE = "training script"

_AUTO_CLASSES = {
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "sequence-classification": "AutoModelForSequenceClassification",
}
_ENCODING = {
    "causal-lm": (tokenise.encode_batch, tokenise.cut_to_length),
    "seq2seq-lm": (tokenise.encode_pairs, tokenise.cut_pair_to_length),
    "sequence-classification": (tokenise.encode_texts, tokenise.cut_text_to_length),
}
_FORWARD_FUNCTIONS = (
    *(batching.batch_order, batching.collate, batching._collate_causal, batching._padded),
    *(forward.forward_inputs, forward.label_logits, forward.label_loss, forward._is_prompt_learning),
)
_OPENERS = {"": 'open(path, "rb")', ".gz": 'gzip.open(path, "rb")', ".bz2": 'bz2.open(path, "rb")'}
_STANDARD_MODULES = ("argparse", "bz2", "csv", "gzip", "inspect", "io", "json", "math", "random", "time")
_STANDARD_NAMES = {"Mapping": "collections.abc", "partial": "functools", "Path": "pathlib", "Any": "typing"}
_OTHER_MODULES = {
    "datasets": "datasets",
    "np": "numpy as np",
    "peft": "peft",
    "pyarrow": "pyarrow.parquet",
    "torch": "torch",
}


def export(folder: Path, result: Result) -> list[Path]:
    """Writes train.py. Raises NotExpressible for methods whose initialisation reads training data."""
    return [write_text(folder / "train.py", training_script(result), executable=True)]


def training_script(result: Result) -> str:
    """The source of train.py."""
    facts = recommended(result)
    if facts.plan.needs_batches:
        raise NotExpressible(
            f"{facts.pick.title} initialises itself from training data through code of the advisor.",
            "Run it with the Python API.",
        )
    if result.planned_run.task not in _AUTO_CLASSES:
        raise NotExpressible(f"There is no training script for {result.planned_run.task}.", "Use the PEFT config.")
    form, compression = _data_form(facts.plan.data_path)
    form, compression = _data_form(facts.plan.data_path)
    reader = Template(parts.READERS[form]).safe_substitute(
        opener=_OPENERS.get(compression, ""), delimiter=repr("\t" if ".tsv" in facts.plan.data_path.lower() else ",")
    )
    sections = [
        _settings(facts),
        _banner("the data, read and split as the probes did"),
        reader,
        *_data_functions(facts),
        _banner("batches and the forward pass"),
        *map(_source, _FORWARD_FUNCTIONS),
        _evaluation(facts),
        _banner("training"),
        _training(facts),
    ]
    body = re.sub(r"\n{4,}", "\n\n\n", "".join(sections)).lstrip("\n")
    return _head(facts, body) + body


def _head(facts: Recommended, body: str) -> str:
    result = facts.result
    return Template(parts.HEAD).substitute(
        model=_comment(result.model.reference),
        title=_comment(facts.pick.title),
        provenance="\n".join(textwrap.fill(_comment(line), 100) for line in provenance(result)),
        expectation=_expectation(facts),
        max_steps=result.planned_run.max_steps,
        packages=_packages(facts, body),
        imports=_imports(body),
    )


def _imports(body: str) -> str:
    """Import statements for the modules and names that the script uses."""
    names = {f"from {module} import {name}" for name, module in _STANDARD_NAMES.items() if _uses(body, name)}
    standard = [f"import {name}" for name in _STANDARD_MODULES if _uses(body, rf"{name}\.")] + sorted(names)
    others = [f"import {module}" for name, module in _OTHER_MODULES.items() if _uses(body, rf"{name}\.")]
    classes = sorted(name for name in (*_AUTO_CLASSES.values(), "AutoTokenizer", "BitsAndBytesConfig") if name in body)
    return "\n".join([*standard, "", *others, f"from transformers import {', '.join(classes)}"])


def _uses(body: str, pattern: str) -> bool:
    return re.search(rf"(?<![\w.\"'`]){pattern}(?!\w*[\"'`])", body) is not None


def _packages(facts: Recommended, body: str) -> str:
    names = ["torch", "transformers"]
    names += [name for name in ("peft", "pyarrow", "datasets") if _uses(body, rf"{name}\.")]
    names += ["gguf"] if _is_gguf(facts.result) else []
    names += ["bitsandbytes"] if facts.result.planned_run.quantization != "none" else []
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _expectation(facts: Recommended) -> str:
    p = facts.pick.predicted
    if p is None:
        return "No prediction was made for it."
    text = f"Predicted {_comment(p.metric)} at the end: {quality_text(p.value, p.metric)}"
    text += f" (80 % interval {quality_text(p.low, p.metric)} to {quality_text(p.high, p.metric)})"
    seconds = facts.pick.planned_run_s
    return textwrap.fill(text + (f", in about {duration_text(seconds)}." if seconds else "."), 100)


def _settings(facts: Recommended) -> str:
    run, plan, pick = facts.result.planned_run, facts.plan, facts.pick
    config = None if pick.peft_config is None else canonical(pick.peft_config)
    data = (
        plan.data_path if _data_form(plan.data_path)[0] == "hub" else str(Path(plan.data_path).expanduser().resolve())
    )
    text = Template(parts.SETTINGS).substitute(
        MODEL=_literal(model_location(facts.result)),
        DATA=_literal(data),
        PEFT_CONFIG=_literal(config),
        TASK=_literal(run.task),
        METRIC=_literal(plan.metric_name),
        LEARNING_RATE=_literal(plan.learning_rate),
        WEIGHT_DECAY=_literal(plan.weight_decay),
        MAX_STEPS=run.max_steps,
        WARMUP_STEPS=warmup_steps(run),
        SCHEDULER=_literal(run.scheduler),
        BATCH_SIZE=run.batch_size,
        GRADIENT_ACCUMULATION_STEPS=run.gradient_accumulation_steps,
        GRADIENT_CHECKPOINTING=run.gradient_checkpointing,
        MAX_GRAD_NORM=_literal(run.max_grad_norm),
        MAX_LENGTH_TOKENS=run.max_length_tokens,
        DTYPE=_literal(run.dtype),
        SEED=run.seed,
        HELD_OUT_KEY=plan.held_out_key,
        EVAL_ROWS=plan.eval_rows,
    )
    if plan.label_names:
        text += f"LABEL_NAMES = {_literal(list(plan.label_names))}\n"
    text += f"IGNORE_INDEX = {batching.IGNORE_INDEX}\n"
    return text + f"MEGA_BATCH = {batching.MEGA_BATCH}  # batches whose rows are sorted by length together\n"


def warmup_steps(run: PlannedRun) -> int:
    """Steps of rising rate in the planned run."""
    return round(run.warmup_fraction * run.max_steps)


def _data_functions(facts: Recommended) -> list[str]:
    task, chosen = facts.result.planned_run.task, get_format(facts.plan.data_format)
    encode, cut = _ENCODING[task]
    functions = [chosen.matches, chosen.to_segments, tokenise.chat_segments, encode, cut]
    functions += [split.split_texts, split.group_key]
    classes = chosen.label_of is not None and task == "sequence-classification"
    if classes:
        functions.append(chosen.label_of)
    loading = Template(parts.DATA).substitute(
        KEYED_BY="prompt" if facts.plan.keyed_by == "prompt" else "text",
        encode=encode.__name__,
        cut=cut.__name__,
        append_label="class_labels.append(LABEL_NAMES.index(str(label_of(row))))" if classes else "",
        class_labels="class_labels" if classes else "None",
    )
    if not classes:
        loading = loading.replace("                \n", "").replace("pairs, class_labels = [], []", "pairs = []")
        loading = loading.replace("TokenRows(pairs, None)", "TokenRows(pairs)")
        loading = loading.replace("for row, (ids, trained) in zip(batch, ", "for ids, trained in ")
        loading = loading.replace("(segments, tokenizer), strict=True):", "(segments, tokenizer):")
    return [*map(_source, functions), loading]


def _source(function: Callable[..., Any]) -> str:
    return "\n\n" + re.sub(r"\bTask\b", "str", inspect.getsource(function))


def _evaluation(facts: Recommended) -> str:
    counted = {"exact match": "answers", "accuracy": "classes"}.get(facts.plan.metric_name, "tokens")
    return Template(parts.EVALUATION).substitute(what_counts=counted)


def _training(facts: Recommended) -> str:
    run, plan, result = facts.result.planned_run, facts.plan, facts.result
    has_adapter = facts.pick.peft_config is not None
    options = f", num_labels={len(plan.label_names)}" if plan.label_names else ""
    options += (
        f", quantization_config={_quantization(run)}, device_map={{'': device}}" if run.quantization != "none" else ""
    )
    return Template(parts.TRAINING).substitute(
        model_arguments="Path(MODEL).parent, gguf_file=Path(MODEL).name" if _is_gguf(result) else "MODEL",
        pad_token=_literal(plan.pad_token) if plan.pad_token else "tokenizer.eos_token or tokenizer.unk_token",
        auto_class=_AUTO_CLASSES[run.task],
        load_options=options if _is_gguf(result) else options + ", use_safetensors=True",
        to_device="" if run.quantization != "none" else ".to(device)",
        make_model=_make_model(has_adapter),
        make_optimizer=_make_optimizer(facts),
        losses=_losses(run.task, plan.through_model_loss),
        own_loss="plain_loss" if plan.through_model_loss else "loss",
        output="adapter" if has_adapter else "model",
        saved="the adapter" if has_adapter else "the model",
        save_options=", safe_serialization=True" if has_adapter else "",
    )


def _make_model(has_adapter: bool) -> str:
    if has_adapter:
        return "    model = peft.get_peft_model(base, peft.PeftConfig.from_peft_type(**PEFT_CONFIG))"
    return "    model = base.requires_grad_(True)"


def _make_optimizer(facts: Recommended) -> str:
    plan = facts.plan
    module, _, name = plan.optimizer.partition(":")
    settings = "".join(f", {key}={value!r}" for key, value in sorted(plan.optimizer_settings.items()))
    call = f"lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY{settings}"
    if module.startswith("torch."):
        return (
            "def make_optimizer(model):\n"
            "    trainable = [p for p in model.parameters() if p.requires_grad]\n"
            f"    return {module}.{name}(trainable, {call})\n"
        )
    return (
        "def make_optimizer(model):\n"
        f"    from {module} import {name}\n\n"
        f"    return {name}(model=model{_factory_arguments(module, name)}, {call})\n"
    )


def _factory_arguments(module: str, name: str) -> str:
    """What a factory of peft.optimizers asks for beside the model: the class to build on, LoRA's rank and alpha."""
    from importlib import import_module

    accepted = inspect.signature(getattr(import_module(module), name)).parameters
    values = {
        "optimizer_cls": "torch.optim.AdamW",
        "r": "PEFT_CONFIG['r']",
        "lora_alpha": "PEFT_CONFIG['lora_alpha']",
    }
    return "".join(f", {key}={value}" for key, value in values.items() if key in accepted)


def _losses(task: Task, through_model_loss: bool) -> str:
    if not through_model_loss:
        return textwrap.indent(
            "logits = model(**forward_inputs(model, batch, TASK)).logits\n"
            'loss = label_loss(label_logits(logits, batch, TASK), batch["labels"])',
            " " * 12,
        )
    labels = 'labels = batch["labels"]'
    if task == "causal-lm":
        labels = (
            'labels = torch.full_like(batch["input_ids"], -100)\n'
            'labels[:, -batch["labels"].shape[1] :] = batch["labels"]'
        )
    return textwrap.indent(
        f"{labels}\n"
        'output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels)\n'
        "loss = output.loss  # with the terms that the method adds to it\n"
        'plain_loss = label_loss(label_logits(output.logits, batch, TASK), batch["labels"])',
        " " * 12,
    )


def _quantization(run: PlannedRun) -> str:
    if run.quantization == "int8":
        return "BitsAndBytesConfig(load_in_8bit=True)"
    return (
        'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, '
        "bnb_4bit_compute_dtype=dtype)"
    )


def _data_form(path: str) -> tuple[str, str]:
    """(reader, compression) by the name's endings; a name without a known one is a hub dataset."""
    place = Path(path)
    compression = place.suffix.lower() if place.suffix.lower() in (".gz", ".bz2", ".zst") else ""
    if compression == ".zst":
        raise NotExpressible("The training script reads no .zst files.", "Decompress the data first.")
    inner = (place.with_suffix("") if compression else place).suffix.lower()
    forms = {
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".json": "json",
        ".csv": "csv",
        ".tsv": "csv",
        ".parquet": "parquet",
    }
    return forms.get(inner, "hub"), compression


def _is_gguf(result: Result) -> bool:
    return result.model.source == "gguf file"


def _banner(text: str) -> str:
    return f"\n\n# {'-' * 75} {text}\n\n"


def _literal(value: Any) -> str:
    """Python source of plain data, a mapping one key a line."""
    if isinstance(value, Mapping):
        lines = "".join(f"    {_literal(k)}: {_literal(v)},\n" for k, v in value.items())
        return "{\n" + lines + "}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    plain = isinstance(value, str) and value.isprintable() and not set(value) & set('"\\')
    return f'"{value}"' if plain else repr(value)


def _comment(text: str) -> str:
    """Foreign text for a docstring: no control characters, nothing that could end the string or escape."""
    return clean(text, 200).replace("\\", "/").replace('"', "'")
