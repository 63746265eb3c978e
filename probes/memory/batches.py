"""Which batch lengths a run meets, and at which lengths it is enough to trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from knowledge.schema import PlannedRun, Task
from probes.batching import batch_order
from probes.memory.template import FIXED_LENGTH, LENGTH_AND_LABELS, ONE_LENGTH, SOURCE_AND_TARGET, Length

if TYPE_CHECKING:
    from probes.rows import TokenRows

SHUFFLES = 5  # orders of the rows that are replayed; the estimate is their median, its range their extremes
# What is replayed: the first batches of the run, and those before and after its longest. What the cache holds before
# the longest batch decides how well it fits in; after it next to nothing is reserved any more.
HEAD_STEPS = 12
BEFORE_LONGEST = 12
AFTER_LONGEST = 2
FULL_STEPS = 4  # equal batches repeat themselves from the third on
LENGTH_STEP = 8  # traced lengths are multiples, so that a padded attention bias is no exception
# Without data every row counts as full; the upper end of the range comes from rows between a quarter of that and full.
SHORTEST_ASSUMED = 0.25


@dataclass(frozen=True)
class BatchPlan:
    """The batch lengths to replay: one sequence per shuffle, and the longest of all."""

    sequences: tuple[tuple[Length, ...], ...]
    longest: Length
    exponents: tuple[tuple[int, int], ...]


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
        mixed = _sequences(run, np.stack([tokens, _default_labels(tokens, run.task)], axis=1))
        return BatchPlan(((full,) * FULL_STEPS, *mixed), full, ONE_LENGTH)
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
    limit = np.array(default_length(run.max_length_tokens, run.task))
    sequences = _sequences(run, np.clip(rows, [2, 1], limit))
    longest = max(length for sequence in sequences for length in sequence)
    return BatchPlan(sequences, longest, exponents)


def default_length(tokens: int, task: Task) -> Length:
    """The length of a batch of which only the number of tokens is known: every position that can bear a label does."""
    return tokens, int(_default_labels(np.array(tokens), task))


def _default_labels(tokens: np.ndarray, task: Task) -> np.ndarray:
    # The first token of a causal row has nothing before it that could predict it.
    return np.maximum(tokens - 1, 1) if task == "causal-lm" else tokens


def _sequences(run: PlannedRun, rows: np.ndarray) -> tuple[tuple[Length, ...], ...]:
    """Per shuffle what is replayed of the run."""
    passes = min(run.max_steps * run.gradient_accumulation_steps, max(1, 2 * len(rows) // run.batch_size))
    sequences = []
    for shuffle in range(SHUFFLES):
        order = batch_order(rows[:, 0], run.batch_size, passes, run.seed + shuffle)
        sequences.append(tuple(_that_matter([tuple(rows[batch].max(axis=0).tolist()) for batch in order])))
    return tuple(sequences)


def _that_matter(lengths: list[Length]) -> list[Length]:
    """The first batches and those around the longest."""
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    first = max(HEAD_STEPS, longest - BEFORE_LONGEST)
    return lengths[:HEAD_STEPS] + lengths[first : longest + 1 + AFTER_LONGEST]


def first_batches(run: PlannedRun, lengths_tokens: ArrayLike, steps: int) -> list[Length]:
    """The batch lengths of the run's first `steps` optimizer steps, as a probe sees them, as far as they are replayed:
    all of them would take a hundredth of a second each, after the end of the budget."""
    rows = np.clip(np.asarray(lengths_tokens, dtype=np.int64), [2, 1], default_length(run.max_length_tokens, run.task))
    order = batch_order(rows[:, 0], run.batch_size, steps * run.gradient_accumulation_steps, run.seed)
    return _that_matter([tuple(rows[batch].max(axis=0).tolist()) for batch in order])


def lengths_to_trace(plan: BatchPlan, task: Task) -> list[Length]:
    """The first step's length and as many different ones as there are exponents, near the longest batch."""
    if plan.exponents == FIXED_LENGTH:
        return [plan.longest] * FULL_STEPS
    long = max(-(-plan.longest[0] // LENGTH_STEP), 3) * LENGTH_STEP
    gap = max(long // 4 // LENGTH_STEP, 1) * LENGTH_STEP
    short, middle = long - 2 * gap, long - gap
    if plan.exponents == ONE_LENGTH:
        later = [default_length(tokens, task) for tokens in (short, middle, long)]
    elif plan.exponents == LENGTH_AND_LABELS:
        # Never a single label position: cutting it out of the logits copies nothing, which two or more do.
        labels = max(2, min(max(length[1] for sequence in plan.sequences for length in sequence), short - 1))
        fewer = labels // 2
        later = [(short, labels), (middle, labels), (long, labels), (long, fewer if fewer > 1 else labels + 1)]
    else:
        many = max(-(-max(length[1] for s in plan.sequences for length in s) // LENGTH_STEP), 3) * LENGTH_STEP
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
