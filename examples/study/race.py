"""Replays the product's race on the study's curves: what it picks, and what that costs.

    python -m examples.study.race [--sets 300] [--first-rung branch] [--last-rung branch] [--rates usual] [--off 1]
                                  [--settled 0.2]

Each set holds all learning rates of some of the methods. Regret is the final held-out loss of the pick above that of
the best candidate of the set, in nats. With `--first-rung branch` (or `short`) the first rung is decided by these
probes, and who goes on has to train its steps again; with `--last-rung branch` the last one is, where it is as long as
one of the study's probes. With `--rates usual` (or `narrow`) only the catalogue's rates for large (for narrow) models
enter the race, as far as the study has them; budgets and regrets stay those of all rates. A race that is too short
for a choice of rates takes each method's usual one; with `--off 1` (or -1) the rate that is so many steps further up:
what is lost where the catalogue is wrong. `--settled` is RATES_SETTLED of probes/racing/plan.py, to try others: these
runs warm up for a tenth, and after that it takes a fifth to tell rates apart.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

import probes.racing.plan
from examples.study.records import Protocol, StudyResult, read_collected
from examples.study.scores import comparisons
from knowledge.importers import NotARun, study
from knowledge.methods import get_method
from knowledge.prior import NEUTRAL
from knowledge.schema import Curve, CurvePoint, RunRecord
from probes.racing.plan import Entry
from probes.racing.planner import plan_race
from probes.racing.race import Race

Rates = Literal["all", "usual", "narrow"]

METHODS_IN_A_SET = 8
BUDGETS = (0.01, 0.02, 0.035, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
CLOSE_NATS = 0.03
SHORTEST_FRACTION = 0.04  # FEWEST_STEPS (advisor/planning.py) of the reasoning tasks' 200


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


ProbeLosses = Mapping[tuple[str, float], float | None]


def probe_losses(results: Sequence[StudyResult], task: str, protocol: Protocol) -> ProbeLosses:
    """By experiment and share of the run, the loss at the end of the probes of that protocol."""
    return {
        (study.experiment_of(result.model_dump(mode="json")), run.fraction): run.points[-1].eval_loss
        for result in results
        for run in result.runs
        if result.task == task and run.protocol == protocol and run.points
    }


def final_loss(run: RunRecord) -> float:
    loss = run.curve.points[-1].eval_loss
    assert loss is not None
    return loss


def is_offered(run: RunRecord, rates: Rates) -> bool:
    """Whether the catalogue offers a run's rate, to models of any size or to those of that kind."""
    method = get_method(run.method)
    offered = {"all": (run.learning_rate,), "usual": method.learning_rates, "narrow": method.narrow_learning_rates}
    return any(math.isclose(run.learning_rate, rate) for rate in offered[rates])


def is_spare(run: RunRecord, rates: Rates) -> bool:
    """Whether the advisor would do without a run's rate on a narrow model and a small budget."""
    return rates == "narrow" and math.isclose(run.learning_rate, get_method(run.method).narrow_learning_rates[0])


def is_usual(run: RunRecord, off: int) -> bool:
    """Whether a run's rate is so many steps above the one that narrow models get where no rates are compared."""
    rates = get_method(run.method).narrow_learning_rates
    return math.isclose(run.learning_rate, rates[min(len(rates) - 1, len(rates) // 2 + off)])


def random_sets(runs: Sequence[RunRecord], sets: int) -> Iterator[list[RunRecord]]:
    """All runs of METHODS_IN_A_SET methods at a time, the same in each call."""
    methods, random = sorted({run.method for run in runs}), np.random.default_rng(0)
    for _ in range(sets):
        chosen = set(random.choice(methods, METHODS_IN_A_SET, replace=False))
        yield [run for run in runs if run.method in chosen]


def play(
    runs: Sequence[RunRecord],
    share_of_sweep: float,
    first_rung: ProbeLosses | None = None,
    last_rung: ProbeLosses | None = None,
    rates: Rates = "all",
    off: int = 0,
) -> tuple[float, float]:
    """The cost in parts of what all runs cost together, and the regret in nats.

    first_rung, last_rung: the losses that decide these rungs in place of the runs' own.
    """
    by_id = {run.experiment: run for run in runs}
    entries = [
        Entry(
            id=id,
            method=run.method,
            family=run.method,
            learning_rate=run.learning_rate,
            predicted_peak_bytes=run.peak_bytes,
            prior=NEUTRAL,
            spare=is_spare(run, rates) and not is_usual(run, off),
            usual=is_usual(run, off),
        )
        for id, run in by_id.items()
        if is_offered(run, rates)
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
            is_last = job.until_fraction == plan.fractions[-1]
            decides = first_rung if is_first else last_rung if is_last else None
            probe = (job.id, round(job.until_fraction, 6))
            if decides is not None and (is_first or probe in decides):
                observed[job.id] = Curve(points=(CurvePoint(step=steps, eval_loss=decides.get(probe)),))
            if first_rung is not None and reached[job.id] == plan.fractions[0]:
                again += reached[job.id]
            reached[job.id] = job.until_fraction
    pick = by_id[race.finalists[0]]
    return (sum(reached.values()) + again) / len(runs), final_loss(pick) - min(map(final_loss, runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=300, help="random sets of methods")
    parser.add_argument("--first-rung", choices=("branch", "short"), help="protocol of the first rung's probes")
    parser.add_argument("--last-rung", choices=("branch", "short"), help="the same of the last one")
    parser.add_argument("--rates", choices=get_args(Rates), default="all", help="which learning rates take part")
    parser.add_argument("--off", type=int, default=0, help="steps by which the usual rates are wrong")
    parser.add_argument("--settled", type=float, help="share of the run after which a method has one rate")
    options = parser.parse_args()
    if options.settled is not None:
        probes.racing.plan.RATES_SETTLED = options.settled
    results = read_collected()
    print("| task | budget | cost | mean regret, nats | within 0.03 nats |\n|---|---|---|---|---|")
    for task in comparisons(results):
        runs = full_runs(results, task.task)
        if len({run.method for run in runs}) < METHODS_IN_A_SET:  # the task has only begun
            continue
        first, last = (
            probe_losses(results, task.task, protocol) if protocol else None
            for protocol in (options.first_rung, options.last_rung)
        )
        for budget in BUDGETS:
            raced = random_sets(runs, options.sets)
            rows = [play(some, budget, first, last, options.rates, options.off) for some in raced]
            cost, regret = np.array(rows).T
            close = np.mean(regret <= CLOSE_NATS)
            print(f"| {task.task} | {100 * budget:g} % | {cost.mean():.1%} | {regret.mean():.4f} | {close:.0%} |")


if __name__ == "__main__":
    main()
