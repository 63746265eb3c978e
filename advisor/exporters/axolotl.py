"""A config for `axolotl train`. Axolotl knows LoRA and QLoRA, and passes over unknown keys in silence: only keys of its
schema are written."""

from __future__ import annotations

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
    prompts_are_text,
    trainer_run,
    yaml_text,
)
from advisor.exporters._trainer_data import SCRIPT, DataPlace, has_tools
from advisor.exporters.base import NotExpressible
from advisor.files import write_text
from advisor.recommendation import Result

NAME = "axolotl"
TITLE = "Axolotl config"
CHECKED_WITH = "the config schema of Axolotl 0.19.0"
FILE = "axolotl.yaml"
ABOUT_SPACES = (
    "Where a tokenizer puts a space before every text (Llama 2, Mistral 7B), it reads one before the completion too,",
    "which the probes did not. train.py does as the probes.",
)
ABOUT_TURNS = (
    "It trains the end of a turn where that is the tokenizer's end of a text. Where it warns that a turn's end is not",
    'trained, name it, e.g. eot_tokens: ["<|im_end|>"]; the probes trained it.',
)


def export(folder: Path, result: Result) -> list[Path]:
    """Writes axolotl.yaml."""
    run = trainer_run(result, "Axolotl")
    check_lora(run, "Axolotl", also=("use_dora", "use_rslora", "init_lora_weights", "modules_to_save"))
    check_optimizer(run, "Axolotl", known=(ADAMW, LORA_PLUS))
    if run.plan.data_format == "text" and run.result.data is not None and run.result.data.cut_rows:
        raise NotExpressible("Axolotl makes several rows of a text above the limit, and the probes cut it.", SCRIPT)
    lines = [
        *about_held_out(run, "Axolotl"),
        *(ABOUT_SPACES if run.plan.data_format == "prompt-completion" else ()),
        *(ABOUT_TURNS if run.plan.data_format in CHAT_FORMATS else ()),
        *(["It makes a warm-up of one step one of two."] if run.run.warmup_steps == 1 else ()),
        ABOUT_GPUS,
        f"Checked with {CHECKED_WITH}. Run in this folder: axolotl train {FILE}",
    ]
    return [write_text(folder / FILE, header(result, *lines) + yaml_text(config(run)))]


def config(run: TrainerRun) -> dict[str, Any]:
    """Keys of Axolotl's config schema."""
    planned, plan, lora = run.run, run.plan, run.config
    if planned.scheduler == "constant":
        raise NotExpressible("Axolotl has no constant rate after a warm-up.", SCRIPT)
    return {
        "base_model": run.model,
        **run.trust,
        "adapter": "qlora" if planned.quantization == "nf4" else "lora",
        "load_in_4bit": planned.quantization == "nf4",
        "load_in_8bit": planned.quantization == "int8",
        "lora_r": lora.get("r", 8),
        "lora_alpha": lora.get("lora_alpha", 8),
        "lora_dropout": float(lora.get("lora_dropout", 0.0)),
        "lora_target_modules": lora["target_modules"],
        "lora_target_linear": False,
        **({"lora_modules_to_save": lora["modules_to_save"]} if lora.get("modules_to_save") else {}),
        "peft_use_dora": lora.get("use_dora", False),
        "peft_use_rslora": lora.get("use_rslora", False),
        **({"peft_init_lora_weights": lora["init_lora_weights"]} if "init_lora_weights" in lora else {}),
        **lora_plus_ratio(run),
        "datasets": [_data(run, run.data)],
        **({"test_datasets": [_data(run, run.eval_data)]} if run.eval_data else {}),
        "train_on_inputs": plan.data_format == "text",
        "val_set_size": 0.0 if run.eval_data else run.held_out_share,
        "sequence_len": planned.max_length_tokens,
        "excess_length_strategy": "truncate",  # as the probes did; its own way is to drop such rows
        "sample_packing": False,
        "pad_to_sequence_len": False,
        "micro_batch_size": planned.batch_size,
        "gradient_accumulation_steps": planned.gradient_accumulation_steps,
        "gradient_checkpointing": planned.gradient_checkpointing,
        "max_steps": planned.max_steps,
        "optimizer": "adamw_torch",
        "learning_rate": plan.learning_rate,
        "lr_scheduler": planned.scheduler,
        "warmup_steps": planned.warmup_steps,
        "weight_decay": plan.weight_decay,
        "max_grad_norm": planned.max_grad_norm,
        "bf16": planned.dtype == "bfloat16",
        "fp16": planned.dtype == "float16",
        **({"special_tokens": {"pad_token": plan.pad_token}} if plan.pad_token else {}),
        "seed": planned.seed,
        "logging_steps": max(1, planned.max_steps // 50),
        "eval_steps": max(1, planned.max_steps // 5),  # it evaluates nothing by epochs that it does not count
        "output_dir": "axolotl-output",
    }


def _data(run: TrainerRun, data: DataPlace) -> dict[str, Any]:
    place = {"path": data.path, **data.part("name")}
    place |= {"ds_type": data.form} if data.form else {}
    kind = run.plan.data_format
    if kind == "text":
        return {**place, "type": "completion", "field": "text"}
    if kind == "messages":
        return {**place, "type": "chat_template", "field_messages": "messages", "roles_to_train": ["assistant"]}
    if kind == "sharegpt":
        if has_tools(data):
            raise NotExpressible("Axolotl does not read the tools of ShareGPT as the probes did.", SCRIPT)
        speakers = {"user": ["human"], "assistant": ["gpt"], "system": ["system"], "tool": ["observation"]}
        return {
            **place,
            "type": "chat_template",
            "field_messages": "conversations",
            "message_property_mappings": {"role": "from", "content": "value"},
            "roles": speakers,
            "roles_to_train": ["assistant"],
        }
    if kind == "prompt-completion" and prompts_are_text(run):
        # The texts as they are: no template around the prompt, nothing between prompt and completion.
        return {
            **place,
            "type": {
                "system_prompt": "",
                "system_format": "",
                "field_instruction": "prompt",
                "field_output": "completion",
                "format": "{instruction}",
                "no_input_format": "{instruction}",
            },
        }
    raise NotExpressible(f"Axolotl renders {kind} rows in a way of its own, not as the probes did.", SCRIPT)
