"""What the beginnings of runs with a warm-up of 3 % tell of learning rates, and how races on them end.

    python -m examples.study.warmup_races [--sets 60] [--settled 0.2]

The first table: in what a probe of each length takes for a method's best rate (of the catalogue's for narrow models),
how far that rate lies above the one that ends best, and how much worse it ends. The second: the mean regret of races
of the product, as in examples.study.race, where the usual rates are right and where they are a step too high or too
low. `--settled` is RATES_SETTLED of probes/racing/plan.py, to try others. The runs are those of examples.study.warmup.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence

import numpy as np

import probes.racing.plan
from advisor.forecast.end_model import loss_of
from examples.study.kept import read
from examples.study.race import final_loss, is_offered, play, random_sets
from examples.study.schedules import FRACTIONS, rung
from examples.study.warmup import KEPT, pairs_of
from knowledge.schema import RunRecord

BUDGETS = (0.01, 0.02, 0.035, 0.05, 0.1, 0.15, 0.2)
USUAL_ARE = {0: "those of the catalogue", 1: "too high by a factor of three", -1: "too low by as much"}


def rate_errors(runs: Sequence[RunRecord], fraction: float) -> tuple[float, float]:
    """Over the methods with several rates: the mean log10 of the rate with the lowest loss after a share of the run
    over the one that ends best, and how many nats above that one it ends."""
    errors = []
    for method in sorted({run.method for run in runs}):
        rates = [run for run in runs if run.method == method and is_offered(run, "narrow")]
        if len(rates) > 1:
            leader = min(rates, key=lambda r: loss_of(r.curve.until(rung(fraction, r.max_steps)).points[-1]))
            best = min(rates, key=final_loss)
            errors.append(
                (math.log10(leader.learning_rate / best.learning_rate), final_loss(leader) - final_loss(best))
            )
    return tuple(np.mean(errors, axis=0))


def rates_table(tasks: Sequence[tuple[Sequence[RunRecord], Sequence[RunRecord]]]) -> Iterator[str]:
    """Markdown; tasks: each one's runs with the longer warm-up and with the shorter one."""
    yield "| probe | bias of its best rate, log10: 10 % | 3 % | regret, nats: 10 % | 3 % |\n|---|---|---|---|---|"
    for fraction in FRACTIONS:
        longer, shorter = (np.mean([rate_errors(task[i], fraction) for task in tasks], axis=0) for i in (0, 1))
        biases, regrets = zip(longer, shorter, strict=True)
        cells = [f"{value:+.2f}" for value in biases] + [f"{value:.3f}" for value in regrets]
        yield f"| {fraction:.0%} | {' | '.join(cells)} |"


def mean_regret(tasks: Sequence[Sequence[RunRecord]], budget: float, off: int, sets: int) -> float:
    """Of all tasks alike, in nats above the best candidate of the set."""
    raced = (some for runs in tasks for some in random_sets(runs, sets))
    return float(np.mean([play(some, budget, rates="narrow", off=off)[1] for some in raced]))


def races_table(tasks: Sequence[Sequence[RunRecord]], sets: int) -> Iterator[str]:
    """Markdown: a row for each case of the usual rates, a column for each budget."""
    yield f"| usual rates | {' | '.join(f'{100 * budget:g} %' for budget in BUDGETS)} |"
    yield "|---|" + "---|" * len(BUDGETS)
    for off, name in USUAL_ARE.items():
        yield f"| {name} | {' | '.join(f'{mean_regret(tasks, budget, off, sets):.3f}' for budget in BUDGETS)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=60, help="random sets of methods")
    parser.add_argument("--settled", type=float, help="share of the run after which a method has one rate")
    options = parser.parse_args()
    if options.settled is not None:
        probes.racing.plan.RATES_SETTLED = options.settled
    records = read(KEPT)
    tasks = [tuple(zip(*pairs_of(name, records), strict=True)) for name in dict.fromkeys(r["task"] for r in records)]
    print("\n".join([*rates_table(tasks), "", *races_table([shorter for _, shorter in tasks], options.sets)]))


if __name__ == "__main__":
    main()
