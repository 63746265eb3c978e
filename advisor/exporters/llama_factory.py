"""A config for `llamafactory-cli train` with the dataset_info.json that it needs. It rejects unknown keys, and its
defaults differ, so every value is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advisor.exporters._trainer import (
    ABOUT_GPUS,
    ADAMW,
    CHAT_FORMATS,
    LORA_PLUS,
    TrainerRun,
    about_held_out,
    check_lora,
    check_optimizer,
    header,
    lora_plus_ratio,
    trainer_arguments,
    trainer_run,
    yaml_text,
)
from advisor.exporters._trainer_data import SCRIPT, DataPlace, columns_among, has_tools, turns_of
from advisor.exporters.base import NotExpressible
from advisor.files import write_text
from advisor.recommendation import Result
from advisor.text import plural

NAME = "llama-factory"
TITLE = "LLaMA-Factory config and dataset_info.json"
CHECKED_WITH = "the argument classes of LLaMA-Factory 0.9.5"
FILE = "llama-factory.yaml"
DATA_FOLDER = "llama-factory-data"
DATASET, EVAL_DATASET = "advisor_data", "advisor_eval_data"
# Of conversations by format: their column, the key of a turn's role, and who may ask and answer.
TURNS = {
    "messages": ("messages", "role", ("user", "tool"), ("assistant",)),
    "sharegpt": ("conversations", "from", ("human", "observation"), ("gpt", "function_call")),
}
OFT_KEYS = frozenset({"peft_type", "task_type", "target_modules", "r", "oft_block_size"})


def export(folder: Path, result: Result) -> list[Path]:
    """Writes llama-factory.yaml and llama-factory-data/dataset_info.json."""
    run = trainer_run(result, "LLaMA-Factory")
    check_optimizer(run, "LLaMA-Factory", known=(ADAMW, LORA_PLUS))
    datasets = {DATASET: _dataset_info(run, run.data)}
    datasets |= {EVAL_DATASET: _dataset_info(run, run.eval_data)} if run.eval_data else {}
    info = json.dumps(datasets, indent=2) + "\n"
    lines = about_held_out(run, "LLaMA-Factory")
    if run.run.dtype == "float32":
        lines.append("On a GPU it loads a model in half precision where the run, as the probes, is in float32.")
    if run.plan.data_format == "alpaca":
        lines.append("It joins instruction and input by one line break; the probes joined them by two.")
    if run.plan.data_format == "text":
        lines.append(
            "It begins texts with the token for that only where the tokenizer's add_bos_token says so; the probes did "
            "wherever the tokenizer itself does, as those of Llama 3 do."
        )
    if run.plan.data_format in CHAT_FORMATS:
        lines += _about_templates(run)
    if dropped := _broken_chats(run):
        lines.append(
            f"It leaves {plural(dropped, 'conversation')} out that the probes trained: its turns must alternate, from "
            "the user's to the assistant's."
        )
    if run.plan.data_format != "text" and run.result.data is not None and run.result.data.cut_rows:
        lines.append("It cuts rows above the limit in prompt and answer; the probes cut their ends.")
    lines.append(ABOUT_GPUS)
    lines.append(f"Checked with {CHECKED_WITH}. Run in this folder: llamafactory-cli train {FILE}")
    text = header(result, *lines) + yaml_text(config(run))
    return [
        write_text(folder / FILE, text),
        write_text(folder / DATA_FOLDER / "dataset_info.json", info),
    ]


def config(run: TrainerRun) -> dict[str, Any]:
    """Keys of LLaMA-Factory's argument classes."""
    planned, plan = run.run, run.plan
    bits = {"none": None, "nf4": 4, "int8": 8}[planned.quantization]
    quantized = {} if bits is None else {"quantization_bit": bits, "quantization_method": "bnb"}
    # Without a template the tokenizer's own chat template is used; "empty" leaves the texts as they are.
    template = {} if plan.data_format in ("messages", "alpaca", "sharegpt") else {"template": "empty"}
    arguments = trainer_arguments(run)
    # It turns checkpointing on by itself, whatever transformers' own key says.
    arguments["disable_gradient_checkpointing"] = not arguments.pop("gradient_checkpointing")
    return {
        "model_name_or_path": run.model,
        **run.trust,
        **quantized,
        "stage": "pt" if plan.data_format == "text" else "sft",
        "do_train": True,
        **_adapter(run),
        "dataset": DATASET,
        "dataset_dir": DATA_FOLDER,
        **template,
        "cutoff_len": planned.max_length_tokens,
        "packing": False,
        "train_on_prompt": False,
        **({"eval_dataset": EVAL_DATASET} if run.eval_data else {"val_size": run.held_out_share}),
        **arguments,
        "output_dir": "llama-factory-output",
    }


def _adapter(run: TrainerRun) -> dict[str, Any]:
    adapter = run.config
    if adapter.get("peft_type") == "OFT" and set(adapter) <= OFT_KEYS and isinstance(adapter["target_modules"], list):
        return {
            "finetuning_type": "oft",
            "oft_rank": adapter.get("r", 0),
            "oft_block_size": adapter.get("oft_block_size", 32),
            "oft_target": ",".join(adapter["target_modules"]),
        }
    check_lora(run, "LLaMA-Factory", also=("use_dora", "use_rslora"))
    if not isinstance(adapter["target_modules"], list):
        raise NotExpressible("LLaMA-Factory takes names of modules, not a pattern.", SCRIPT)
    return {
        "finetuning_type": "lora",
        "lora_rank": adapter.get("r", 8),
        "lora_alpha": adapter.get("lora_alpha", 8),
        "lora_dropout": float(adapter.get("lora_dropout", 0.0)),
        "lora_target": ",".join(adapter["target_modules"]),
        "use_rslora": adapter.get("use_rslora", False),
        "use_dora": adapter.get("use_dora", False),
        **lora_plus_ratio(run),
    }


def _about_templates(run: TrainerRun) -> list[str]:
    """Where what it makes of the model's chat template is another one (tests/advisor/test_trainers_read_exports.py)."""
    found = [
        "It makes a template of the model's chat template, and stops where it can't (Gemma): then name one of its own, "
        "e.g. template: gemma."
    ]
    if any(_has_several_answers(row, run.plan.data_format) for row in run.data.rows()):
        found.append(
            "Of conversations with several answers that template begins the chat anew before each question (Llama 3, "
            "Phi 3; not Qwen 2.5). One of its own does not, e.g. template: llama3."
        )
    return found


def _has_several_answers(row: Mapping[str, Any], data_format: str) -> bool:
    """Of a conversation; where the format is of single answers, earlier ones are its history."""
    if data_format not in TURNS:
        return bool(row.get("history"))
    column, role, _, answerers = TURNS[data_format]
    return sum(turn.get(role) in answerers for turn in turns_of(row.get(column))) > 1


def _broken_chats(run: TrainerRun) -> int:
    """How many conversations it leaves out, as its converter of ShareGPT's does: those that do not alternate, and
    those that end with a question. 0 for other rows, and where the file is not here."""
    if run.plan.data_format not in TURNS:
        return 0
    column, role, askers, answerers = TURNS[run.plan.data_format]
    broken = 0
    for row in run.data.rows():
        roles = [turn.get(role) for turn in turns_of(row.get(column))]
        roles = roles[1:] if roles[:1] == ["system"] else roles
        alternate = all(name in (answerers if i % 2 else askers) for i, name in enumerate(roles))
        broken += not alternate or len(roles) % 2
    return broken


def _also(data: DataPlace, *names: str) -> dict[str, str]:
    """Columns that rows may have; LLaMA-Factory fails on one that is named and that no row has."""
    found = columns_among(data, names)
    return {name: name for name in names if found is None or name in found}


def _dataset_info(run: TrainerRun, data: DataPlace) -> dict[str, Any]:
    place = {"hf_hub_url": data.path, **data.part("subset")} if data.form is None else {"file_name": data.path}
    kind = run.plan.data_format
    if kind == "text":
        return {**place, "columns": {"prompt": "text"}}
    if kind == "prompt-completion":  # of its templates the one that leaves texts as they are is "empty"
        raise NotExpressible("LLaMA-Factory trains no end of an answer without a chat template.", SCRIPT)
    if kind == "alpaca":
        columns = {"prompt": "instruction", "response": "output", **_also(data, "system", "history")}
        columns |= {"query": "input"} if _also(data, "input") else {}
        return {**place, "columns": columns}
    if kind in ("messages", "sharegpt") and has_tools(data):
        raise NotExpressible("LLaMA-Factory does not read the tools of conversations as the probes did.", SCRIPT)
    if kind == "messages":
        tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
        tags |= {"system_tag": "system", "observation_tag": "tool"}
        return {**place, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    if kind == "sharegpt":
        return {**place, "formatting": "sharegpt", "columns": {"messages": "conversations", **_also(data, "system")}}
    raise NotExpressible(f"LLaMA-Factory reads no {kind} rows as the probes did.", SCRIPT)
