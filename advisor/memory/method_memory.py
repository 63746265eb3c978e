"""One method on a model: what a run of it needs, and whether a card has that."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
from pydantic import Field

from knowledge.errors import BadInput
from knowledge.gpus import smallest_gpu
from knowledge.methods.base import Method
from knowledge.schema import MemoryEstimate, PlannedRun, Record
from knowledge.shape import ModelShape

Verdict = Literal["fits", "fits with risk", "does not fit", "no card to judge for", "not estimable", "not applicable"]


class Reach(Record):
    """How far a method can go on the card, everything else as planned. None: not even the smallest fits."""

    largest_batch_size: int | None
    longest_tokens: int | None


class MethodMemory(Record):
    """One method's line of the table."""

    name: str
    title: str
    memory: MemoryEstimate | None = None
    verdict: Verdict
    reason: str = Field("", description="why there is no estimate, or what the reader must know")
    smallest_card: str | None = Field(None, description="the NVIDIA card with the least memory that it fits for sure")
    change: str | None = Field(None, description="the cheapest change that makes it fit")
    reach: Reach | None = None
    duration_s: float = Field(description="time that the estimate took")


class Subject:
    """A method on a model, to be estimated for several runs."""

    def __init__(self, config: Any, shape: ModelShape, method: Method, lengths_tokens: np.ndarray | None) -> None:
        self.config, self.shape, self.method, self.lengths_tokens = config, shape, method, lengths_tokens

    def estimate(self, run: PlannedRun) -> MemoryEstimate:
        """The estimate for `run`; raises NotEstimable."""
        from advisor.memory.planned_memory import training_of
        from probes.memory import estimate_peak

        return estimate_peak(
            self.config,
            self.method.peft_config(self.shape, run.max_steps),
            run,
            lengths_tokens=self.lengths_tokens,
            **training_of(self.method),
        )

    def line(self, run: PlannedRun, limit_bytes: int | None) -> MethodMemory:
        """The method's line of the table, with a reason in words where there is no estimate; without a limit, with
        no verdict."""
        from probes.memory import NotEstimable

        started = time.perf_counter()

        def line(verdict: Verdict, reason: str = "", memory: MemoryEstimate | None = None) -> MethodMemory:
            return MethodMemory(
                name=self.method.name,
                title=self.method.title,
                memory=memory,
                smallest_card=_smallest_card(memory),
                verdict=verdict,
                reason=reason,
                duration_s=round(time.perf_counter() - started, 3),
            )

        if unsupported := self.method.unsupported_reason(self.shape):
            return line("not applicable", unsupported)
        try:
            memory = self.estimate(run)
        except BadInput as error:  # the model has no modules that the method could adapt
            return line("not applicable", str(error))
        except NotEstimable as error:
            return line("not estimable", error.reason)
        return line(verdict_on(memory, limit_bytes), memory.note, memory)


def _smallest_card(memory: MemoryEstimate | None) -> str | None:
    from probes.device import CUDA_CONTEXT_BYTES

    card = smallest_gpu(memory.high_bytes + CUDA_CONTEXT_BYTES) if memory else None
    return card.name.removeprefix("NVIDIA ").removeprefix("GeForce ") if card else None


def verdict_on(memory: MemoryEstimate, limit_bytes: int | None) -> Verdict:
    """'fits' if the worst order of batches does, 'fits with risk' if the expected peak does: an unlucky order then gets
    through by giving cached memory back. What does not fit is what `advisor recommend` never picks for its memory."""
    if limit_bytes is None:
        return "no card to judge for"
    if memory.surely_fits(limit_bytes):
        return "fits"
    return "fits with risk" if memory.is_likely_to_fit(limit_bytes) else "does not fit"
