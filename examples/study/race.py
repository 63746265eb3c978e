"""Replays the product's race on the study's curves: what it picks, and what that costs.

    python -m examples.study.race [--sets 300]

Each set holds all learning rates of some of the methods. Regret is the final held-out loss of the pick above that of
the best candidate of the set, in nats.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from examples.study.records import StudyResult, read_collected
from examples.study.scores import comparisons
from knowledge.importers import NotARun, study
from knowledge.prior import NEUTRAL
from knowledge.schema import Curve, RunRecord
from probes.race import Entry, Race, plan_race

METHODS_IN_A_SET = 8
BUDGETS = (0.1, 0.15, 0.2, 0.3, 0.4)
CLOSE_NATS = 0.03
SHORTEST_FRACTION = 0.05  # the study's first evaluations that a race could use


def full_runs(results: Sequence[StudyResult], task: str) -> list[RunRecord]:
    """The planned runs of a task with seed 0; a candidate that diverged has none."""
    runs = []
    for result in results:
        if result.task == task and result.seed == 0:
            try:
                runs.append(study.read(result.model_dump(mode="json")))
            except NotARun:
                continue
    return runs


def final_loss(run: RunRecord) -> float:
    loss = run.curve.points[-1].eval_loss
    assert loss is not None
    return loss


def play(runs: Sequence[RunRecord], share_of_sweep: float) -> tuple[float, float]:
    """The cost in parts of what all runs cost together, and the regret in nats."""
    by_id = {run.experiment: run for run in runs}
    entries = [
        Entry(id, run.method, run.method, run.learning_rate, run.peak_bytes, NEUTRAL) for id, run in by_id.items()
    ]
    plan = plan_race(
        entries, dict.fromkeys(by_id, 1.0), share_of_sweep * len(runs), shortest_fraction=SHORTEST_FRACTION
    )
    race, observed, reached = Race(plan), dict[str, Curve](), dict.fromkeys(by_id, 0.0)
    while jobs := race.next_jobs(observed, {}):
        for job in jobs:
            run = by_id[job.id]
            reached[job.id] = job.until_fraction
            observed[job.id] = run.curve.until(round(job.until_fraction * run.max_steps))
    pick = by_id[race.finalists[0]]
    return sum(reached.values()) / len(runs), final_loss(pick) - min(map(final_loss, runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=300, help="random sets of methods")
    sets = parser.parse_args().sets
    results = read_collected()
    print("| task | budget | cost | mean regret, nats | within 0.03 nats |\n|---|---|---|---|---|")
    for task in comparisons(results):
        runs = full_runs(results, task.task)
        methods = sorted({run.method for run in runs})
        if len(methods) < METHODS_IN_A_SET:  # the task has only begun
            continue
        for budget in BUDGETS:
            random = np.random.default_rng(0)
            rows = []
            for _ in range(sets):
                chosen = set(random.choice(methods, METHODS_IN_A_SET, replace=False))
                rows.append(play([run for run in runs if run.method in chosen], budget))
            cost, regret = np.array(rows).T
            close = np.mean(regret <= CLOSE_NATS)
            print(f"| {task.task} | {budget:.0%} | {cost.mean():.1%} | {regret.mean():.4f} | {close:.0%} |")


if __name__ == "__main__":
    main()
