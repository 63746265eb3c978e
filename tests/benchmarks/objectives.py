"""Is what each `--objective` promises true? Each task of the table in turn plays one that nobody has run.

    python -m tests.benchmarks.objectives [--sets 40] [--json]

Races of the product are replayed on random sets of a task's finished runs, forecasts come from the other tasks, and
the product's decision picks; then the pick is looked up at the end of its run. Gains are over the untuned model, for
which the median of the first losses of the task's curves stands. Peak memory is known of published runs alone, times
of runs that were never interrupted: an objective is measured on the tasks whose runs all tell what it trades.
The last line of the output is everything as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import get_args

from advisor.deciding.costs import KEPT_GAIN
from advisor.forecast.end_model import loss_of
from advisor.request import Objective
from knowledge.schema import RunRecord
from tests.benchmarks.advice import picks, predictor_of, untuned_loss_of
from tests.benchmarks.cohorts import of_one_seed
from tests.benchmarks.new_task import LEFT_OUT, SET_SIZE, tasks
from tests.benchmarks.race_quality import random_sets, replay

BUDGETS = (0.1, 0.2)
FIGURES = ("regret", "kept", "as_promised", "memory", "time", "had_left")


def objectives_of(runs: Sequence[RunRecord]) -> tuple[Objective, ...]:
    """Those of which all that they trade was measured."""
    needs_memory, needs_time = ("balanced", "memory"), ("speed",)
    has_memory, has_time = all(run.peak_bytes for run in runs), all(run.train_s for run in runs)
    return tuple(
        objective
        for objective in get_args(Objective)
        if (has_memory or objective not in needs_memory) and (has_time or objective not in needs_time)
    )


def outcome(
    pick: RunRecord, had_left: bool, runs: Sequence[RunRecord], untuned_loss: float, objective: Objective
) -> dict[str, float | None]:
    """The pick beside the candidate of the set that ends best: nats above it, share of its gain, whether that is the
    share that the objective promises, and shares of its costs; and whether the pick had left the race."""
    best = min(runs, key=final_loss)
    kept = (untuned_loss - final_loss(pick)) / (untuned_loss - final_loss(best))
    return {
        "regret": final_loss(pick) - final_loss(best),
        "kept": kept,
        "as_promised": float(kept >= KEPT_GAIN[objective]) if objective in KEPT_GAIN else None,
        "memory": pick.peak_bytes / best.peak_bytes if pick.peak_bytes and best.peak_bytes else None,
        "time": pick.train_s / best.train_s if pick.train_s and best.train_s else None,
        "had_left": float(had_left),
    }


def final_loss(run: RunRecord) -> float:
    """Held out, where it was measured; in nats per token."""
    loss = loss_of(run.curve.points[-1])
    assert loss is not None
    return loss


def measure(
    own: Sequence[RunRecord], known: Sequence[RunRecord], share: float, sets: int
) -> dict[Objective, dict[str, float | None]]:
    """Per objective the means over the picks of races with that share of the sweep's cost."""
    predictor, untuned_loss = predictor_of(own, known), untuned_loss_of(own)
    rows: dict[Objective, list[dict[str, float | None]]] = {objective: [] for objective in objectives_of(own)}
    for runs in random_sets(own, sets, min(SET_SIZE, len(own) - LEFT_OUT)):
        raced = replay(runs, share)
        for objective, pick in picks(runs, raced, predictor, untuned_loss, list(rows)).items():
            had_left = pick.experiment not in raced.finalists
            rows[objective].append(outcome(pick, had_left, runs, untuned_loss, objective))
    return {objective: {name: _mean(picked, name) for name in FIGURES} for objective, picked in rows.items()}


def _mean(rows: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return fmean(values) if values else None


def over_tasks(figures: Mapping[str, Mapping[str, Mapping[Objective, Mapping[str, float | None]]]]) -> list[str]:
    """One line per budget and objective: means over the tasks, and how many these are."""
    header = f"{'objective, budget':24s}{'tasks':>6s}" + "".join(f"{name.replace('_', ' '):>12s}" for name in FIGURES)
    lines = [header]
    for budget in map("{:.0%}".format, BUDGETS):
        for objective in get_args(Objective):
            rows = [by_budget[budget][objective] for by_budget in figures.values() if objective in by_budget[budget]]
            means = (_mean(rows, name) for name in FIGURES)
            cells = "".join(f"{'-' if mean is None else format(mean, '.3f'):>12s}" for mean in means)
            lines.append(f"{objective + ', ' + budget:24s}{len(rows):6d}{cells}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=40, help="random races per task and budget")
    parser.add_argument("--json", action="store_true", help="print the JSON alone")
    options = parser.parse_args()
    figures = {
        name: {f"{share:.0%}": measure(of_one_seed(own), known, share, options.sets) for share in BUDGETS}
        for name, own, known in tasks()
    }
    if not options.json:
        for name, by_budget in figures.items():
            print(f"\n{name}")
            print("\n".join(over_tasks({name: by_budget})))
        print("\nall tasks")
        print("\n".join(over_tasks(figures)))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
