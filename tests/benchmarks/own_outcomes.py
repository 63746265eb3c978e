"""What recorded outcomes do for the next forecast of the same task.

    python -m tests.benchmarks.own_outcomes [--recorded 0 1 16 26]

Of each suite of the table with enough runs, some play the outcomes of the user's own runs; forecast are other methods,
probed to a fifth of the run (tests/advisor/forecast/test_own_outcomes.py).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter

from knowledge import table
from tests.advisor.forecast.test_own_outcomes import measure

FEWEST_RUNS = 30  # for four methods in a race, and others to record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recorded", type=int, nargs="+", default=[0, 1, 16, 26], help="outcomes in the user's own table"
    )
    options = parser.parse_args()
    runs = Counter(run.benchmark for run in table.shipped() if run.task != "text-to-image")
    print("| benchmark | recorded | error of the log loss | half-width of its interval | held | error of the metric |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ADVISOR_DATA_DIR"] = folder  # never the user's own
        for benchmark in sorted(name for name, count in runs.items() if count >= FEWEST_RUNS):
            for recorded in options.recorded:
                found = measure(benchmark, recorded)
                print(
                    f"| {benchmark} | {recorded} | {found.error:.2f} | {found.half_width:.2f} | {found.coverage:.0%} "
                    f"| {found.metric_error:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
