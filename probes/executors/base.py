"""What an executor is: something that runs probe jobs elsewhere and reports what happens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from knowledge.schema import CurvePoint
from probes.schema import Baseline, ProbeContext, ProbeJob, ProbeOutcome


@dataclass(frozen=True)
class Event:
    """One report of a worker. Exactly one of the optional fields is set, beside the job it belongs to."""

    worker: int
    job_id: str | None = None
    started: bool = False
    step: tuple[int, float] | None = None  # optimizer step, training loss
    point: CurvePoint | None = None
    outcome: ProbeOutcome | None = None
    baseline: Baseline | None = None
    fatal: str | None = None  # no worker can start, and why: no job can run
    waiting: str | None = None  # what keeps a worker from starting, which may come to an end


class Executor(Protocol):
    """Runs jobs on `workers` workers. Used as a context manager; leaving it leaves nothing running.

    A job that was submitted always ends in an event with an outcome, even when its worker dies.
    """

    workers: int

    def start(self, context: ProbeContext) -> None:
        """Starts the workers. Each reports its baseline; that none can start is one event for all of them."""

    def submit(self, job: ProbeJob) -> None:
        """Queues a job; jobs start in order of submission as workers become free."""

    def events(self, timeout_s: float) -> Iterator[Event]:
        """Events as they come, ending when all submitted jobs have ended or after `timeout_s` without one."""

    def cancel(self) -> None:
        """Ends running jobs and drops queued ones, at once. The workers stay usable."""

    def close(self) -> None:
        """Ends all workers."""

    def __enter__(self) -> Executor: ...

    def __exit__(self, *exception: object) -> None: ...
