"""Runs a template through the allocator for a sequence of batch lengths, and reads off the peak and what it is
made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probes.memory.allocator import UNIT_BYTES, CachingAllocator, SimulatedOutOfMemory
from probes.memory.kinds import Kind
from probes.memory.template import BIRTH_BITS, PERSISTENT, Length, Step, Template

if TYPE_CHECKING:
    from probes.memory.generation import GenerationPlan

# cuBLAS keeps one workspace per handle: the thread of the forward and that of the backward pass each have one.
# PyTorch's default configuration is :4096:2:16:8, i.e. 2 x 4096 KiB + 8 x 16 KiB (ATen/cuda/CublasHandlePool.cpp).
CUBLAS_WORKSPACE_BYTES = (2 * 4096 + 8 * 16) * 1024
CUBLAS_HANDLES = 2

GENERATION_HANDLES = 1 << 60  # above the handles of all training steps

STEPS_AT_LIMIT = 4
LIMIT_TOLERANCE = 0.005


@dataclass(frozen=True)
class Peak:
    """The largest reservation of one replay, and the most that was in use at once."""

    reserved_bytes: int
    allocated_bytes: int


@dataclass(frozen=True)
class LivePeak:
    """The moment at which most bytes are in use, as requested (without the allocator's rounding)."""

    total_bytes: int
    bytes_by_kind: Mapping[int, int]


class Replay:
    """An allocator that has loaded the model of `template` and can run its steps."""

    def __init__(self, template: Template, limit_bytes: int | None = None) -> None:
        self.template = template
        self.allocator = CachingAllocator(limit_bytes)
        self._steps_done = 0
        self._load()

    def _load(self) -> None:
        if self.template.loader_bytes:  # transformers reserves all weights in one block, then frees and fills it
            self.allocator.allocate("loader", self.template.loader_bytes)
            self.allocator.free("loader")
        for slot, size in enumerate(self.template.persistent_bytes.tolist()):
            self.allocator.allocate(-1 - slot, size)
        for handle in range(CUBLAS_HANDLES):
            self.allocator.allocate(f"cublas {handle}", CUBLAS_WORKSPACE_BYTES)

    def run(self, lengths: Iterable[Length], empty_cache_every: int | None = None) -> None:
        """Runs one step per length; `empty_cache_every` that many steps, the cache is emptied."""
        for length in lengths:
            self.step(length)
            if empty_cache_every and self._steps_done % empty_cache_every == 0:
                self.allocator.empty_cache()

    def step(self, length: Length) -> None:
        self._run_step(self.template, self._steps_done, length)
        self._steps_done += 1

    def generate(self, template: Template, plan: GenerationPlan) -> None:
        """A generation between two training steps, on what training has left; all of it is freed at the end."""
        for index in range(1 + plan.new_tokens):
            self._run_step(template, index, (plan.prompt_tokens + index, 0), GENERATION_HANDLES)
        self.allocator.free_all(lambda handle: isinstance(handle, int) and handle >= GENERATION_HANDLES)

    def _run_step(self, template: Template, index: int, length: Length, first_handle: int = 0) -> None:
        step = template.step(index)
        units = np.zeros(len(step.slot), dtype=np.int64)
        units[step.is_allocation] = -(-step.sizes(template.exponents, length) // UNIT_BYTES)
        handles = _handles(step, index)
        handles[handles >= 0] += first_handle
        self.allocator.run(handles.tolist(), units.tolist())

    def peak(self) -> Peak:
        return Peak(self.allocator.peak_reserved_bytes, self.allocator.peak_allocated_bytes)


def _handles(step: Step, index: int) -> np.ndarray:
    return np.where(
        step.age == PERSISTENT, -1 - step.slot, (index - step.age).astype(np.int64) << BIRTH_BITS | step.slot
    )


def replay_lengths(template: Template, lengths: Sequence[Length]) -> Peak:
    """The peak of a run whose batches have these lengths, in this order."""
    replay = Replay(template)
    replay.run(lengths)
    return replay.peak()


def least_memory(template: Template, length: Length) -> int:
    """Bytes with which the run still gets through: PyTorch gives cached blocks back before it reports out of memory.

    Found by bisection to within LIMIT_TOLERANCE over a few batches of that length.
    """
    lengths = [length] * STEPS_AT_LIMIT
    peak = replay_lengths(template, lengths)
    too_little, enough = peak.allocated_bytes, peak.reserved_bytes
    while enough - too_little > LIMIT_TOLERANCE * enough:
        middle = (too_little + enough) // 2
        try:
            Replay(template, limit_bytes=middle).run(lengths)
            enough = middle
        except SimulatedOutOfMemory:
            too_little = middle
    return enough


def live_peak(template: Template, length: Length) -> LivePeak:
    """What is in use at the peak of a run whose batches all have this length."""
    live: dict[int, tuple[int, int]] = {}
    by_kind = [0] * (max(Kind) + 1)
    for slot, (kind, size) in enumerate(
        zip(template.persistent_kinds, template.persistent_bytes.tolist(), strict=True)
    ):
        live[-1 - slot] = (kind, size)
        by_kind[kind] += size
    best, best_by_kind = sum(by_kind), list(by_kind)
    total = best
    for index in range(len(template.steps) + 1):
        step = template.step(index)
        sizes = step.sizes(template.exponents, length).tolist()
        for is_allocation, handle, slot in zip(
            step.is_allocation.tolist(), _handles(step, index).tolist(), step.slot.tolist(), strict=True
        ):
            if is_allocation:
                kind, size = live[handle] = (step.kinds[slot], sizes[slot])
            elif handle in live:
                kind, size = live.pop(handle)
                size = -size
            else:
                continue
            total += size
            by_kind[kind] += size
            if total > best:
                best, best_by_kind = total, list(by_kind)
    return LivePeak(best, {Kind(kind): size for kind, size in enumerate(best_by_kind)})
