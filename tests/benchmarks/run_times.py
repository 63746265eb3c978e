"""How well is the time of a whole run told from its beginning? The timed runs of the table, as if they were probes.

    python -m tests.benchmarks.run_times [--json]

The runs of a benchmark play one race, all of them probed to the same share of the run, and are held against the time
that they took to their ends. The last line of the output is everything as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from advisor.forecast.run_time import time_bound, time_interval
from knowledge import table
from knowledge.schema import Curve, RunRecord
from tests.benchmarks.cohorts import PROBE_FRACTIONS

FEWEST_RUNS = 5
FIGURES = ("error", "worst", "inside", "half_width")


def timed_benchmarks() -> dict[str, list[RunRecord]]:
    """The runs whose curves tell of their times, by benchmark."""
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for run in table.shipped():
        if sum(bool(p.elapsed_s) for p in run.curve.points) > 1:
            found[run.benchmark].append(run)
    return {name: runs for name, runs in found.items() if len(runs) >= FEWEST_RUNS}


def measure(runs: Sequence[RunRecord], fraction: float) -> dict[str, float] | None:
    """Mean and largest error of the told time, the share of runs inside their 80 % intervals, and their mean
    half-width, as shares of the time; None where too few were timed twice in so short a beginning."""
    beginnings = [run.curve.until(round(fraction * run.max_steps)) for run in runs]
    bound = time_bound(beginnings)
    if math.isinf(bound):
        return None
    rows = []
    for run, seen in zip(runs, beginnings, strict=True):
        if not any(p.elapsed_s for p in seen.points):
            continue
        told, took = (_whole_s(curve, run.max_steps) for curve in (seen, run.curve))
        low, high = time_interval(told, bound, fraction)
        rows.append((abs(told / took - 1), low <= took <= high, (high - low) / 2 / told))
    errors, inside, half_widths = np.array(rows, dtype=float).T
    return dict(zip(FIGURES, map(float, (errors.mean(), errors.max(), inside.mean(), half_widths.mean())), strict=True))


def _whole_s(curve: Curve, max_steps: int) -> float:
    """Of a run that goes on as fast as its curve went."""
    last = [p for p in curve.points if p.elapsed_s][-1]
    return last.elapsed_s / last.step * max_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the JSON alone")
    options = parser.parse_args()
    figures = {
        name: {f"{share:.0%}": measure(runs, share) for share in (*PROBE_FRACTIONS, 0.5)}
        for name, runs in timed_benchmarks().items()
    }
    if not options.json:
        for name, by_share in figures.items():
            print(f"\n{name}\n{'probe':12s}" + "".join(f"{share:>9s}" for share in by_share))
            for key in FIGURES:
                cells = ("-" if row is None else f"{row[key]:.4f}" for row in by_share.values())
                print(f"{key.replace('_', ' '):12s}" + "".join(f"{cell:>9s}" for cell in cells))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
