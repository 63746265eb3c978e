"""Replays the product's race on the study's curves: what it picks, and what that costs.

    python -m examples.study.race [--sets 300] [--first-rung branch]

Each set holds all learning rates of some of the methods. Regret is the final held-out loss of the pick above that of
the best candidate of the set, in nats. With `--first-rung branch` (or `short`) the first rung is decided by these
probes, and who goes on has to train its steps again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from examples.study.records import Protocol, StudyResult, read_collected
from examples.study.scores import comparisons
from knowledge.importers import NotARun, study
from knowledge.prior import NEUTRAL
from knowledge.schema import Curve, CurvePoint, RunRecord
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


def probe_losses(results: Sequence[StudyResult], task: str, protocol: Protocol) -> dict[str, float]:
    """By experiment, the loss at the end of the probes of that protocol that are as long as a first rung."""
    losses = {}
    for result in results:
        for run in result.runs:
            is_first_rung = run.protocol == protocol and run.fraction == SHORTEST_FRACTION
            if result.task == task and is_first_rung and run.points and run.points[-1].eval_loss is not None:
                losses[study.experiment_of(result.model_dump(mode="json"))] = run.points[-1].eval_loss
    return losses


def final_loss(run: RunRecord) -> float:
    loss = run.curve.points[-1].eval_loss
    assert loss is not None
    return loss


def play(
    runs: Sequence[RunRecord], share_of_sweep: float, first_rung: Mapping[str, float] | None = None
) -> tuple[float, float]:
    """The cost in parts of what all runs cost together, and the regret in nats.

    first_rung: by experiment, the losses that decide the first rung in place of the runs' own.
    """
    by_id = {run.experiment: run for run in runs}
    entries = [
        Entry(id, run.method, run.method, run.learning_rate, run.peak_bytes, NEUTRAL) for id, run in by_id.items()
    ]
    plan = plan_race(
        entries, dict.fromkeys(by_id, 1.0), share_of_sweep * len(runs), shortest_fraction=SHORTEST_FRACTION
    )
    race, observed, reached, again = Race(plan), dict[str, Curve](), dict.fromkeys(by_id, 0.0), 0.0
    while jobs := race.next_jobs(observed, {}):
        for job in jobs:
            run, is_first = by_id[job.id], not reached[job.id]
            steps = round(job.until_fraction * run.max_steps)
            observed[job.id] = run.curve.until(steps)
            if first_rung is not None and is_first:
                observed[job.id] = Curve(points=(CurvePoint(step=steps, eval_loss=first_rung.get(job.id)),))
            elif first_rung is not None and reached[job.id] == plan.fractions[0]:
                again += reached[job.id]
            reached[job.id] = job.until_fraction
    pick = by_id[race.finalists[0]]
    return (sum(reached.values()) + again) / len(runs), final_loss(pick) - min(map(final_loss, runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=300, help="random sets of methods")
    parser.add_argument("--first-rung", choices=("branch", "short"), help="protocol of the first rung's probes")
    options = parser.parse_args()
    sets = options.sets
    results = read_collected()
    print("| task | budget | cost | mean regret, nats | within 0.03 nats |\n|---|---|---|---|---|")
    for task in comparisons(results):
        runs = full_runs(results, task.task)
        methods = sorted({run.method for run in runs})
        if len(methods) < METHODS_IN_A_SET:  # the task has only begun
            continue
        losses = probe_losses(results, task.task, options.first_rung) if options.first_rung else None
        for budget in BUDGETS:
            random = np.random.default_rng(0)
            rows = []
            for _ in range(sets):
                chosen = set(random.choice(methods, METHODS_IN_A_SET, replace=False))
                rows.append(play([run for run in runs if run.method in chosen], budget, losses))
            cost, regret = np.array(rows).T
            close = np.mean(regret <= CLOSE_NATS)
            print(f"| {task.task} | {budget:.0%} | {cost.mean():.1%} | {regret.mean():.4f} | {close:.0%} |")


if __name__ == "__main__":
    main()
