"""How good is the advice? Replays published curves as if they were probes, through the product's race and predictor.

    python -m tests.benchmarks.selection --results DIR [--json]

DIR holds result files of the PEFT method comparison, in any folders below it; each folder is one cohort. What cannot
be used is counted, with the reason. Predictions are for methods (PEFT types) that the predictor has not seen. Beside
probes of a part of the run stand those of all of it: what its curve can tell at best. "race" is the finalist with the
lowest loss, "advice" what the product recommends after that race, with forecasts from other tasks (on a tenth of the
sets). The last line is everything as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import prediction_quality, race_quality
from tests.benchmarks.advice import advice
from tests.benchmarks.cohorts import LENGTHS, Cohort, load_cohorts
from tests.benchmarks.race_quality import always, last_accuracy, lowest_loss, race, random_sets, successive_halving

SET_SIZE = 24
LIMITS_GB = (21, 22.5, 24)
BUDGETS = {"race, 10 % of the sweep": 0.1, "race, 20 % of the sweep": 0.2, "race, 40 % of the sweep": 0.4}
ADVICE_BUDGETS = {"advice, 10 % of the sweep": 0.1, "advice, 20 % of the sweep": 0.2}
ADVICE_SETS = 0.1  # of the sets: forecasts take longer than a race


def measure_cohort(cohort: Cohort, splits: int, sets: int) -> dict[str, Any]:
    """All figures of one cohort."""
    size = min(SET_SIZE, round(0.75 * len(cohort.runs)))
    drawn = random_sets(cohort.runs, sets, size)
    strategies = {name: race(share) for name, share in BUDGETS.items()}
    fixed = {}
    for name, method, rank in (("always LoRA r32", "lora", 32), ("always rsLoRA r64", "rslora", 64)):
        match = [r for r in cohort.runs if r.method == method and r.peft_config.get("r") == rank]
        if match:
            fixed[name] = match[0]
    baselines: dict[str, Any] = {name: always(run) for name, run in fixed.items()}
    rng = np.random.default_rng(0)
    baselines["random"] = lambda runs: always(runs[rng.integers(len(runs))])(runs)
    for fraction in LENGTHS:
        baselines[f"last validation accuracy, {fraction:.0%}"] = last_accuracy(fraction)
        baselines[f"lowest loss, {fraction:.0%}"] = lowest_loss(fraction)
    baselines["successive halving"] = successive_halving
    advised = {name: advice(share, cohort.runs) for name, share in ADVICE_BUDGETS.items()}
    few = drawn[: max(1, round(ADVICE_SETS * sets))]
    return {
        "runs": len(cohort.runs),
        "methods": len({prediction_quality.group_of(run) for run in cohort.runs}),
        "rejected": cohort.rejected,
        "set_size": size,
        "prediction": {f"{f:.0%}": prediction_quality.measure(cohort, f, splits) for f in LENGTHS},
        "selection": {
            name: race_quality.measure(strategy, few if name in advised else drawn)
            for name, strategy in {**strategies, **advised, **baselines}.items()
        },
        "selection under a memory limit": {
            f"{limit:g} GB": {
                name: race_quality.measure(strategy, few if name in advised else drawn, limit * 1e9)
                for name, strategy in {**strategies, **advised, **baselines}.items()
                if name not in fixed or fixed[name].peak_bytes <= limit * 1e9
            }
            for limit in LIMITS_GB
        },
    }


def show(name: str, figures: dict[str, Any]) -> None:
    """One cohort as tables for people."""
    print(f"\n{name}: {figures['runs']} runs, {figures['methods']} methods, {len(figures['rejected'])} left out")
    for reason, count in Counter(figures["rejected"].values()).most_common():
        print(f"    left out, {count} times: {reason}")
    rows = figures["prediction"]
    print(f"{'final accuracy of unseen methods':40s}" + "".join(f"{f:>9s}" for f in rows))
    for key in next(iter(rows.values())):
        cells = ("-" if row[key] is None else f"{row[key]:.4f}" for row in rows.values())
        print(f"{key:40s}" + "".join(f"{cell:>9s}" for cell in cells))
    header = f"{'cost':>7s}{'regret':>9s}{'P<=.01':>8s}{'recall':>8s}{'hv':>7s}"
    print(f"{'random sets of ' + str(figures['set_size']):40s}{header}")
    tables = {"": figures["selection"], **figures["selection under a memory limit"]}
    for limit, table in tables.items():
        for key, row in table.items():
            label = f"{limit}: {key}" if limit else key
            if not row["sets"]:
                print(f"{label:40s}  nothing fits")
                continue
            numbers = f"{row['cost']:7.2f}{row['regret']:9.4f}{row['p']:8.3f}{row['recall']:8.3f}"
            print(f"{label:40s}{numbers}{row['hypervolume']:7.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="folder with published result files")
    parser.add_argument("--json", action="store_true", help="print the JSON alone")
    parser.add_argument("--splits", type=int, default=60, help="random halves of the methods")
    parser.add_argument("--sets", type=int, default=1500, help="random sets of candidates")
    options = parser.parse_args()
    cohorts, left_out = load_cohorts(options.results)
    if not cohorts and not left_out:
        parser.error(f"there is no *.json file in {options.results} or below it")
    figures = {}
    for cohort in cohorts:
        figures[cohort.name] = measure_cohort(cohort, options.splits, options.sets)
        if not options.json:
            show(cohort.name, figures[cohort.name])
    if not options.json:
        for name, reason in left_out.items():
            print(f"\nleft out: {name}: {reason}")
    print(json.dumps({"cohorts": figures, "left_out": left_out}, allow_nan=False))


if __name__ == "__main__":
    main()
