"""The training section of the generated train.py: the model, its optimizer and the loop, for one recommended run."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from importlib import import_module
from string import Template
from typing import Any

from advisor.exporters import _train_parts as parts
from advisor.exporters.base import Recommended, loads_gguf
from knowledge.schema import AUTO_CLASSES, PlannedRun, Task
from knowledge.targets import CLASSIFICATION_HEADS
from probes import adapters
from probes.source import ONE_OF_SEVERAL


def training_section(facts: Recommended) -> str:
    """Source of everything from the schedule to `main()`."""
    run, plan = facts.result.planned_run, facts.plan
    has_adapter, is_gguf = facts.pick.peft_config is not None, loads_gguf(facts.result)
    quantized = run.quantization != "none"
    options = ""
    if plan.label_names:
        options = f', num_labels={len(plan.label_names)}, problem_type="{ONE_OF_SEVERAL}",\n        '
        options += "ignore_mismatched_sizes=True"
    options += f', quantization_config={_quantization(run)}, device_map={{"": device}}' if quantized else ""
    options += "" if is_gguf else ", use_safetensors=True"
    trusting = ", trust_remote_code=True" if facts.result.trusts_model_code else ""
    words, make_model = _make_model(facts)
    is_split = facts.pick.micro_batches > 1
    helpers = "".join(map(source, _helpers(facts))) + (parts.IN_PARTS if is_split else "")
    return helpers + Template(parts.TRAINING).substitute(
        in_parts="in_parts(" if is_split else "",
        end_in_parts=")" if is_split else "",
        passes_per_step="GRADIENT_ACCUMULATION_STEPS" + (" * PARTS" if is_split else ""),
        model_arguments=("Path(MODEL).parent, gguf_file=Path(MODEL).name" if is_gguf else "MODEL") + trusting,
        pad_token=literal(plan.pad_token) if plan.pad_token else "tokenizer.eos_token or tokenizer.unk_token",
        auto_class=AUTO_CLASSES[run.task],
        load_options=options,
        # Before anything is evaluated: on some processors the first evaluation in 4 bits rounds the weights.
        prepare_base="keep_differentiable(model)\n    " if quantized else "",
        to_device="" if quantized else ".to(device)",
        model_words=words,
        make_model=textwrap.indent(make_model, "    "),
        make_optimizer=_make_optimizer(facts),
        losses=_losses(run.task, plan.through_model_loss),
        own_loss="plain_loss" if plan.through_model_loss else "loss",
        output="adapter" if has_adapter else "model",
        saved="the adapter" if has_adapter else "the model",
        save=_save(facts),
        eval_argument=parts.EVAL_ARGUMENT if plan.eval_path else "",
    )


def source(function: Callable[..., Any]) -> str:
    """The source of a self-contained function of the probes, for the script."""
    return "\n\n" + re.sub(r"\bTask\b", "str", inspect.getsource(function))


def literal(value: Any) -> str:
    """Python source of plain data, a mapping one key a line."""
    if isinstance(value, Mapping):
        lines = "".join(f"    {literal(k)}: {literal(v)},\n" for k, v in value.items())
        return "{\n" + lines + "}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    plain = isinstance(value, str) and value.isprintable() and not set(value) & set('"\\')
    return f'"{value}"' if plain else repr(value)


def has_head(facts: Recommended) -> bool:
    """A classification head is trained beside the adapter, at a rate of its own."""
    return facts.result.planned_run.task == "sequence-classification" and facts.pick.peft_config is not None


def _helpers(facts: Recommended) -> list[Callable[..., Any]]:
    """What the probes do to a model beside PEFT, as far as this run needs it."""
    functions: list[Callable[..., Any]] = []
    if facts.result.planned_run.quantization != "none":
        functions.append(adapters.keep_differentiable)
    if facts.plan.setup_by is not None:
        return functions  # apply_method does the rest
    if facts.pick.peft_config is not None:
        functions.append(adapters.train_in_float32)
    if has_head(facts):
        functions.append(adapters._parameter_groups)
    return functions


def _make_model(facts: Recommended) -> tuple[str, str]:
    """(what it does, source) of the body of `make_model`."""
    if facts.plan.setup_by is not None:
        method = f"get_method({literal(facts.plan.setup_by)})"
        call = f"model = adapters.apply_method(base, {method}, PEFT_CONFIG, batches=first_batches)"
        return "The base with the adapter on it, prepared as the probes prepared it.", call
    if facts.pick.peft_config is None:
        lines = "model = base.requires_grad_(True)"
        if facts.plan.trains:
            lines = (
                "model = base\n"
                "for name, parameter in model.named_parameters():\n"
                f"    parameter.requires_grad_(re.search({literal(facts.plan.trains)}, name) is not None)"
            )
        return "The model itself, trained without an adapter.", lines
    wrap = "model = peft.get_peft_model(base, peft.PeftConfig.from_peft_type(**PEFT_CONFIG))\ntrain_in_float32(model)"
    return "The base with the adapter on it; only the adapter is trained.", wrap


def _make_optimizer(facts: Recommended) -> str:
    plan = facts.plan
    module, _, name = plan.optimizer.partition(":")
    settings = ["lr=LEARNING_RATE", "weight_decay=WEIGHT_DECAY"]
    settings += [f"{key}={literal(value)}" for key, value in sorted(plan.optimizer_settings.items())]
    lines = ["def make_optimizer(model):"]
    if "model" in _arguments(module, name):
        lines += [f"    from {module} import {name}", "", f"    return {name}("]
        lines += [f"        {setting}," for setting in ("model=model", *_extra(module, name), *settings)]
        return "\n".join([*lines, "    )"]) + "\n"
    trained = "trainable"
    if has_head(facts):
        trained = f"{'adapters.' if plan.setup_by else ''}_parameter_groups(model, LEARNING_RATE)"
    else:
        lines.append("    trainable = [p for p in model.parameters() if p.requires_grad]")
    return "\n".join([*lines, f"    return {module}.{name}({trained}, {', '.join(settings)})"]) + "\n"


def _arguments(module: str, name: str) -> Mapping[str, Any]:
    return inspect.signature(getattr(import_module(module), name)).parameters


def _extra(module: str, name: str) -> list[str]:
    """What a factory of peft.optimizers asks for beside the model: the class to build on, LoRA's rank and alpha."""
    values = {
        "optimizer_cls": "torch.optim.AdamW",
        "r": 'PEFT_CONFIG["r"]',
        "lora_alpha": 'PEFT_CONFIG["lora_alpha"]',
    }
    accepted = _arguments(module, name)
    return [f"{key}={value}" for key, value in values.items() if key in accepted]


def _losses(task: Task, through_model_loss: bool) -> str:
    lines = [
        "logits = model(**forward_inputs(model, batch, TASK)).logits",
        'loss = label_loss(label_logits(logits, batch, TASK), batch["labels"])',
    ]
    if through_model_loss:
        lines = ['labels = batch["labels"]']
        if task == "causal-lm":
            lines = [
                'labels = torch.full_like(batch["input_ids"], -100)',
                'labels[:, -batch["labels"].shape[1] :] = batch["labels"]',
            ]
        lines += [
            'inputs = forward_inputs(model, batch, TASK) | {"labels": labels}',
            'inputs.pop("logits_to_keep", None)  # its own loss is of all positions',
            "output = model(**inputs)",
            "loss = output.loss  # with the terms that the method adds to it",
            'plain_loss = label_loss(label_logits(output.logits, batch, TASK), batch["labels"])',
        ]
    return textwrap.indent("\n".join(lines), " " * 12)


def _quantization(run: PlannedRun) -> str:
    is_classifier = run.task == "sequence-classification"
    kept = f", llm_int8_skip_modules={literal([*CLASSIFICATION_HEADS])}" if is_classifier else ""
    if run.quantization == "int8":
        return f"BitsAndBytesConfig(load_in_8bit=True{kept})"
    return (
        'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, '
        f"bnb_4bit_compute_dtype=dtype{kept})"
    )


def _save(facts: Recommended) -> str:
    if facts.plan.setup_by is not None:
        return "adapters.save_adapter(model, Path(args.output))"
    return (
        f"model.save_pretrained(args.output{', safe_serialization=True' if facts.pick.peft_config is not None else ''})"
    )
