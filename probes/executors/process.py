"""Runs probes in worker processes on this machine: the default executor.

Each worker is `python -m probes.worker` in a session of its own, spoken to in JSON lines. A worker that dies takes
only its job with it: the job ends as failed, in words, and a fresh worker takes the next one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess  # nosec B404
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from knowledge.schema import CurvePoint
from probes.executors.base import Event
from probes.executors.pool import WorkerPool
from probes.schema import Baseline, ProbeContext, ProbeJob, ProbeOutcome

# -P: whatever lies in the folder that the user is in, as a queue.py, is not imported in place of what is meant.
WORKER_COMMAND = (sys.executable, "-P", "-m", "probes.worker")
# From one look at the workers to the next: whoever stays away for longer, as under Ctrl-Z, has not heard their silence.
LONGEST_ABSENCE_S = 5.0
ENDING_S = 0.5  # for a worker that has nothing to do any more


class _Worker:
    """One process and the thread that reads its events into the shared queue."""

    def __init__(
        self,
        index: int,
        context: ProbeContext,
        inbox: queue.Queue,
        environment: dict[str, str],
        command: Sequence[str],
    ) -> None:
        self.index = index
        self.job: ProbeJob | None = None
        self.job_started = 0.0
        self.last_heard = 0.0
        self.ready = False
        self.log_path = Path(context.work_folder) / f"worker-{index}.log"
        with self.log_path.open("ab") as log:
            # A list of arguments that is made here, and no shell.
            self.process = subprocess.Popen(  # nosec B603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._inbox = inbox
        self._send({"context": context.model_dump(mode="json")})
        threading.Thread(target=self._read, daemon=True).start()

    def assign(self, job: ProbeJob) -> None:
        self.job = job
        self.job_started = self.last_heard = time.perf_counter()
        self._send({"job": job.model_dump(mode="json")})

    def is_hung(self) -> bool:
        """Whether its job has been silent for longer than it may."""
        limit_s = self.job.silence_limit_s if self.job else None
        return limit_s is not None and time.perf_counter() - self.last_heard > limit_s

    def end(self, grace_s: float = 0.0) -> None:
        """Asks by closing the input, then kills the whole session of the worker."""
        if self.process.stdin and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # the reader sees the end of the process and reports it
            self.process.stdin.write((json.dumps(message, allow_nan=False) + "\n").encode())
            self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            try:
                self._inbox.put((self, json.loads(line)))
            except json.JSONDecodeError:
                continue  # cut off in the middle by a kill
        self.process.wait()
        self._inbox.put((self, None))


class ProcessExecutor(WorkerPool[_Worker]):
    """Local worker processes: `workers` of them, on `devices` in turn: what CUDA_VISIBLE_DEVICES is to say to each,
    where None leaves it as it is. `command` starts one (default: WORKER_COMMAND)."""

    def __init__(
        self, workers: int, devices: Sequence[str] | None = None, *, command: Sequence[str] | None = None
    ) -> None:
        super().__init__(workers)
        self._devices = devices
        self._command = command or WORKER_COMMAND
        self._context: ProbeContext | None = None
        self._inbox: queue.Queue = queue.Queue()
        self._looked = time.perf_counter()
        self._why_none = ""

    def start(self, context: ProbeContext) -> None:
        # Where more workers than cards are asked for, a probe that needs more than its part fails, not its neighbour.
        # On a Ray cluster what is shared here is a part already.
        sharing = math.ceil(len(self._pool) / len(self._devices)) if self._devices else 1
        self._context = context.model_copy(update={"memory_share": context.memory_share / sharing})
        for index in range(len(self._pool)):
            self._spawn(index)

    def events(self, timeout_s: float) -> Iterator[Event]:
        yield from self._dispatch()
        while self._busy():
            try:
                worker, message = self._inbox.get(timeout=timeout_s)
            except queue.Empty:
                worker, message = None, None
            if worker and worker in self._pool:  # and this is not the late word of one that was ended
                worker.last_heard = time.perf_counter()
                yield from self._translate(worker, message)
            yield from self._end_hung()
            yield from self._dispatch()
            if worker is None:
                return

    def cancel(self) -> None:
        self._waiting.clear()
        for index, worker in enumerate(self._pool):
            if worker and worker.job:
                self._pool[index] = None
                worker.end()

    def close(self) -> None:
        self._waiting.clear()
        workers, self._pool = [w for w in self._pool if w], [None] * len(self._pool)
        for worker in workers:
            worker.end(grace_s=0.0 if worker.job else ENDING_S)

    def _busy(self) -> bool:
        at_work = any(w and (w.job or not w.ready) for w in self._pool)
        return at_work or (bool(self._waiting) and len(self._given_up) < len(self._pool))

    def _spawn(self, index: int) -> None:
        assert self._context
        try:
            self._pool[index] = _Worker(index, self._context, self._inbox, self._environment(index), self._command)
        except OSError as error:  # no memory, no room, or no more processes allowed
            self._given_up.add(index)
            self._why_none = f"no process can be started: {error}"

    def _dispatch(self) -> Iterator[Event]:
        yield from super()._dispatch()
        if self._why_none and len(self._given_up) == len(self._pool):
            yield Event(0, fatal=self._why_none)

    def _environment(self, index: int) -> dict[str, str]:
        assert self._context
        threads = str(self._context.threads)
        environment = dict(os.environ, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, TOKENIZERS_PARALLELISM="false")
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[index % len(self._devices)]
        return environment

    def _assign(self, worker: _Worker, job: ProbeJob) -> None:
        worker.assign(job)

    def _translate(self, worker: _Worker, message: dict[str, Any] | None) -> Iterator[Event]:
        if message is None:
            yield from self._ended(worker)
        elif "baseline" in message:
            worker.ready = True
            yield Event(worker.index, baseline=Baseline.model_validate(message["baseline"]))
        elif "step" in message:
            step = message["step"]
            yield Event(worker.index, step["id"], step=(step["step"], step["loss"]))
        elif "point" in message:
            point = dict(message["point"])
            yield Event(worker.index, point.pop("id"), point=CurvePoint.model_validate(point))
        elif "outcome" in message:
            outcome = ProbeOutcome.model_validate(message["outcome"])
            worker.job = None
            if outcome.status in ("failed", "out of memory"):
                self._pool[worker.index] = None
                worker.end(grace_s=ENDING_S)  # by itself, see probes/worker.py; the next one may need its memory
            yield Event(worker.index, outcome.id, outcome=outcome)
        elif "fatal" in message:
            yield from self._give_up(worker, message["fatal"])

    def _ended(self, worker: _Worker) -> Iterator[Event]:
        self._pool[worker.index] = None
        words = in_words(worker.process.returncode)
        if not worker.ready:
            reason = f"the worker ended while it loaded the model: {words}; {worker.log_path}"
            yield from self._give_up(worker, reason)
        elif worker.job:
            yield self._failed(worker, words, worker_lost=True)

    def _give_up(self, worker: _Worker, reason: str) -> Iterator[Event]:
        self._pool[worker.index] = None
        self._given_up.add(worker.index)
        if len(self._given_up) == len(self._pool):
            yield Event(worker.index, fatal=reason)

    def _end_hung(self) -> Iterator[Event]:
        self._forgive_absence()
        for worker in [w for w in self._pool if w and w.is_hung()]:
            assert worker.job
            self._pool[worker.index] = None
            worker.end()
            yield self._failed(worker, f"said nothing for {worker.job.silence_limit_s:.0f} s: taken for hung, ended")

    def _forgive_absence(self) -> None:
        """Where this process was stopped, the workers may have been, too, and what they said waits in the inbox."""
        now = time.perf_counter()
        away_s, self._looked = now - self._looked, now
        if away_s > LONGEST_ABSENCE_S:
            for worker in filter(None, self._pool):
                worker.last_heard = min(now, worker.last_heard + away_s)

    def _failed(self, worker: _Worker, reason: str, *, worker_lost: bool = False) -> Event:
        """The outcome of a job whose worker is gone."""
        assert worker.job
        duration_s = time.perf_counter() - worker.job_started
        outcome = ProbeOutcome(
            id=worker.job.id, status="failed", reason=reason, duration_s=duration_s, worker_lost=worker_lost
        )
        worker.job = None
        return Event(worker.index, outcome.id, outcome=outcome)


def in_words(returncode: int) -> str:
    """What a process's return code means to a person."""
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    name = signal.Signals(-returncode).name if -returncode in set(signal.Signals) else f"signal {-returncode}"
    hint = ": probably out of host memory" if name == "SIGKILL" else ""
    return f"killed ({name}){hint}"
