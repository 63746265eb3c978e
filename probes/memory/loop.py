"""The training step that is traced: the one of `probes.training`, with the same order and lifetimes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

from knowledge.schema import PlannedRun, Task
from probes.adapters import after_optimizer_step
from probes.forward import training_losses
from probes.memory.kinds import Kind
from probes.memory.template import Length
from probes.memory.tracer import AllocationTracer


class TrainingLoop(Protocol):
    """A generator over the steps of a training run: it takes one length per step from `lengths` and yields after
    each. It sets `tracer.phase` to say what the storages to come are for."""

    def __call__(
        self, model: Any, optimizer: Any, lengths: Iterator[Length], run: PlannedRun, tracer: AllocationTracer
    ) -> Iterator[None]: ...


def advisor_loop(
    model: Any, optimizer: Any, lengths: Iterator[Length], run: PlannedRun, tracer: AllocationTracer
) -> Iterator[None]:
    """The loop of probes.training.train. More than two accumulated passes repeat the second, so two are traced."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    model.train()
    for length in lengths:
        for _ in range(min(run.gradient_accumulation_steps, 2)):
            tracer.phase = Kind.ACTIVATIONS
            batch = make_batch(run, length, trainable[0].device)
            loss = _loss(model, batch, run.task)
            (loss / run.gradient_accumulation_steps).backward()
            label_gradients(tracer, trainable)
        torch.nn.utils.clip_grad_norm_(trainable, run.max_grad_norm)
        tracer.phase = Kind.OPTIMIZER
        optimizer.step()
        # Always as after the first step: AdaLoRA then measures importances, and does not yet choose ranks by values.
        after_optimizer_step(model, 0)
        optimizer.zero_grad()
        yield


def _loss(model: Any, batch: Mapping[str, Any], task: Task) -> torch.Tensor:
    extra = extra_inputs(model, batch["input_ids"])
    loss, _ = training_losses(model, batch, task, through_model_loss=trains_through_model_loss(model), **extra)
    return loss


def trains_through_model_loss(model: Any) -> bool:
    """Whether the method adds terms of its own to the model's loss."""
    configs = getattr(model, "peft_config", {}).values()
    return any(
        config.peft_type.value in ("ADALORA", "CPT", "SHADOW")
        or getattr(config, "kasa_config", None)
        or getattr(config, "monteclora_config", None)
        for config in configs
    )


def extra_inputs(model: Any, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Inputs that some methods want beside the tokens: which task a row belongs to, which part a token."""
    types = {config.peft_type.value for config in getattr(model, "peft_config", {}).values()}
    if types & {"POLY", "MULTITASK_PROMPT_TUNING"}:
        return {"task_ids": torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)}
    if "CPT" in types:
        return {"input_type_mask": torch.zeros_like(input_ids)}
    return {}


def make_batch(run: PlannedRun, length: Length, device: torch.device) -> dict[str, Any]:
    """A collated batch of that length, as probes.batching makes it."""
    tokens, label_tokens = length
    rows = run.batch_size
    batch: dict[str, Any] = {
        "input_ids": torch.zeros(rows, tokens, dtype=torch.long, device=device),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.long, device=device),
    }
    if run.task == "sequence-classification":
        batch["labels"] = torch.zeros(rows, dtype=torch.long, device=device)
    else:
        batch["labels"] = torch.zeros(rows, label_tokens, dtype=torch.long, device=device)
    return batch


def label_gradients(tracer: AllocationTracer, trainable: list[torch.Tensor]) -> None:
    """What is a parameter's gradient now was an activation when it appeared."""
    for parameter in trainable:
        if parameter.grad is not None:
            tracer.relabel(parameter.grad, Kind.GRADIENTS)
