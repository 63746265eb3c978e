"""The planned run in the words of transformers.TrainingArguments, which other trainers take over."""

from __future__ import annotations

from typing import Any

from knowledge.schema import PlannedRun


def in_parts(run: PlannedRun, parts: int) -> PlannedRun:
    """The run with each batch in at least `parts` forward passes whose gradients add up, for trainers that take batches
    of one size: where whole ones ran out of memory they would again."""
    rows = run.batch_size // parts if run.batch_size % parts == 0 else 1
    accumulated = run.gradient_accumulation_steps * (run.batch_size // rows)
    return run.model_copy(update={"batch_size": rows, "gradient_accumulation_steps": accumulated})


def training_arguments(run: PlannedRun, learning_rate: float, weight_decay: float) -> dict[str, Any]:
    """Keyword arguments beside `output_dir`; what is not named here is transformers' to choose."""
    return {
        "max_steps": run.max_steps,
        "per_device_train_batch_size": run.batch_size,
        "gradient_accumulation_steps": run.gradient_accumulation_steps,
        "gradient_checkpointing": run.gradient_checkpointing,
        "learning_rate": learning_rate,
        # transformers' "constant" leaves out the warm-up.
        "lr_scheduler_type": "constant_with_warmup" if run.scheduler == "constant" else run.scheduler,
        "warmup_steps": run.warmup_steps,
        "weight_decay": weight_decay,
        "max_grad_norm": run.max_grad_norm,
        "bf16": run.dtype == "bfloat16",
        "fp16": run.dtype == "float16",
        "seed": run.seed,
    }
