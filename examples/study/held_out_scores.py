"""What is read from the candidates of held_out_rows.py: how well some of their rows choose, and what of it is noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advisor.deciding.quality import is_clearer
from advisor.forecast.held_out import EVAL_ROWS, RowsNoise, held_out_noise, metric_noise, own_parts, paired
from advisor.forecast.predictor import Forecast
from advisor.recommendation import Prediction

LOOKS = (0.2, 1.0)  # of a run
ROWS = (32, 64, 128, 200)  # held out; all others are those that nobody saw
CANDIDATES, FEWEST = 10, 6  # of a draw, and of a task
LOOKED_AT = (64, 128, 200)  # of these, at the ends of runs
FINALISTS = 3  # of a draw: those of the lowest losses at the first look


@dataclass(frozen=True)
class Ends:
    """What a task's rows cost at the ends of its candidates' runs, or on the way there, and which are right: shape
    (candidates, rows)."""

    nats: np.ndarray
    right: np.ndarray
    label_tokens: np.ndarray

    @classmethod
    def of(cls, records: Sequence[dict[str, Any]], share: float = 1.0) -> Ends:
        """After that share of the runs, of those that came to their ends."""
        ended = [r for r in records if str(r["max_steps"]) in r["rows"]]
        ends = [r["rows"][str(round(share * r["max_steps"]))] for r in ended]
        return cls(
            np.array([end["nats"] for end in ends]),
            np.array([[answer == "1" for answer in end["right"]] for end in ends]),
            np.array(records[0]["label_tokens"]),
        )

    def some(self, candidates: np.ndarray, rows: np.ndarray) -> Ends:
        return Ends(self.nats[candidates][:, rows], self.right[candidates][:, rows], self.label_tokens[rows])

    @property
    def losses(self) -> np.ndarray:
        return self.nats.sum(axis=1) / self.label_tokens.sum()

    @property
    def metrics(self) -> np.ndarray:
        return self.right.mean(axis=1)

    def raced(self, finalists: np.ndarray, ends: Ends) -> Ends:
        """With the finalists at `ends`, which has them alone, and the others where they are."""
        nats, right = self.nats.copy(), self.right.copy()
        nats[finalists], right[finalists] = ends.nats, ends.right
        return Ends(nats, right, self.label_tokens)

    def noise(self, farthest: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Half-widths that the advisor tells: of losses, of metrics, and of metrics as if rows were independent.
        farthest: candidates that went further than the others."""
        nats, right = (dict(enumerate(values.tolist())) for values in (self.nats, self.right))
        parts = paired(own_parts, right, farthest)
        own, alone = (
            np.array(
                [_of_metric(value, len(self.label_tokens), part) for value, part in zip(self.metrics, of, strict=True)]
            )
            for of in (parts.values(), [1.0] * len(parts))
        )
        return np.array([*paired(held_out_noise, nats, farthest).values()]) * self.losses, own, alone


def _of_metric(value: float, rows: int, own_part: float) -> float:
    told = Prediction(metric="exact match", value=value, low=value, high=value, extrapolated=False)
    return metric_noise(Forecast(None, told), rows, RowsNoise(own_part=own_part)).alike


def draws_of(ends: Ends, rows: int, draws: int) -> Iterator[tuple[Ends, Ends]]:
    """Some candidates on some rows, and the same on all the other rows, again and again."""
    draw = np.random.default_rng(0)
    for _ in range(draws):
        order = draw.permutation(len(ends.label_tokens))
        candidates = draw.permutation(len(ends.nats))[:CANDIDATES]
        yield ends.some(candidates, order[:rows]), ends.some(candidates, order[rows:])


def picks_of(held_out: Ends) -> tuple[int, int, int]:
    """The candidate that is taken by the metric, by the loss, and where they disagree by the clearer of both leads."""
    losses, metrics = held_out.losses, held_out.metrics
    best, other = int(np.lexsort((losses, -metrics))[0]), int(losses.argmin())  # of equals the one of lower loss
    of_losses, of_metrics, _ = (np.hypot(noise[best], noise[other]) for noise in held_out.noise())
    is_denied = is_clearer(losses[best] - losses[other], of_losses, metrics[best] - metrics[other], of_metrics)
    return best, other, other if is_denied else best


def regrets_of(ends: Ends, rows: int, draws: int) -> np.ndarray:
    """How far below the best on the other rows the picks lie: shares of right answers, and nats; shape (2, picks)."""
    found = []
    for held_out, others in draws_of(ends, rows, draws):
        found.append(_behind(others, picks_of(held_out)))
    return np.mean(found, axis=0)


def _behind(others: Ends, picks: Sequence[int]) -> list[np.ndarray]:
    """How far below the best of all the picks lie there: shares of right answers, and nats."""
    taken = [*picks]
    return [others.metrics.max() - others.metrics[taken], others.losses[taken] - others.losses.min()]


def inside_of(ends: Ends, rows: int, draws: int) -> np.ndarray:
    """Of all pairs of candidates, the share whose difference on the other rows lies within what was told: of losses, of
    metrics, and of metrics as if rows were independent. What the other rows leave open themselves is allowed for."""
    found = []
    for held_out, others in draws_of(ends, rows, draws):
        one, other = np.triu_indices(len(held_out.nats), 1)
        wider = math.sqrt(1 + rows / len(others.label_tokens))
        values = ((of.losses, of.metrics, of.metrics) for of in (held_out, others))
        for seen, true, noise in zip(*values, held_out.noise(), strict=True):
            error = (seen[one] - seen[other]) - (true[one] - true[other])
            found.append(np.mean(np.abs(error) <= wider * np.hypot(noise[one], noise[other])))
    return np.reshape(found, (-1, 3)).mean(axis=0)


def finals_of(first: Ends, ends: Ends, rows: int, draws: int) -> Iterator[tuple[Ends, np.ndarray, Ends]]:
    """Again and again: some candidates on some rows, the finalists at their ends and the others at the first look; who
    the finalists are; and these on all other rows."""
    draw = np.random.default_rng(0)
    for _ in range(draws):
        order = draw.permutation(len(ends.label_tokens))
        candidates = draw.permutation(len(ends.nats))[:CANDIDATES]
        looked_at = first.some(candidates, order[:rows])
        finalists = first.some(candidates, order[:EVAL_ROWS]).losses.argsort()[:FINALISTS]
        held_out, others = (ends.some(candidates[finalists], some) for some in (order[:rows], order[rows:]))
        yield looked_at.raced(finalists, held_out), finalists, others


def told_of_finalists(first: Ends, ends: Ends, draws: int) -> np.ndarray:
    """Of losses and of metrics, beside all candidates and among the finalists alone: the share of the differences of
    finalists that lie within what is told, and how much that is, on average; shape (2, 2, 2)."""
    found = []
    for race, finalists, others in finals_of(first, ends, EVAL_ROWS, draws):
        wider = math.sqrt(1 + EVAL_ROWS / len(others.label_tokens))
        one, other = np.triu_indices(len(finalists), 1)
        errors = [
            (seen[one] - seen[other]) - (true[one] - true[other])
            for seen, true in ((race.losses[finalists], others.losses), (race.metrics[finalists], others.metrics))
        ]
        told = (race.noise(farthest)[:2] for farthest in ((), finalists.tolist()))
        halves = [[np.hypot(noise[finalists[one]], noise[finalists[other]]) for noise in both] for both in told]
        found.append(
            [
                [[np.mean(np.abs(error) <= wider * half), np.mean(half)] for half in of_both]
                for error, of_both in zip(errors, zip(*halves, strict=True), strict=True)
            ]
        )
    return np.mean(found, axis=0)


def lost_by_finalists(first: Ends, ends: Ends, draws: int) -> np.ndarray:
    """How far below the best finalist, on rows that nobody saw, the one lies that is taken by some of the held-out rows
    at the ends of the runs: shares of right answers and nats; shape (2, LOOKED_AT)."""
    found = []
    for race, finalists, others in finals_of(first, ends, LOOKED_AT[-1], draws):
        at_the_end = race.some(finalists, np.arange(LOOKED_AT[-1]))
        picks = [picks_of(at_the_end.some(np.arange(len(finalists)), np.arange(rows)))[2] for rows in LOOKED_AT]
        found.append(_behind(others, picks))
    return np.mean(found, axis=0)


def table(records: Sequence[dict[str, Any]], draws: int) -> Iterator[str]:
    """Markdown: a row for each task and number of held-out rows, and the means."""
    lost = " | ".join(f"{what}: by metric | by loss | by both" for what in ("points lost", "nats lost"))
    yield f"| task | candidates | rows | {lost} | differences inside: loss | metric | as if rows were independent |"
    yield "|---" * 12 + "|"
    found: dict[int, list[np.ndarray]] = {}
    for task, _, ends in _tasks(records):
        for rows in ROWS:
            if len(ends.label_tokens) < 2 * rows:
                continue
            line = np.concatenate([regrets_of(ends, rows, draws).ravel(), inside_of(ends, rows, draws)])
            found.setdefault(rows, []).append(line)
            yield f"| {task} | {len(ends.nats)} | {rows} | {_cells(line)} |"
    for rows, lines in sorted(found.items()):
        yield f"| mean of {len(lines)} | | {rows} | {_cells(np.mean(lines, axis=0))} |"


def _cells(line: np.ndarray) -> str:
    points = [f"{100 * value:.1f}" for value in line[:3]]
    return " | ".join(points + [f"{value:.3f}" for value in line[3:6]] + [f"{value:.0%}" for value in line[6:]])


def finalists_table(records: Sequence[dict[str, Any]], draws: int) -> Iterator[str]:
    """Markdown: a row for each task, and the means."""
    told = " | ".join(f"{what}: inside | half-width" for what in ("beside all", "among themselves"))
    yield f"| task | losses, {told} | accuracies, {told} |"
    yield "|---" * 9 + "|"
    found = []
    for task, first, ends in _tasks(records):
        found.append(told_of_finalists(first, ends, draws))
        yield f"| {task} | {_told_cells(found[-1])} |"
    yield f"| mean of {len(found)} | {_told_cells(np.mean(found, axis=0))} |"


def longer_look_table(records: Sequence[dict[str, Any]], draws: int) -> Iterator[str]:
    """Markdown: a row for each task that has rows enough, and the means."""
    yield f"| task | {' | '.join(f'by {rows} rows: points lost | nats lost' for rows in LOOKED_AT)} |"
    yield "|---" * (1 + 2 * len(LOOKED_AT)) + "|"
    found = []
    for task, first, ends in _tasks(records):
        if len(ends.label_tokens) >= 2 * LOOKED_AT[-1]:
            found.append(lost_by_finalists(first, ends, draws))
            yield f"| {task} | {_lost_cells(found[-1])} |"
    yield f"| mean of {len(found)} | {_lost_cells(np.mean(found, axis=0))} |"


def _tasks(records: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Ends, Ends]]:
    """Of each task with candidates enough what its rows cost at the first look and at the end."""
    for task in dict.fromkeys(r["task"] for r in records):
        first, ends = (Ends.of([r for r in records if r["task"] == task], share) for share in LOOKS)
        if len(ends.nats) >= FEWEST:
            yield task, first, ends


def _lost_cells(lost: np.ndarray) -> str:
    return " | ".join(f"{100 * points:.2f} | {nats:.4f}" for points, nats in lost.T)


def _told_cells(told: np.ndarray) -> str:
    return " | ".join(f"{inside:.0%} | {half:.3f}" for inside, half in told.reshape(-1, 2))
