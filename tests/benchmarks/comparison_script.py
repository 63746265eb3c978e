"""The training script of the PEFT method comparison (MetaMathQA), as far as it decides memory.

Read off `method_comparison/MetaMathQA/run.py` in PEFT's repository: which tensors live how long, in which order the
batches come, when the cache is emptied, when answers are generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import gammainccinv

from knowledge.schema import PlannedRun
from probes.adapters import after_optimizer_step
from probes.memory.kinds import Kind
from probes.memory.loop import label_gradients
from probes.memory.template import Length
from probes.memory.tracer import AllocationTracer

EMPTY_CACHE_EVERY = 10  # ACCELERATOR_EMPTY_CACHE_SCHEDULE
BATCHES_PER_BUCKET = 20  # BUCKET_FACTOR: that many batches are sorted by length together, longest first
EVALUATE_EVERY = 250

OPTIMIZERS = {
    "lora-fa": "peft.optimizers:create_lorafa_optimizer",
    "lora+": "peft.optimizers:create_loraplus_optimizer",
    "riemannian": "peft.optimizers:create_riemannian_optimizer",
}

SHORTEST_TOKENS = 40
SHAPES = (1.1, 100.0)  # of gamma distributions that come into question: from nearly exponential to nearly normal


def comparison_loop(
    model: Any, optimizer: Any, lengths: Iterator[Length], run: PlannedRun, tracer: AllocationTracer
) -> Iterator[None]:
    """The body of its training loop. `outputs` lives until the next forward pass has ended: logits and key-value
    cache of one step are there while the next one's are made."""
    if hasattr(model, "disable_adapter"):
        # The script measures the base model's loss first. Leaving this context turns on the gradients of every
        # adapter tensor, also of those that an optimizer has frozen (LoRA-FA).
        with model.disable_adapter():
            pass
    model.train()
    for step, (tokens, _) in enumerate(lengths):
        tracer.phase = Kind.ACTIVATIONS
        input_ids = torch.zeros(run.batch_size, tokens, dtype=torch.long, device="meta")
        batch = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        labels = batch["input_ids"].clone()
        batch["labels"] = labels
        optimizer.zero_grad()
        outputs = model(**batch, num_items_in_batch=run.batch_size * tokens)
        loss = outputs.loss
        update(model, optimizer, loss, run, tracer, step)
        yield


def update(
    model: Any, optimizer: Any, loss: torch.Tensor, run: PlannedRun, tracer: AllocationTracer, step: int
) -> None:
    """The second half of a step, which the scripts for text and for images have in common."""
    loss.backward()
    label_gradients(tracer, [p for p in model.parameters() if p.requires_grad])
    torch.nn.utils.clip_grad_norm_(model.parameters(), run.max_grad_norm)
    tracer.phase = Kind.OPTIMIZER
    optimizer.step()
    after_optimizer_step(model, step + 1)


@dataclass(frozen=True)
class RowLengths:
    """Lengths of training rows: gamma distributed, with the mean known from the result files and the longest of all
    `rows`; the shape is the one with which the longest of so many is expected to be `longest`.

    For the comparison's data that is a standard deviation of 84 tokens. Two other figures of the result files speak for
    it. The tokens of every thousand rows (`tokens / sec` times `train time` of each evaluation) scatter as those of
    rows with 95 +- 15 do. And the 99th percentile of reserved memory is about 3 % below a replay's; with log-normal
    lengths up to the same longest row, whose deviation is 69, it is 4 to 7 % above it (twelve methods).
    """

    mean: float
    longest: int
    rows: int

    @cached_property
    def shape(self) -> float:
        def excess(shape: float) -> float:
            return self.mean / shape * gammainccinv(shape, 1 / self.rows) - self.longest

        return float(brentq(excess, *SHAPES))

    def bucket(self, random: np.random.Generator, batch_size: int) -> list[Length]:
        """The batch lengths of one bucket of rows, longest first."""
        rows = random.gamma(self.shape, self.mean / self.shape, BATCHES_PER_BUCKET * batch_size)
        rows = np.sort(np.clip(np.rint(rows), SHORTEST_TOKENS, self.longest).astype(int))[::-1]
        return [(int(tokens), 0) for tokens in rows[::batch_size]]

    def longest_buckets(self, random: np.random.Generator, batch_size: int) -> list[Length]:
        """An ordinary bucket, then the one with the run's longest row."""
        ordinary, with_longest = (self.bucket(random, batch_size) for _ in range(2))
        return [*ordinary, (self.longest, 0), *with_longest[1:]]

    def before_evaluations(
        self, random: np.random.Generator, batch_size: int, max_steps: int
    ) -> Iterator[list[Length]]:
        """For each evaluation that finds much reserved, the batches since the cache was emptied. Every second one comes
        after the first, longer half of a bucket, and those count."""
        for _ in range(max(max_steps // EVALUATE_EVERY // 2, 1)):
            yield self.bucket(random, batch_size)[:EMPTY_CACHE_EVERY]
