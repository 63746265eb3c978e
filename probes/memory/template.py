"""Traced training steps, generalised to any length: what is allocated and freed in which order, and how large.

The order of events does not depend on the lengths of a batch; every size is a polynomial in them. So a few traced
steps give each allocation's size at any length, exactly. The steps are described once as the first step (it creates
the optimizer's state), once as the second (it frees what the first one left) and once as every later step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from probes.memory.kinds import Kind

# Exponents of (length, label length) in a size: a constant, weights x length, attention scores; and with labels of
# their own length the logits, the decoder and its cross-attention. FIXED_LENGTH is for runs with equal batches.
FIXED_LENGTH = ((0, 0),)
ONE_LENGTH = ((0, 0), (1, 0), (2, 0))
LENGTH_AND_LABELS = (*ONE_LENGTH, (0, 1))
SOURCE_AND_TARGET = (*LENGTH_AND_LABELS, (0, 2), (1, 1))

PERSISTENT = -1  # the age of what was there before the first step
BIRTH_BITS = 24  # room for 16 million allocations in one step

Length = tuple[int, int]  # tokens per row after padding, and label positions per row


class OrderDependsOnLength(Exception):
    """The traced steps differ in more than sizes, so they cannot stand for steps of other lengths."""


@dataclass(frozen=True)
class Step:
    """One step's events. Event j allocates (`is_allocation[j]`) or frees allocation number `slot[j]` of the step
    `age[j]` steps ago. `kinds` and `coefficients` describe the allocations in order of their slots."""

    is_allocation: np.ndarray  # [events] bool
    age: np.ndarray  # [events] int32
    slot: np.ndarray  # [events] int32
    kinds: np.ndarray  # [allocations] int8
    coefficients: np.ndarray  # [terms, allocations] float64

    def sizes(self, exponents: Sequence[tuple[int, int]], length: Length) -> np.ndarray:
        """Bytes of each allocation, [allocations], for a batch of that length."""
        terms = np.array([length[0] ** i * length[1] ** j for i, j in exponents], dtype=np.float64)
        return np.maximum(np.rint(terms @ self.coefficients), 0).astype(np.int64)


@dataclass(frozen=True)
class Template:
    """A model's persistent storages and the steps that run on it."""

    persistent_bytes: np.ndarray  # [storages] int64, in the order in which they are allocated
    persistent_kinds: np.ndarray  # [storages] int8
    steps: tuple[Step, ...]  # first, second, every later one
    exponents: tuple[tuple[int, int], ...]
    loader_bytes: int = 0  # what the loader reserves in one block before it fills in the weights
    notes: tuple[str, ...] = field(default=())

    def step(self, index: int) -> Step:
        return self.steps[min(index, len(self.steps) - 1)]


@dataclass(frozen=True)
class RawStep:
    """One traced step: `order` has numbers of allocations where they appear and ~number where they go."""

    length: Length
    first_number: int  # number of the step's first allocation
    order: np.ndarray
    bytes: np.ndarray
    kinds: np.ndarray


def build_steps(raw: Sequence[RawStep], exponents: Sequence[tuple[int, int]]) -> tuple[Step, ...]:
    """First, second and later steps from traced ones. `raw[1:]` are fitted, so they need as many different
    lengths as there are exponents.

    Raises OrderDependsOnLength if the later steps do not have the same events.
    """
    events = relative_events(raw)
    later_agree = all(all(np.array_equal(a, b) for a, b in zip(events[2], other, strict=True)) for other in events[3:])
    if not later_agree:
        raise OrderDependsOnLength(f"events of steps of lengths {[step.length for step in raw[2:]]} differ")
    coefficients = fit_sizes(raw[1:], exponents)
    return (
        Step(*events[0], raw[0].kinds, _first_coefficients(raw, coefficients, exponents)),
        Step(*events[1], raw[1].kinds, coefficients),
        Step(*events[2], raw[2].kinds, coefficients),
    )


def _first_coefficients(raw: Sequence[RawStep], later: np.ndarray, exponents: Sequence[tuple[int, int]]) -> np.ndarray:
    """The first step is traced at one length only. What it allocates beyond the second step is the optimizer's state,
    whose size depends on no length; the rest has the second step's sizes."""
    first, second = raw[0], raw[1]
    coefficients = np.zeros((len(exponents), len(first.bytes)))
    coefficients[0] = first.bytes
    passes, same_in_second = first.kinds != Kind.OPTIMIZER, second.kinds != Kind.OPTIMIZER
    if np.array_equal(first.bytes[passes], second.bytes[same_in_second]):
        coefficients[:, passes] = later[:, same_in_second]
    return coefficients


def fit_sizes(steps: Sequence[RawStep], exponents: Sequence[tuple[int, int]]) -> np.ndarray:
    """Coefficients [terms, allocations] of the sizes of steps that differ in length alone.

    Raises OrderDependsOnLength if the steps do not have equally many allocations.
    """
    if len({len(step.bytes) for step in steps}) != 1:
        raise OrderDependsOnLength(f"steps of lengths {[s.length for s in steps]} differ in their allocations")
    terms = np.array([[s.length[0] ** i * s.length[1] ** j for i, j in exponents] for s in steps], dtype=np.float64)
    scale = np.maximum(terms.max(axis=0), 1)
    fitted, *_ = np.linalg.lstsq(terms / scale, np.stack([s.bytes for s in steps]), rcond=None)
    return fitted / scale[:, None]


def relative_events(raw: Sequence[RawStep]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`is_allocation`, `age` and `slot` of each of several consecutive steps, as `Step` has them."""
    starts = np.array([step.first_number for step in raw])
    return [_relative(index, step, starts) for index, step in enumerate(raw)]


def _relative(index: int, step: RawStep, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    is_allocation = step.order >= 0
    numbers = np.where(is_allocation, step.order, ~step.order)
    born_in = np.searchsorted(starts, numbers, side="right") - 1
    age = np.where(born_in >= 0, index - born_in, PERSISTENT)
    slot = numbers - np.where(born_in >= 0, starts[np.maximum(born_in, 0)], 0)
    return is_allocation, age.astype(np.int32), slot.astype(np.int32)
