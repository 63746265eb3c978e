"""What the choice of the held-out rows leaves open when candidates are compared on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from knowledge.intervals import Z_80, student_80
from probes.metrics import is_share

if TYPE_CHECKING:
    from advisor.predictor import Forecast

NOTHING_KNOWN = 1.0  # of a single row: others may as well have any loss
# Held-out rows that a probe and the final run are evaluated on: the standard error of a mean loss is below a tenth of a
# nat, and more rows cost more than they tell in a rung.
EVAL_ROWS = 64


def held_out_noise(row_losses: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Per candidate the half-width of the 80 % interval of its mean loss, as a share of that loss, over which rows
    happened to be held out.

    row_losses: per candidate the losses of the same rows, or how much of them is right. Rows that are hard are hard
    for all candidates, which says nothing about their order: every row's mean over the candidates, scaled to the
    candidate's level, is taken off first. What is left is the noise of a paired comparison; a single candidate keeps
    all of it. Of a single row there is nothing to tell it from: the noise is NOTHING_KNOWN.

    Candidates without losses, or with losses of other rows than most, get no entry.
    """
    counts = [len(losses) for losses in row_losses.values() if len(losses)]  # a probe that was cut off has none
    rows = max(counts, key=counts.count, default=0)
    ids = [id for id, losses in row_losses.items() if len(losses) == rows and sum(losses) > 0]
    if not ids:
        return {}
    if rows == 1:
        return dict.fromkeys(ids, NOTHING_KNOWN)
    losses = np.array([row_losses[id] for id in ids], dtype=float)
    level = losses.mean(axis=1, keepdims=True)
    relative = losses / level
    common = relative.mean(axis=0) if len(ids) > 1 else 1.0
    own = relative - common
    # With few candidates a part of what is a candidate's own has gone into the common part.
    spread = own.std(axis=1, ddof=1) * np.sqrt(len(ids) / max(1, len(ids) - 1))
    return dict(zip(ids, (student_80(rows - 1) * spread / np.sqrt(rows)).tolist(), strict=True))


def noise_of_all(row_losses: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The same with an entry for all, if there is any: who was cut off before its rows were told gets the largest of
    the others."""
    noise = held_out_noise(row_losses)
    return {id: noise.get(id, max(noise.values())) for id in row_losses} if noise else {}


def loss_noise(forecast: Forecast, rows_noise: float) -> float:
    """What is the candidate's own in the forecast's error, and what the choice of held-out rows adds to it, which is
    `rows_noise` as a share of the loss."""
    return 0.0 if forecast.loss is None else math.hypot(forecast.loss_noise, rows_noise * forecast.loss.value)


def metric_noise(forecast: Forecast, rows: int, tokens_noise: float | None) -> float:
    """The same for the metric: shares such as exact match vary with the rows that are evaluated as counts do, right
    tokens as they do from row to row (a share of their mean). How a metric of the user's own varies is not known."""
    if forecast.metric is None or not is_share(forecast.metric.metric):
        return forecast.metric_noise
    if tokens_noise is not None:
        return math.hypot(forecast.metric_noise, tokens_noise * forecast.metric.value)
    rows = max(2, rows)
    share = min(max(forecast.metric.value, 1 / rows), 1 - 1 / rows)
    return math.hypot(forecast.metric_noise, Z_80 * math.sqrt(share * (1 - share) / rows))
