"""What the zygote's children are: `advisor` with other workers than usual, and workers in which something goes wrong.

ADVISOR_TEST_FAULTS says what goes wrong with whom, as JSON: the beginning of a candidate's id -> the name of a fault of
FAULTS, or "N MB" for so much more memory than the worker has. One that ends in ", once" befalls a single time.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import resource
import signal
import time
from pathlib import Path

MEGABYTE = 1 << 20
M_MMAP_THRESHOLD = -3  # of mallopt, see malloc.h


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
    if any(fault.endswith(" MB") for fault in faults.values()):
        give_back_what_is_freed()

    def run_with_fault(session, job, on_step, on_point):
        name = next((fault for prefix, fault in faults.items() if job.id.startswith(prefix)), "")
        fault, _, once = name.partition(", ")
        mark = Path(session.context.work_folder) / f"{job.id}.befallen"
        if not fault or (once and mark.exists()):
            return run(session, job, on_step, on_point)
        mark.touch()
        if fault.endswith(" MB"):
            return with_memory(int(fault.removesuffix(" MB")), lambda: run(session, job, on_step, on_point))
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


def give_back_what_is_freed() -> None:
    """Freed blocks of 64 KiB and more are unmapped, always. Otherwise glibc keeps ever larger ones mapped the more were
    freed, and what a process may map tells nothing of what it needs."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 64 << 10)


def with_memory(megabytes, run):
    """What `run()` gives while the process may map only so much more than it has mapped when the training begins."""
    from probes import session

    train = session.train

    def train_in_little_memory(*arguments, **settings):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + megabytes * MEGABYTE, resource.RLIM_INFINITY))
        return train(*arguments, **settings)

    session.train = train_in_little_memory
    try:
        return run()
    finally:
        session.train = train
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def limit_file_size(size_bytes):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


FAULTS = {
    "killed": killed,
    "hangs": hangs,
    "explodes": explodes,
    "trains nothing": trains_nothing,
}
ROLES = {"advisor": advisor, "worker": worker}
