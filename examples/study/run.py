"""Runs the study: every method at its learning rates, on every task, under three probe protocols.

    python -m examples.study.run --out DIR [--workers 2] [--task NAME ...]

It can be stopped and started again at any time, with any number of workers: a candidate that is done is known by its
result in DIR or in `results/`, one that is being worked on by a lock that ends with its process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from examples.study.bench import ProbeFailed, Workbench
from examples.study.candidates import candidates
from examples.study.records import RESULTS, read_collected, write
from examples.study.tasks import TASKS


def work(out: Path, task_names: Sequence[str], kept: Path = RESULTS) -> None:
    """One worker: takes the next candidate that is neither done nor being worked on, until there is none."""
    done = {(r.task, r.candidate) for r in read_collected(kept)}
    (out / "locks").mkdir(parents=True, exist_ok=True)
    bench: Workbench | None = None
    failed = []
    for candidate in candidates([TASKS[name] for name in task_names]):
        task, name = candidate.task, candidate.name
        file = out / task.name / f"{name}.json"
        if (task.name, name) in done or file.exists():
            continue
        with suppress(Timeout), FileLock(out / "locks" / f"{task.name}.{name}.lock", timeout=0):
            if file.exists():  # done by another worker between the look and the lock
                continue
            if bench is None or bench.task != task or bench.seed != candidate.seed:
                bench = Workbench(task, candidate.seed, out)
            started = time.monotonic()
            try:
                write(bench.measure(candidate), out)
            except ProbeFailed as error:
                failed.append(f"{task.name} {name}: {error}")
            _log(f"{task.name} {name}: {time.monotonic() - started:.0f} s")
    if failed:
        raise SystemExit("\n".join(failed))


def _log(message: str) -> None:
    print(f"{datetime.now():%H:%M:%S} [{os.getpid()}] {message}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the running study")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this task; repeatable")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    names = arguments.task or list(TASKS)
    workers = [context.Process(target=work, args=(arguments.out, names)) for _ in range(arguments.workers)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:  # a worker would go on by itself
        for worker in workers:
            if worker.is_alive():
                worker.kill()
    return int(any(worker.exitcode for worker in workers))


if __name__ == "__main__":
    sys.exit(main())
