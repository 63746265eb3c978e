"""A config for `trl sft --config`. TRL's defaults (float32, rate 2e-5, length 1024) differ, so every value is written.

Its config builds a LoraConfig without `init_lora_weights`: other adapters and initialisations need a script.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from advisor.exporters._trainer import (
    ABOUT_GPUS,
    TrainerRun,
    check_lora,
    check_optimizer,
    header,
    may_join_at_the_border,
    prompts_are_text,
    trainer_arguments,
    trainer_run,
    yaml_text,
)
from advisor.exporters._trainer_data import SCRIPT, TEXT_COLUMNS, DataPlace, columns_among
from advisor.exporters.base import NotExpressible
from advisor.files import write_text
from advisor.recommendation import Result

NAME = "trl"
TITLE = "TRL config (trl sft --config)"
CHECKED_WITH = "TRL 1.16.0"
FILE = "trl-sft.yaml"
COLUMNS = TEXT_COLUMNS | {"messages": ("messages",)}
ABOUT_EVALUATION = (
    "trl sft reads no second file to evaluate on: this trains on all of the data and evaluates nothing. train.py",
    "evaluates your rows.",
)
ABOUT_CHATS = (
    "TRL trains answers alone (assistant_only_loss) by chat templates that mark them with {% generation %}, and by",
    "those of which it has such a form (Llama 3, Qwen, Gemma, ...). At others it stops at once: use train.py then.",
    "Some of these forms differ a little from what the model is served with and the probes trained: that of",
    "Qwen 3 writes an empty thought before earlier answers too. train.py does as the probes.",
)
ABOUT_BORDERS = (
    "TRL reads prompt and completion as one text, the probes each by itself: where no space begins the completion, a",
    "token may go across the border, and it trains others than the probes did. train.py does as the probes.",
)
ABOUT_FEW_BITS = (
    "On a base in few bits TRL trains the adapter in bfloat16, in which small steps of AdamW are lost; the probes, and",
    "train.py, train it in float32.",
)


def export(folder: Path, result: Result) -> list[Path]:
    """Writes trl-sft.yaml."""
    run = trainer_run(result, "TRL")
    check_lora(run, "TRL", also=("use_dora", "use_rslora", "modules_to_save"))
    check_optimizer(run, "TRL")
    joins = run.plan.data_format == "prompt-completion" and prompts_are_text(run) and may_join_at_the_border(run)
    lines = [
        *(ABOUT_EVALUATION if run.eval_data else ("TRL draws its own held-out rows.",)),
        *(ABOUT_CHATS if run.plan.data_format == "messages" else ()),
        *(ABOUT_BORDERS if joins else ()),
        *(ABOUT_FEW_BITS if run.run.quantization != "none" else ()),
        ABOUT_GPUS,
        f"Checked with {CHECKED_WITH}. Run in this folder: trl sft --config {FILE}",
    ]
    return [write_text(folder / FILE, header(result, *lines) + yaml_text(config(run)))]


def config(run: TrainerRun) -> dict[str, Any]:
    """The keys of TRL's SFTConfig, ModelConfig and DatasetMixtureConfig."""
    planned, plan, lora = run.run, run.plan, run.config
    quantized = {
        "none": {},
        "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True},
        "int8": {"load_in_8bit": True},
    }[planned.quantization]
    return {
        "model_name_or_path": run.model,
        **run.trust,
        "dtype": planned.dtype,
        **quantized,
        **_data(run),
        **({} if run.eval_data else {"test_split_size": run.held_out_share}),
        "max_length": planned.max_length_tokens,
        "packing": False,
        **({"pad_token": plan.pad_token} if plan.pad_token else {}),
        "use_peft": True,
        "lora_task_type": "CAUSAL_LM",
        "lora_r": lora.get("r", 8),
        "lora_alpha": lora.get("lora_alpha", 8),
        "lora_dropout": float(lora.get("lora_dropout", 0.0)),
        "lora_target_modules": _targets(lora["target_modules"]),
        **({"lora_modules_to_save": lora["modules_to_save"]} if lora.get("modules_to_save") else {}),
        "use_rslora": lora.get("use_rslora", False),
        "use_dora": lora.get("use_dora", False),
        **trainer_arguments(run),
        **({"eval_strategy": "no"} if run.eval_data else {}),
        "output_dir": "trl-output",
    }


def _targets(modules: Any) -> list[str]:
    """TRL makes a string of a list of one, which PEFT reads as a regular expression of the module's whole path."""
    if isinstance(modules, str):
        return [modules]
    return [rf"(?:.*\.)?{re.escape(name)}" for name in modules] if len(modules) == 1 else list(modules)


def _columns(data: DataPlace, kind: str) -> dict[str, list[str]]:
    """Those of the format alone, where the file is here: by others TRL takes the rows for another format."""
    if not data.is_here or kind not in COLUMNS:
        return {}
    also = columns_among(data, ["tools"]) if kind != "text" else ()
    return {"columns": [*COLUMNS[kind], *also]}


def _data(run: TrainerRun) -> dict[str, Any]:
    data = run.data
    place = {"path": data.path} if data.form is None else {"path": data.form, "data_files": data.path}
    kind = run.plan.data_format
    chosen = {"datasets": [{**place, **data.part("name"), **_columns(data, kind)}]}
    if kind == "prompt-completion":
        if not (run.plan.uses_chat_template or prompts_are_text(run)):
            raise NotExpressible("TRL writes prompts of messages by a chat template, and the model has none.", SCRIPT)
        return {**chosen, "completion_only_loss": True}
    if kind == "messages":
        return {**chosen, "assistant_only_loss": True}
    if kind == "text":
        return {**chosen, "dataset_text_field": "text", "completion_only_loss": False}
    raise NotExpressible(f"TRL reads no {kind} rows.", "Use the script, or rewrite the rows as messages.")
