"""How the wall time of a rung falls with the number of workers: stub probes sleep, so that only the executor counts.

    python -m tests.benchmarks.scaling [--probes 16] [--seconds 1] [--executors process ray]

The time is from the first job given to the last outcome heard, with workers that are ready; for Ray a cluster of two
nodes is started on this machine. `efficiency` is the ideal time over the measured one. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probes.executors.base import Executor
from probes.executors.process import ProcessExecutor
from probes.schema import ProbeJob
from tests.probes import stub_worker
from tests.probes.stub_context import stub_context

WORKERS = (1, 2, 4)


def rung_s(executor: Executor, folder: Path, probes: int) -> float:
    """Seconds that a rung of `probes` jobs takes on the executor's workers."""
    executor.start(stub_context(folder))
    ready: set[int] = set()
    while len(ready) < executor.workers:
        ready |= {event.worker for event in executor.events(timeout_s=0.5) if event.baseline}
    started, left = time.perf_counter(), probes
    for i in range(probes):
        executor.submit(ProbeJob(id=f"job-{i}", method="lora", stop_step=10))
    while left:
        left -= sum(event.outcome is not None for event in executor.events(timeout_s=0.5))
    return time.perf_counter() - started


def measure(name: str, probes: int, seconds: float) -> list[dict[str, float]]:
    """One entry for each number of workers."""
    found = []
    command = [sys.executable, "-S", stub_worker.__file__, f"seconds={seconds}"]
    for workers in WORKERS:
        with tempfile.TemporaryDirectory() as folder, _open(name, workers, command) as executor:
            wall_s = rung_s(executor, Path(folder), probes)
        ideal_s = math.ceil(probes / workers) * seconds
        found.append({"workers": workers, "wall_s": round(wall_s, 2), "efficiency": round(ideal_s / wall_s, 3)})
        print(f"{name:>8} {workers} worker(s): {wall_s:6.2f} s, ideal {ideal_s:5.1f} s")
    return found


def _open(name: str, workers: int, command: list[str]) -> Executor:
    if name == "process":
        return ProcessExecutor(workers, command=command)
    from probes.executors.ray import RayExecutor

    return RayExecutor(workers=workers, command=command)


@contextmanager
def two_nodes() -> Iterator[None]:
    """A Ray cluster on this machine, with place for two workers on each of its nodes."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probes", type=int, default=16, help="jobs of the rung")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each of them sleeps")
    parser.add_argument("--executors", nargs="+", default=["process", "ray"], choices=["process", "ray"])
    options = parser.parse_args()
    found = {}
    for name in options.executors:
        if name == "ray":
            with two_nodes():
                found[name] = measure(name, options.probes, options.seconds)
        else:
            found[name] = measure(name, options.probes, options.seconds)
    print(json.dumps({"probes": options.probes, "seconds": options.seconds, "rung": found}))


if __name__ == "__main__":
    main()
