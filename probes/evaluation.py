"""Held-out loss and metric of a model, without generation.

Exact match is teacher-forced: every label token is the most likely one given the right tokens before it. For a
greedy decoder this equals the exact match of generated answers, since both agree up to the first wrong token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from knowledge.schema import CurvePoint, Finite, Record, Task
from probes.batching import IGNORE_INDEX, collate, padded_tokens
from probes.forward import forward_inputs, label_logits

if TYPE_CHECKING:
    import numpy as np

    from probes.data.dataset import TokenRows


class Evaluation(Record):
    """Values over held-out rows."""

    loss: Finite = Field(description="nats per label token (per row for classification); inf and nan are kept out")
    metric: Finite
    token_accuracy: Finite | None = Field(None, description="beside an exact match: the share of right label tokens")
    tokens: int = Field(description="tokens passed forward, with padding")
    row_losses: tuple[Finite, ...] = Field(
        description="nats summed over the label tokens of each row, in the order of the rows, to five digits"
    )
    row_labels: tuple[int, ...] = Field(description="label tokens of each row; 1 for classification")
    row_right: tuple[int, ...] = Field((), description="right label tokens of each row")

    def point(self, step: int, **trained: float | None) -> CurvePoint:
        """The point of a curve after `step` steps; `trained` are its fields that no evaluation tells."""
        values = {"eval_loss": self.loss, "metric": self.metric, "token_accuracy": self.token_accuracy}
        return CurvePoint(step=step, **values, **trained)


class NotFinite(Exception):
    """The held-out loss is nan or infinite."""


def evaluate(
    model: Any,
    rows: TokenRows,
    *,
    task: Task,
    metric_name: str,
    batch_size: int,
    pad_token_id: int,
    device: str,
    metric_of_rows: Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], float] | None = None,
) -> Evaluation:
    """Evaluates all of `rows`; raises NotFinite when the loss is not a number. Leaves the model in its mode.

    metric_of_rows: measures the metric of that name where it is no share of right rows or tokens; gets the predicted
    and the right label ids of every row.
    """
    import numpy as np
    import torch

    was_training = model.training
    model.eval()
    # Columns: nats, label tokens, and what is right of them.
    per_row, tokens = np.zeros((len(rows), 3)), 0
    predicted_ids, right_ids = ([[]] * len(rows) for _ in range(2))
    by_length = np.argsort(rows.lengths_tokens, kind="stable")
    with torch.no_grad():
        for start in range(0, len(by_length), batch_size):
            indices = by_length[start : start + batch_size]
            batch = to_device(collate(rows, indices, pad_token_id, task), device)
            logits = model(**forward_inputs(model, batch, task)).logits
            aligned, labels = label_logits(logits, batch, task), batch["labels"]
            per_row[indices] = _judged(aligned, labels)
            tokens += padded_tokens(batch, task)
            if metric_of_rows:
                for row, predicted, right in zip(indices, *_answers(aligned, labels), strict=True):
                    predicted_ids[row], right_ids[row] = predicted, right
    model.train(was_training)
    own_metric = partial(metric_of_rows, predicted_ids, right_ids) if metric_of_rows else None
    return _evaluation(per_row, tokens, metric_name, own_metric)


def _evaluation(
    per_row: np.ndarray, tokens: int, metric_name: str, own_metric: Callable[[], float] | None
) -> Evaluation:
    """Of what was found on each row; `own_metric` measures what is no share of right rows or tokens."""
    row_losses, row_labels, right = per_row.T
    loss = float(row_losses.sum() / max(1, row_labels.sum()))
    if not math.isfinite(loss):
        raise NotFinite(f"held-out loss is {loss}")
    token_accuracy = float(right.sum() / max(1, row_labels.sum()))  # of a classifier, with one label per row, accuracy
    is_exact_match = metric_name == "exact match" and not own_metric
    usual = float((right == row_labels).sum() / max(1, len(per_row))) if is_exact_match else token_accuracy
    return Evaluation(
        loss=loss,
        metric=own_metric() if own_metric else usual,
        token_accuracy=token_accuracy if is_exact_match else None,
        tokens=tokens,
        row_losses=tuple(round(nats, 5) for nats in row_losses.tolist()),
        row_labels=tuple(int(count) for count in row_labels),
        row_right=tuple(int(count) for count in right),
    )


def _judged(aligned: Any, labels: Any) -> Any:
    """Shape (rows, 3): the nats, the label tokens, and the right ones of them, of each row of a batch."""
    import torch
    from torch.nn import functional

    kept = labels != IGNORE_INDEX
    losses = torch.zeros(kept.shape, device=kept.device)
    losses[kept] = functional.cross_entropy(aligned[kept].float(), labels[kept], reduction="none")
    right = (aligned.argmax(-1) == labels) & kept
    columns = [column.view(len(labels), -1).sum(-1).float() for column in (losses, kept, right)]
    return torch.stack(columns, -1).cpu().numpy()


def _answers(aligned: Any, labels: Any) -> tuple[list[list[int]], list[list[int]]]:
    """The predicted and the right label ids of each row of a batch."""
    predicted, kept = aligned.argmax(-1), labels != IGNORE_INDEX
    return tuple(
        [ids[is_label].view(-1).tolist() for ids, is_label in zip(of, kept, strict=True)] for of in (predicted, labels)
    )


def to_device(batch: dict[str, Any], device: str) -> dict[str, Any]:
    """The batch with its tensors on `device`; other values as they are."""
    return {key: value.to(device) if hasattr(value, "to") else value for key, value in batch.items()}
