"""What the choice of the held-out rows leaves open when candidates are compared on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from knowledge.intervals import Z_80

FEWEST_ROWS = 2
# Held-out rows that a probe and the final run are evaluated on: the standard error of a mean loss is below a tenth of a
# nat, and more rows cost more than they tell in a rung.
EVAL_ROWS = 64


def held_out_noise(row_losses: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Per candidate the half-width of the 80 % interval of its mean loss, as a share of that loss, over which rows
    happened to be held out.

    row_losses: per candidate the losses of the same rows, or how much of them is right. Rows that are hard are hard
    for all candidates, which says nothing about their order: every row's mean over the candidates, scaled to the
    candidate's level, is taken off first. What is left is the noise of a paired comparison; a single candidate keeps
    all of it.

    Candidates without losses, or with losses of other rows than most, get no entry.
    """
    counts = [len(losses) for losses in row_losses.values() if len(losses)]  # a probe that was cut off has none
    rows = max(counts, key=counts.count, default=0)
    ids = [id for id, losses in row_losses.items() if len(losses) == rows and sum(losses) > 0]
    if rows < FEWEST_ROWS or not ids:
        return {}
    losses = np.array([row_losses[id] for id in ids], dtype=float)
    level = losses.mean(axis=1, keepdims=True)
    relative = losses / level
    common = relative.mean(axis=0) if len(ids) > 1 else 1.0
    own = relative - common
    # With few candidates a part of what is a candidate's own has gone into the common part.
    spread = own.std(axis=1, ddof=1) * np.sqrt(len(ids) / max(1, len(ids) - 1))
    return dict(zip(ids, (Z_80 * spread / np.sqrt(rows)).tolist(), strict=True))
