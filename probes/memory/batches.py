"""Which batch lengths a run meets, and at which lengths it is enough to trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from knowledge.schema import PlannedRun, Task
from probes.batching import batch_order
from probes.memory.template import FIXED_LENGTH, LENGTH_AND_LABELS, ONE_LENGTH, SOURCE_AND_TARGET, Length

if TYPE_CHECKING:
    from probes.data.rows import TokenRows

SHUFFLES = 5  # orders of the rows that are replayed; the estimate is their median, its range their extremes
# What is replayed: the first batches of the run, and those before and after its dearest. What the cache holds before
# the dearest batch decides how well it fits in; after it next to nothing is reserved any more.
HEAD_STEPS = 12
BEFORE_LONGEST = 12
AFTER_LONGEST = 2
FULL_STEPS = 4  # equal batches repeat themselves from the third on
LENGTH_STEP = 8  # traced lengths are multiples, so that a padded attention bias is no exception
# Without data every row counts as full; the upper end of the range comes from rows between a quarter of that and full.
SHORTEST_ASSUMED = 0.25


@dataclass(frozen=True)
class Passages:
    """What may be replayed of one order of the rows: the first batches, and by each of its largest batches those around
    it. A batch is among the largest if no other has both as many tokens and as many label positions: which of them
    needs most memory depends on the model, for the logits of a label can cost as much as all else of a token."""

    first: tuple[Length, ...]
    around: Mapping[Length, tuple[Length, ...]]

    @classmethod
    def of(cls, lengths: Sequence[Length]) -> Passages:
        around = {}
        for largest in _largest(lengths):
            at = lengths.index(largest)
            begin = max(HEAD_STEPS, at - BEFORE_LONGEST)
            around[largest] = tuple(lengths[begin : at + 1 + AFTER_LONGEST])
        return cls(tuple(lengths[:HEAD_STEPS]), around)

    @property
    def all(self) -> tuple[Length, ...]:
        return sum(self.around.values(), self.first)

    def dearest(self, cost: Callable[[Length], int]) -> tuple[Length, ...]:
        """The first batches and those around the one that costs most."""
        return self.first + self.around[dearest(self.around, cost)]


def dearest(lengths: Iterable[Length], cost: Callable[[Length], int]) -> Length:
    """The one that costs most; the cost of a single one is not asked for, which takes a while."""
    lengths = list(lengths)
    return max(lengths, key=cost) if len(lengths) > 1 else lengths[0]


def _largest(lengths: Iterable[Length]) -> list[Length]:
    """Those that none of the others reaches in both numbers, the one with most tokens first."""
    largest: list[Length] = []
    for length in sorted(set(lengths), reverse=True):
        if not largest or length[1] > largest[-1][1]:
            largest.append(length)
    return largest


@dataclass(frozen=True)
class BatchPlan:
    """The batches to replay, by shuffle, and the largest of all: the one with most tokens first."""

    passages: tuple[Passages, ...]
    largest: tuple[Length, ...]
    exponents: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, passages: Sequence[Passages], exponents: tuple[tuple[int, int], ...]) -> BatchPlan:
        largest = _largest(length for passage in passages for length in passage.around)
        return cls(tuple(passages), tuple(largest), exponents)

    @property
    def longest(self) -> Length:
        return self.largest[0]


def plan_batches(run: PlannedRun, lengths_tokens: ArrayLike | None) -> BatchPlan:
    """Batch lengths as `probes.batching.batch_order` makes them of these rows.

    Without rows: a first sequence of full batches, the expected case, then sequences with rows of mixed lengths,
    which show how much an unlucky order adds.
    """
    if lengths_tokens is None:
        full = default_length(run.max_length_tokens, run.task)
        random = np.random.default_rng(run.seed)
        shortest = max(2, int(run.max_length_tokens * SHORTEST_ASSUMED))
        tokens = random.integers(shortest, run.max_length_tokens + 1, size=64 * run.batch_size)
        tokens[: run.batch_size] = run.max_length_tokens
        mixed = _shuffled(run, np.stack([tokens, _default_labels(tokens, run.task)], axis=1))
        return BatchPlan.of([Passages((full,) * FULL_STEPS, {full: ()}), *mixed], ONE_LENGTH)
    rows = np.asarray(lengths_tokens, dtype=np.int64)
    if rows.size == 0:
        raise ValueError("lengths_tokens is empty: pass the length of at least one row, or None")
    exponents = ONE_LENGTH
    if rows.ndim == 1:
        rows = np.stack([rows, _default_labels(rows, run.task)], axis=1)
    elif run.task == "seq2seq-lm":
        exponents = SOURCE_AND_TARGET
    elif run.task == "causal-lm":
        exponents = LENGTH_AND_LABELS
    return BatchPlan.of(_shuffled(run, rows), exponents)


def default_length(tokens: int, task: Task) -> Length:
    """The length of a batch of which only the number of tokens is known: every position that can bear a label does."""
    return tokens, int(_default_labels(np.array(tokens), task))


def _default_labels(tokens: np.ndarray, task: Task) -> np.ndarray:
    # The first token of a causal row has nothing before it that could predict it.
    return np.maximum(tokens - 1, 1) if task == "causal-lm" else tokens


def _shuffled(run: PlannedRun, rows: np.ndarray) -> list[Passages]:
    """What may be replayed of the run, with its own seed first and then others."""
    passes = min(run.max_steps * run.gradient_accumulation_steps, max(1, 2 * len(rows) // run.batch_size))
    return [Passages.of(_batches(run, rows, passes, run.seed + shuffle)) for shuffle in range(SHUFFLES)]


def _batches(run: PlannedRun, rows: np.ndarray, batches: int, seed: int) -> list[Length]:
    """The lengths of the first batches, ordered as rows are in training: by all tokens of a row."""
    tokens = rows.sum(axis=1) if run.task == "seq2seq-lm" else rows[:, 0]
    cut = np.clip(rows, [2, 1], default_length(run.max_length_tokens, run.task))
    order = batch_order(tokens, run.batch_size, batches, seed)
    return [tuple(cut[batch].max(axis=0).tolist()) for batch in order]


def first_batches(run: PlannedRun, lengths_tokens: ArrayLike, steps: int) -> Passages:
    """The batches of the run's first `steps` optimizer steps, as a probe sees them, as far as they may be replayed: all
    of them would take a hundredth of a second each, after the end of the budget."""
    rows = np.asarray(lengths_tokens, dtype=np.int64)
    return Passages.of(_batches(run, rows, steps * run.gradient_accumulation_steps, run.seed))


def lengths_to_trace(plan: BatchPlan, task: Task) -> list[Length]:
    """The first step's length and as many different ones as there are exponents, near the longest batch."""
    if plan.exponents == FIXED_LENGTH:
        return [plan.longest] * FULL_STEPS
    long = max(-(-plan.longest[0] // LENGTH_STEP), 3) * LENGTH_STEP
    gap = max(long // 4 // LENGTH_STEP, 1) * LENGTH_STEP
    short, middle, most_labels = long - 2 * gap, long - gap, plan.largest[-1][1]
    if plan.exponents == ONE_LENGTH:
        later = [default_length(tokens, task) for tokens in (short, middle, long)]
    elif plan.exponents == LENGTH_AND_LABELS:
        # Never a single label position: cutting it out of the logits copies nothing, which two or more do.
        labels = max(2, min(most_labels, short - 1))
        fewer = labels // 2
        later = [(short, labels), (middle, labels), (long, labels), (long, fewer if fewer > 1 else labels + 1)]
    else:
        many = max(-(-most_labels // LENGTH_STEP), 3) * LENGTH_STEP
        some, few = many - LENGTH_STEP, many - 2 * LENGTH_STEP
        later = [(short, few), (middle, few), (long, few), (short, some), (short, many), (middle, some)]
    return [later[0], *later]


def row_lengths(rows: TokenRows, task: Task) -> list[Length]:
    """Per row what `estimate_peak` takes as lengths_tokens: (tokens, label positions), and (source, target) for
    seq2seq. A causal row's label positions reach from its first trained token to its end, as `collate` keeps them."""
    lengths = []
    for index in range(len(rows)):
        tokens, mask = rows.row(index)
        if task == "seq2seq-lm":
            lengths.append((int((~mask).sum()), int(mask.sum())))
        else:
            # A text to classify may be a single token, and no position of it is trained.
            first = int(np.argmax(mask[1:])) if len(mask) > 1 else 0
            lengths.append((len(tokens), len(mask) - 1 - first))
    return lengths
