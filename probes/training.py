"""The training loop of a probe: read it from top to bottom.

The same loop, with the same order of operations, is what the exported train.py runs and what the memory dry run
traces. Every candidate sees the same batches in the same order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from knowledge.schema import CurvePoint
from probes.adapters import Ineffective
from probes.batching import IGNORE_INDEX, collate, padded_tokens
from probes.evaluation import Evaluation, to_device
from probes.forward import training_losses

if TYPE_CHECKING:
    import numpy as np

    from probes.data.dataset import TokenRows
    from probes.schema import ProbeContext, Schedule


class Diverged(Exception):
    """The loss became nan, infinite or, by an overflow, exactly zero."""


@dataclass
class Progress:
    """Where a training run stands; `train` updates it in place."""

    step: int = 0
    train_s: float = 0.0
    trained_tokens: int = 0
    recent_losses: list[float] = field(default_factory=list)
    loss_scaler: dict[str, float] = field(default_factory=dict)
    """State of the GradScaler; empty but for float16."""
    peak_bytes: int | None = None
    """The most memory that was held until the last checkpoint, by whichever processes trained it."""

    def take_mean_loss(self) -> float | None:
        losses, self.recent_losses = self.recent_losses, []
        return sum(losses) / len(losses) if losses else None


def train(
    model: Any,
    optimizer: Any,
    schedule: Schedule,
    rows: TokenRows,
    order: Sequence[np.ndarray],
    context: ProbeContext,
    *,
    progress: Progress,
    stop_step: int,
    eval_steps: Sequence[int],
    evaluate: Callable[[], Evaluation],
    after_step: Callable[[int], None],
    through_model_loss: bool,
    pad_token_id: int,
) -> Iterator[CurvePoint | float]:
    """Trains from `progress.step` to `stop_step` and yields each step's loss, and a CurvePoint after each of
    `eval_steps`, also where it stands already: that point was lost with whoever stopped it. `order` holds the row
    indices of every forward pass from step 0 to `stop_step`, so a continued probe goes on with the batch where it
    stopped.

    `after_step(step)` is called between the optimizer's step and the clearing of gradients (AdaLoRA's place).
    With `through_model_loss` the gradient is that of the model's own loss, with the terms the method adds to it.

    In float16 the loss is scaled, and a step whose gradients overflow is left out while the scale is found: without,
    small gradients become zero. What trains must be float32 there, as PEFT keeps it.

    Raises Diverged, and Ineffective where no gradient reaches what should train.
    """
    import torch

    trainable = [p for p in model.parameters() if p.requires_grad]
    base_rates = [group["lr"] for group in optimizer.param_groups]
    accumulation = context.gradient_accumulation_steps
    scaler = _loss_scaler(trainable, context, progress)
    model.train()
    if progress.step in eval_steps:
        yield _point(progress, evaluate())
    while progress.step < stop_step:
        started = time.perf_counter()
        passes = order[progress.step * accumulation : (progress.step + 1) * accumulation]
        parts = [collate(rows, indices, pad_token_id, context.task) for indices in passes]
        progress.trained_tokens += sum(padded_tokens(part, context.task) for part in parts)
        step_loss = _backward(model, parts, scaler, context, through_model_loss)
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(trainable, context.max_grad_norm)
        _check_loss(step_loss, float(norm), progress.step)
        if progress.step == 0 and float(norm) == 0.0:
            raise Ineffective("no gradient reaches the trainable parameters")
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate * schedule.factor(progress.step)
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() >= scale:  # else the step was left out, and its gradients are no numbers
            after_step(progress.step)
        optimizer.zero_grad()
        progress.loss_scaler = scaler.state_dict()
        progress.step += 1
        progress.train_s += time.perf_counter() - started
        progress.recent_losses.append(step_loss)
        yield step_loss
        if progress.step in eval_steps:
            yield _point(progress, evaluate())
    for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
        group["lr"] = rate  # a continued run multiplies by the factor anew


def _loss_scaler(trainable: Sequence[Any], context: ProbeContext, progress: Progress) -> Any:
    """Scales losses in float16 and does nothing otherwise; goes on from where `progress` stands."""
    import torch

    scaler = torch.amp.GradScaler(torch.device(context.device).type, enabled=context.dtype == "float16")
    if scaler.is_enabled() and any(p.dtype == torch.float16 for p in trainable):
        raise Ineffective("it trains weights in float16, in which the steps of AdamW are lost")
    if scaler.is_enabled() and progress.loss_scaler:
        scaler.load_state_dict(progress.loss_scaler)
    return scaler


def _point(progress: Progress, held_out: Evaluation) -> CurvePoint:
    return held_out.point(progress.step, train_loss=progress.take_mean_loss(), elapsed_s=progress.train_s)


def _backward(
    model: Any, parts: Sequence[dict[str, Any]], scaler: Any, context: ProbeContext, through_model_loss: bool
) -> float:
    """Adds up the gradients of a step's batch, part by part, and returns its plain loss."""
    step_loss = 0.0
    for part, share in zip(parts, _shares(parts), strict=True):
        batch = to_device(part, context.device)
        loss, own_loss = training_losses(model, batch, context.task, through_model_loss=through_model_loss)
        scaler.scale(loss * share).backward()
        step_loss += float(own_loss) * share
    return step_loss


def _shares(parts: Sequence[dict[str, Any]]) -> list[float]:
    """What each part of a step's batch weighs: its share of the labels, so that a batch in parts is the batch."""
    counts = [int((part["labels"] != IGNORE_INDEX).sum()) for part in parts]
    return [count / max(1, sum(counts)) for count in counts]


def _check_loss(loss: float, gradient_norm: float, step: int) -> None:
    # A loss of exactly zero is how overflowing runs report themselves in some set-ups. Later in a run it may be that of
    # easy rows, where the right answer is all that float32 can see.
    overflows = loss == 0.0 and (step == 0 or not math.isfinite(gradient_norm))
    if not math.isfinite(loss) or overflows:
        raise Diverged(f"training loss is {loss} at step {step + 1}")
