"""What the race picks, at which cost, on random sets of candidates whose published curves stand in for probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from knowledge.prior import NEUTRAL
from knowledge.schema import Curve, RunRecord
from probes.racing.plan import Entry
from probes.racing.planner import plan_race
from probes.racing.race import Race, recent_loss
from tests.benchmarks.cohorts import settings_key
from tests.benchmarks.prediction_quality import last_loss, last_validation

BEYOND = 1.1  # the hypervolume's corner, in the most memory of a set: what needs that much counts for something
TOLERANCE = 0.01  # about the noise of two runs: a pick this close to the best counts as right


@dataclass(frozen=True)
class Outcome:
    """One set: the cost in full runs, the pick, and which candidates are proposed as the frontier."""

    cost: float
    pick: RunRecord
    frontier: tuple[RunRecord, ...]


Strategy = Callable[[Sequence[RunRecord]], Outcome]


@dataclass(frozen=True)
class Replay:
    """A race on published curves: per experiment what was seen and how far it went, and who was left at the end."""

    observed: dict[str, Curve]
    reached: dict[str, float]
    finalists: tuple[str, ...]


def race(share_of_sweep: float) -> Strategy:
    """The product's race with a budget of this share of what running every candidate to the end would cost: of its
    finalists the one with the lowest loss. The metric that it is judged by is of other rows, and nobody sees it."""

    def play(runs: Sequence[RunRecord]) -> Outcome:
        raced = replay(runs, share_of_sweep)
        [pick] = [run for run in runs if run.experiment == raced.finalists[0]]
        return outcome_of(runs, raced, pick)

    return play


def outcome_of(runs: Sequence[RunRecord], raced: Replay, pick: RunRecord) -> Outcome:
    """What a race on `runs` cost, and its frontier, with what was picked after it."""
    return Outcome(sum(raced.reached.values()), pick, _frontier(runs, raced.observed, raced.reached))


def replay(runs: Sequence[RunRecord], share_of_sweep: float) -> Replay:
    """The product's race on finished runs, told apart by their experiments. As in the catalogue the middle one of a
    method's learning rates is its usual one."""
    by_id = {run.experiment: run for run in runs}
    rates: dict[str, list[float]] = {}
    for run in runs:
        rates.setdefault(settings_key(run), []).append(run.learning_rate)
    entries = [
        Entry(
            id=id,
            method=settings_key(run),
            family=run.peft_type or "full",
            learning_rate=run.learning_rate,
            predicted_peak_bytes=run.peak_bytes,
            prior=NEUTRAL,
            usual=run.learning_rate == _middle(rates[settings_key(run)]),
        )
        for id, run in by_id.items()
    ]
    plan = plan_race(entries, dict.fromkeys(by_id, 1.0), budget_s=share_of_sweep * len(runs), shortest_fraction=0.05)
    racing, observed, reached = Race(plan), dict[str, Curve](), dict.fromkeys(by_id, 0.0)
    while jobs := racing.next_jobs(observed, {}):
        for job in jobs:
            run = by_id[job.id]
            reached[job.id] = job.until_fraction
            observed[job.id] = run.curve.until(round(job.until_fraction * run.max_steps))
    return Replay(observed, reached, tuple(racing.finalists))


def _middle(rates: Sequence[float]) -> float:
    return sorted(rates)[len(rates) // 2]


def lowest_loss(fraction: float) -> Strategy:
    return lambda runs: _at_once(runs, fraction, lambda run: last_loss(run, fraction))


def last_accuracy(fraction: float) -> Strategy:
    return lambda runs: _at_once(runs, fraction, lambda run: -last_validation(run, fraction))


def successive_halving(runs: Sequence[RunRecord]) -> Outcome:
    """The textbook: half go on, twice as far, from 5 % until one is left."""
    fraction, alive, cost, done = 0.05, list(runs), 0.0, 0.0
    while True:
        cost += len(alive) * (fraction - done)
        alive.sort(key=lambda run: (last_loss(run, fraction), run.experiment))
        if len(alive) == 1 or fraction >= 1:
            return Outcome(cost, alive[0], (alive[0],))
        alive, done, fraction = alive[: max(1, len(alive) // 2)], fraction, min(1.0, 2 * fraction)


def always(run: RunRecord) -> Strategy:
    return lambda runs: Outcome(0.0, run, (run,))


def _at_once(runs: Sequence[RunRecord], fraction: float, score: Callable[[RunRecord], float]) -> Outcome:
    scores = {run.experiment: score(run) for run in runs}
    pick = min(runs, key=lambda run: (scores[run.experiment], run.experiment))
    front = [
        run
        for run in runs
        if not any(scores[o.experiment] < scores[run.experiment] and o.peak_bytes <= run.peak_bytes for o in runs)
    ]
    return Outcome(len(runs) * fraction, pick, tuple(front))


def _frontier(
    runs: Sequence[RunRecord], observed: dict[str, Curve], reached: dict[str, float]
) -> tuple[RunRecord, ...]:
    """The candidates that no other beats on loss, where both were last seen together, with no more memory."""
    losses: dict[tuple[str, float], float] = {}

    def quality(run: RunRecord, fraction: float) -> float:
        key = (run.experiment, fraction)
        if key not in losses:
            curve = observed[run.experiment].until(round(fraction * run.max_steps))
            losses[key] = recent_loss(curve, None)
        return losses[key]

    def beats(one: RunRecord, other: RunRecord) -> bool:
        shared = min(reached[one.experiment], reached[other.experiment])
        return one.peak_bytes <= other.peak_bytes and quality(one, shared) < quality(other, shared)

    tried = [run for run in runs if run.experiment in observed]
    return tuple(run for run in tried if not any(beats(other, run) for other in tried))


def true_frontier(runs: Sequence[RunRecord]) -> list[RunRecord]:
    return [
        run
        for run in runs
        if not any(
            o.metric >= run.metric
            and o.peak_bytes <= run.peak_bytes
            and (o.metric > run.metric or o.peak_bytes < run.peak_bytes)
            for o in runs
        )
    ]


def hypervolume(runs: Sequence[RunRecord], worst_bytes: int) -> float:
    """Area in accuracy x bytes that a set of runs dominates, down to accuracy 0 and up to `worst_bytes`."""
    area, best = 0.0, 0.0
    ordered = sorted(runs, key=lambda run: run.peak_bytes)
    ends = [run.peak_bytes for run in ordered[1:]] + [worst_bytes]
    for run, end in zip(ordered, ends, strict=bool(ordered)):
        best = max(best, run.metric)
        area += best * max(0, end - run.peak_bytes)
    return area


def measure(
    strategy: Strategy, sets: Sequence[Sequence[RunRecord]], limit_bytes: float | None = None
) -> dict[str, float]:
    """Means over the sets. With `limit_bytes`, only what fits takes part and counts; empty sets are left out. What is
    always picked joins the sets that lack it."""
    rows = []
    for runs in sets:
        runs = [run for run in runs if limit_bytes is None or run.peak_bytes <= limit_bytes]
        if not runs:
            continue
        outcome = strategy(runs)
        if outcome.pick not in runs:
            runs = [*runs, outcome.pick]
        front = true_frontier(runs)
        proposed = {run.experiment for run in outcome.frontier}
        worst_bytes = round(BEYOND * max(run.peak_bytes for run in runs))
        whole = hypervolume(front, worst_bytes)
        rows.append(
            (
                outcome.cost,
                max(run.metric for run in runs) - outcome.pick.metric,
                len(proposed & {run.experiment for run in front}) / len(front),
                hypervolume([r for r in runs if r.experiment in proposed], worst_bytes) / whole if whole else 1.0,
            )
        )
    if not rows:
        return {"sets": 0}
    cost, regret, recall, volume = np.array(rows).T
    return {
        "cost": float(cost.mean()),
        "regret": float(regret.mean()),
        "p": float((regret <= TOLERANCE).mean()),
        "recall": float(recall.mean()),
        "hypervolume": float(volume.mean()),
        "sets": len(rows),
    }


def random_sets(runs: Sequence[RunRecord], count: int, size: int, seed: int = 0) -> list[list[RunRecord]]:
    rng = np.random.default_rng(seed)
    return [[runs[i] for i in rng.choice(len(runs), size, replace=False)] for _ in range(count)]
