"""What the choice of the held-out rows leaves open when candidates are compared on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advisor.forecast.final_loss import NO_NOISE, Noise
from knowledge.intervals import Z_80, student_80
from probes.metrics import is_share

if TYPE_CHECKING:
    from advisor.forecast.predictor import Forecast

NOTHING_KNOWN = 1.0  # of a single row: others may as well have any loss
HALF_A_ROW = 0.5  # in which each of two candidates differs from what they share, beyond what was seen
# Held-out rows that a probe is evaluated on, and the final run on its way: the standard error of a mean loss is below a
# tenth of a nat, and more rows cost more than they tell in a rung. The end is measured on all (all_rows.py).
EVAL_ROWS = 64


Told = Mapping[str, Sequence[float]]
"""Per candidate what each of the same held-out rows tells."""


class RowsNoise(NamedTuple):
    """What the choice of the held-out rows leaves open of one candidate, beside the others."""

    loss: float = 0.0
    """80 % half-width as a share of the loss."""
    tokens: float | None = None
    """The same of right tokens, as a share of their mean; None where the metric counts whole answers."""
    own_part: float = 1.0
    """How much of the variation of its right answers is its own."""


def held_out_noise(row_losses: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Per candidate the half-width of the 80 % interval of its mean loss, as a share of that loss, over which rows
    happened to be held out.

    row_losses: per candidate the losses of the same rows, or how much of them is right. Rows that are hard are hard
    for all candidates, which says nothing about their order: every row's mean over the candidates, scaled to the
    candidate's level, is taken off first. What is left is the noise of a paired comparison; a single candidate keeps
    all of it. Of a single row there is nothing to tell it from: the noise is NOTHING_KNOWN.

    Candidates without losses, or with losses of other rows than most, get no entry.
    """
    rows, ids = _of_most_rows(row_losses)
    ids = [id for id in ids if sum(row_losses[id]) > 0]
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


def own_parts(row_right: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Per candidate how much of the standard deviation of its right answers, from 0 to 1, is left where what it shares
    with the others is taken off: rows that are hard are hard for all here too, and counts of right answers differ by
    less than those of independent rows would.

    row_right: per candidate whether its answer to each of the same rows is right. That no answer differs is not known
    exactly: two candidates are taken to differ in one more row than was seen. On eight tasks the differences in
    64 rows and in hundreds of others lie within what this tells in 80 % of pairs, as they should, and within what
    independent rows would in 92 (python -m examples.study.held_out_rows).
    """
    _, ids = _of_most_rows(row_right)
    if len(ids) < 2:
        return dict.fromkeys(ids, 1.0)
    right = np.array([row_right[id] for id in ids], dtype=float)
    own = right - right.mean(axis=0)
    squares = [np.square(values - values.mean(axis=1, keepdims=True)).sum(axis=1) for values in (own, right)]
    of_own, of_all = squares[0] * len(ids) / (len(ids) - 1), squares[1]
    return dict(zip(ids, np.sqrt((of_own + HALF_A_ROW) / (of_all + HALF_A_ROW)).clip(max=1.0).tolist(), strict=True))


def paired(
    noise_of: Callable[[Told], dict[str, float]], told: Told, farthest: Collection[str], first_rows: int | None = None
) -> dict[str, float]:
    """What `noise_of` tells of each candidate, by the first rows, which are told of all; of those that went farthest,
    beside one another alone, by all rows that are told of them.

    Long probes have in common which rows they learned: beside candidates that learned little that would count as their
    own. Of three candidates at the ends of their runs, beside seven that left at a fifth, 79 % of the differences of
    losses on other rows lie within what the three tell, where 80 should, and 93 % within what all ten do, which is half
    as much again; of accuracies 81 and 88 % (python -m examples.study.held_out_rows).
    """
    among = noise_of({id: told[id] for id in farthest if id in told})
    return noise_of({id: rows[:first_rows] for id, rows in told.items()}) | (among if len(among) > 1 else {})


def of_all(values: Mapping[str, float], ids: Iterable[str]) -> dict[str, float]:
    """The values with an entry for all ids, if there is any: who was cut off before its rows were told gets the largest
    of the others."""
    return {id: values.get(id, max(values.values())) for id in ids} if values else {}


def _of_most_rows(told: Mapping[str, Sequence[float]]) -> tuple[int, list[str]]:
    """How many rows most candidates tell of, and the candidates that do."""
    counts = [len(rows) for rows in told.values() if len(rows)]  # a probe that was cut off has none
    rows = max(counts, key=counts.count, default=0)
    return rows, [id for id, values in told.items() if rows and len(values) == rows]


def loss_noise(forecast: Forecast, rows_noise: float) -> Noise:
    """What sets the candidate apart in the forecast's error, and what the choice of held-out rows adds to it, which is
    `rows_noise` as a share of the loss."""
    if forecast.loss is None:
        return NO_NOISE
    of_rows = rows_noise * forecast.loss.value
    return forecast.loss_noise.each(lambda half: math.hypot(half, of_rows))


def metric_noise(forecast: Forecast, rows: float, noise: RowsNoise) -> Noise:
    """The same for the metric: shares such as exact match vary with the independent rows that are evaluated as counts
    do, by the part that is the candidate's own, right tokens as they do from row to row (a share of their mean). How a
    metric of the user's own varies is not known.

    What the forecast leaves open holds that already, for it is made of how far metrics on these rows lie from what
    their losses let expect; so the larger of both counts.
    """
    if forecast.metric is None or not is_share(forecast.metric.metric):
        return forecast.metric_noise
    if noise.tokens is not None:
        of_rows = noise.tokens * forecast.metric.value
    else:
        rows = max(2, rows)
        share = min(max(forecast.metric.value, 1 / rows), 1 - 1 / rows)
        of_rows = Z_80 * noise.own_part * math.sqrt(share * (1 - share) / rows)
    return forecast.metric_noise.each(lambda half: max(half, of_rows))
