"""Batches: which rows in which order, and their tensors.

Every candidate sees the same batches in the same order, so that the differences between curves are the methods' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge.schema import Task
from probes.data.rows import TokenRows

if TYPE_CHECKING:
    import torch

IGNORE_INDEX = -100
MEGA_BATCH = 8  # batches whose rows are sorted by length together: saves padding, keeps the order nearly random


def batch_order(lengths_tokens: np.ndarray, batch_size: int, steps: int, seed: int) -> list[np.ndarray]:
    """Row indices of each of `steps` batches of `batch_size` rows; a pure function of its arguments.

    Passes over the rows are shuffled anew and joined end to end, so that every row is seen once before any is seen
    twice and no batch is short. Within each run of MEGA_BATCH batches of a pass the rows are sorted by length and the
    batches shuffled; the batch that ends one pass and begins the next stays as it is drawn. The first n batches are the
    same for every `steps` >= n: a prolonged probe goes on where it stopped.
    """
    rows = len(lengths_tokens)
    if rows == 0:
        raise ValueError("batch_order needs at least one row")
    random = np.random.default_rng(seed)
    batches: list[np.ndarray] = []
    left = np.empty(0, dtype=np.int64)  # of the pass before, too few for a batch
    while len(batches) < steps:
        drawn = np.concatenate([left, random.permutation(rows)])
        if len(left) and len(drawn) >= batch_size:
            batches.append(drawn[:batch_size])
            drawn = drawn[batch_size:]
        whole = len(drawn) // batch_size * batch_size
        left = drawn[whole:]
        for start in range(0, whole, MEGA_BATCH * batch_size):
            mega = drawn[start : min(start + MEGA_BATCH * batch_size, whole)]
            by_length = mega[np.argsort(lengths_tokens[mega], kind="stable")].reshape(-1, batch_size)
            batches += list(by_length[random.permutation(len(by_length))])
    return batches[:steps]


def collate(rows: TokenRows, indices: np.ndarray, pad_token_id: int, task: Task) -> dict[str, Any]:
    """The batch of those rows as tensors (int64), padded to its longest row.

    causal-lm: input_ids [B, L] and attention_mask [B, L], padded on the LEFT so that all rows end together; labels
        [B, K], aligned to the last K positions, -100 where nothing is trained. K is the distance from the first trained
        token to the end, the largest of the batch: probes.forward has the vocabulary's projection, the dearest part of
        a small model, computed for no position before.
    sequence-classification: input_ids and attention_mask [B, L], padded on the right; labels [B].
    seq2seq-lm: input_ids and attention_mask [B, S] of the sources, labels [B, T] of the targets, padded on the right.
    """
    import torch

    picked = [rows.row(int(i)) for i in indices]
    if task == "sequence-classification":
        assert rows.class_labels is not None
        batch = _padded([tokens for tokens, _ in picked], pad_token_id, left=False)
        return batch | {"labels": torch.from_numpy(rows.class_labels[indices].astype(np.int64))}
    if task == "seq2seq-lm":
        batch = _padded([tokens[~mask] for tokens, mask in picked], pad_token_id, left=False)
        targets = [tokens[mask] for tokens, mask in picked]
        return batch | {"labels": _padded(targets, IGNORE_INDEX, left=False)["input_ids"]}
    if task == "causal-lm":
        return _collate_causal(picked, pad_token_id)
    raise ValueError(f"no batches of text rows for task {task!r}")


def padded_tokens(batch: Mapping[str, Any], task: Task) -> int:
    """How many tokens a pass over the batch reads, padding among them: of an encoder-decoder those of both."""
    targets = batch["labels"].numel() if task == "seq2seq-lm" else 0
    return batch["input_ids"].numel() + targets


def _collate_causal(picked: list[tuple[np.ndarray, np.ndarray]], pad_token_id: int) -> dict[str, Any]:
    import torch

    batch = _padded([tokens for tokens, _ in picked], pad_token_id, left=True)
    # The first token of a row follows nothing, so nothing can predict it: it never bears a label.
    distances = [len(mask) - 1 - int(np.argmax(mask[1:])) for _, mask in picked]
    kept = max(distances)
    labels = np.full((len(picked), kept), IGNORE_INDEX, dtype=np.int64)
    for label_row, (tokens, mask) in zip(labels, picked, strict=True):
        tail = min(kept, len(tokens) - 1)
        label_row[kept - tail :] = np.where(mask[-tail:], tokens[-tail:], IGNORE_INDEX)
    return batch | {"labels": torch.from_numpy(labels)}


def _padded(sequences: list[np.ndarray], pad: int, *, left: bool) -> dict[str, torch.Tensor]:
    import torch

    width = max(len(sequence) for sequence in sequences)
    ids = np.full((len(sequences), width), pad, dtype=np.int64)
    mask = np.zeros((len(sequences), width), dtype=np.int64)
    for i, sequence in enumerate(sequences):
        part = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[i, part] = sequence
        mask[i, part] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
