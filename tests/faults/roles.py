"""What the zygote's children are: `advisor` with other workers than usual, and workers in which something goes wrong.

ADVISOR_TEST_FAULTS says what goes wrong with whom, as JSON: the beginning of a candidate's id -> the name of a fault of
FAULTS. A fault that ends in ", once" befalls a candidate a single time.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import time
from pathlib import Path

MEGABYTE = 1 << 20


def advisor(request: dict) -> None:
    """`advisor ARGUMENTS`, with "worker" as the command of its workers, silent for "silence_s" at most, and without the
    right to write files larger than "file_bytes". The file "begun" tells when it begins."""
    from advisor import gather, planning
    from advisor.cli import main

    gather.ProcessExecutor = functools.partial(gather.ProcessExecutor, command=request["worker"])
    if "silence_s" in request:
        planning.LEAST_SILENCE_S, planning.PATIENCE = request["silence_s"], 0
    if "file_bytes" in request:
        limit_file_size(request["file_bytes"])
    Path(request["begun"]).touch()
    main(request["arguments"])


def worker(request: dict) -> None:
    """A real worker, and what ADVISOR_TEST_FAULTS does to it."""
    from probes import worker
    from probes.session import Session

    if pids := os.environ.get("ADVISOR_TEST_PIDS"):
        with Path(pids).open("a") as file:
            file.write(f"{os.getpid()}\n")
    faults = json.loads(os.environ.get("ADVISOR_TEST_FAULTS", "{}"))
    run = Session.run

    def run_with_fault(session, job, on_step, on_point):
        lift_memory_limit()
        name = next((fault for prefix, fault in faults.items() if job.id.startswith(prefix)), "")
        fault, _, once = name.partition(", ")
        mark = Path(session.context.work_folder) / f"{job.id}.befallen"
        if not fault or (once and mark.exists()):
            return run(session, job, on_step, on_point)
        mark.touch()
        return FAULTS[fault](session, job, on_step, on_point, run)

    Session.run = run_with_fault
    os._exit(worker.main())


def killed(session, job, on_step, on_point, run):
    def kill(id, step, loss):
        on_step(id, step, loss)
        if step % 8 == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    return run(session, job, kill, on_point)


def hangs(session, job, on_step, on_point, run):
    return run(session, job, lambda *_: time.sleep(600), on_point)


def explodes(session, job, on_step, on_point, run):
    return run(session, job.model_copy(update={"learning_rate": 1e18}), on_step, on_point)


def trains_nothing(session, job, on_step, on_point, run):
    """Both factors of LoRA start at zero, so that no gradient reaches either."""
    import torch

    from probes import adapters

    apply = adapters.apply_method

    def apply_dead(*arguments, **settings):
        model = apply(*arguments, **settings)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.zero_()
        return model

    adapters.apply_method = apply_dead
    try:
        return run(session, job, on_step, on_point)
    finally:
        adapters.apply_method = apply


def little_memory(megabytes):
    """The process may map so much more than it has mapped when the job begins."""

    def limited(session, job, on_step, on_point, run):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + megabytes * MEGABYTE, resource.RLIM_INFINITY))
        return run(session, job, on_step, on_point)

    return limited


def lift_memory_limit():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def limit_file_size(size_bytes):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


FAULTS = {
    "killed": killed,
    "hangs": hangs,
    "explodes": explodes,
    "trains nothing": trains_nothing,
    "no memory": little_memory(4),
    "half the memory": little_memory(60),
}
ROLES = {"advisor": advisor, "worker": worker}
