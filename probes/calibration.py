"""Training batches in the forms that data-driven initialisations of adapters want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowledge.schema import Task
from probes.forward import forward_inputs, label_logits, label_loss

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Calibration:
    """A few training batches of a task. Methods get it in their hooks before and after wrapping."""

    batches: Sequence[Mapping[str, Any]]
    task: Task

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Keyword arguments of forward passes without labels."""
        return [{key: batch[key] for key in ("input_ids", "attention_mask")} for batch in self.batches]

    @property
    def single_rows(self) -> list[dict[str, Any]]:
        """The same, one sequence each, without its padding."""
        rows = []
        for batch in self.inputs:
            for tokens, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
                kept = tokens[mask.bool()].unsqueeze(0)
                rows.append({"input_ids": kept, "attention_mask": kept.new_ones(kept.shape)})
        return rows

    def backward(self, model: torch.nn.Module) -> None:
        """Accumulates the gradient of the task's loss over all batches."""
        for batch in self.batches:
            output = model(**forward_inputs(model, batch, self.task))
            label_loss(label_logits(output.logits, batch, self.task), batch["labels"]).backward()
