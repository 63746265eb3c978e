"""What executors with a fixed number of places have in common: jobs wait in line and go to whoever is free."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, Self, TypeVar

from probes.executors.base import Event
from probes.schema import ProbeJob


class PoolWorker(Protocol):
    """A worker as its pool sees it: `ready` once it has loaded the base, with the job that it is at."""

    ready: bool
    job: ProbeJob | None


Worker = TypeVar("Worker", bound=PoolWorker)


class WorkerPool(ABC, Generic[Worker]):
    """`workers` places, each with a worker or none. The executor says how one is started, and how it gets a job."""

    def __init__(self, workers: int) -> None:
        self._pool: list[Worker | None] = [None] * workers
        self._waiting: deque[ProbeJob] = deque()
        self._given_up: set[int] = set()
        """Places whose worker could not start: where others could, the race goes on without these."""

    @property
    def workers(self) -> int:
        """How many can work: those that could not start do not count."""
        return max(1, len(self._pool) - len(self._given_up))

    def submit(self, job: ProbeJob) -> None:
        self._waiting.append(job)

    @abstractmethod
    def close(self) -> None:
        """Ends all workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _spawn(self, index: int) -> None:
        """Starts a worker at that place."""

    @abstractmethod
    def _assign(self, worker: Worker, job: ProbeJob) -> None:
        """Gives the job to a worker that is ready and has none."""

    def _dispatch(self) -> Iterator[Event]:
        """Gives waiting jobs to free workers; at places whose worker was lost a new one starts."""
        for index in range(len(self._pool)):
            if not self._waiting:
                return
            if self._pool[index] is None and index not in self._given_up:
                self._spawn(index)
            worker = self._pool[index]
            if worker and worker.ready and worker.job is None:
                job = self._waiting.popleft()
                self._assign(worker, job)
                yield Event(index, job.id, started=True)
