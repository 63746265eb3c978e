"""Runs probes on a Ray cluster, where one machine is not enough: an executor like the local one, over many nodes.

Each worker is an actor that keeps a local executor with one worker process (probes/executors/process.py), so a probe
runs by the same code everywhere, and what kills it kills a process, not the actor. Nothing is shared but the cluster:
the prepared data goes to the nodes with the actors, and each checkpoint comes back with its outcome, so a candidate
goes on where another worker left it, and a race that is resumed may change its executor.

A node that is lost takes its jobs with it; they end as such (`worker_lost`), and the conductor tries them once more on
what is left. Ray pickles what it moves: whoever may use the cluster is trusted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from knowledge.new_files import replace_file
from probes import checkpoint
from probes.executors.base import Event
from probes.executors.pool import WorkerPool
from probes.executors.ray_places import connect, find_places
from probes.executors.ray_seat import Seat, installed_versions
from probes.forgetting import TEXTS_FILE
from probes.schema import ProbeContext, ProbeJob, ProbeOutcome

# An actor gathers events for so long before it answers: one message a step would keep a cluster busy with messages.
POLL_S = 0.2
PATIENCE_S = 30.0  # with a place at which no worker begins, before it is told
CLOSING_S = 3.0  # to end the worker process and to clear up on the node


class _Worker:
    """An actor at one place, as it is seen from here."""

    def __init__(self, index: int, actor: Any) -> None:
        self.index, self.actor = index, actor
        self.is_there, self.is_told, self.asked_for = False, False, time.monotonic()
        self.ready = False
        self.job: ProbeJob | None = None
        self.job_started = 0.0


class RayExecutor(WorkerPool[_Worker]):
    """Workers on the Ray cluster at `address`. Where None is given: the one that RAY_ADDRESS names, else one that runs
    on this machine, else one that is started here and ended with the executor.

    `workers` limits their number, which is otherwise that of the places. With `memory_bytes`, what one probe may hold,
    several share a GPU that has room for them. `command` starts a worker process on a node, by default as the local
    executor does. `device` is what the cluster trains on. Raises ClusterUnavailable.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        memory_bytes: int | None = None,
        threads: int = 1,
        command: Sequence[str] | None = None,
    ) -> None:
        self._command = command
        self._connected_here = connect(address)
        self._places = find_places(workers, memory_bytes, threads)
        super().__init__(len(self._places))
        self.device = "cuda" if self._places[0].gpus else "cpu"
        self._polls: dict[Any, _Worker] = {}
        """Calls under way by their references: at most one to a worker."""
        self._context: ProbeContext | None = None
        self._stack = ExitStack()
        self._data: Any = None
        """The reference of the files of prepared data."""

    def start(self, context: ProbeContext) -> None:
        """Starts the first worker. The others follow once it is ready, and get the texts that it wrote for all."""
        self._context = context
        # Ray prints pages about a node that is lost, to where the result alone should go.
        log = self._stack.enter_context((Path(context.work_folder) / "ray.log").open("a", encoding="utf-8"))
        self._stack.enter_context(redirect_stdout(log))
        self._share_data()
        self._spawn(0)

    def events(self, timeout_s: float) -> Iterator[Event]:
        import ray

        yield from self._dispatch()
        last_event = time.monotonic()
        while self._polls:
            answered, _ = ray.wait(list(self._polls), timeout=max(0.0, timeout_s - (time.monotonic() - last_event)))
            for poll in answered:
                for event in self._hear(poll):
                    last_event = time.monotonic()
                    yield event
            yield from self._dispatch()
            if time.monotonic() - last_event >= timeout_s:
                yield from self._not_there()
                return

    def cancel(self) -> None:
        self._waiting.clear()
        self._end([worker for worker in self._pool if worker and worker.job])

    def close(self) -> None:
        import ray

        self._waiting.clear()
        self._end([worker for worker in self._pool if worker])
        if self._connected_here:
            ray.shutdown()
            self._connected_here = False
        self._stack.close()

    def _spawn(self, index: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        assert self._context
        place = self._places[index]
        seat = ray.remote(Seat).options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.node_id, soft=False),
        )
        context = self._context.model_copy(update={"memory_share": place.gpus or 1.0})
        actor = seat.remote(context, self._data, installed_versions(), self._command)
        worker = self._pool[index] = _Worker(index, actor)
        self._listen(worker)

    def _assign(self, worker: _Worker, job: ProbeJob) -> None:
        worker.job, worker.job_started = job, time.monotonic()
        self._listen(worker, job)

    def _listen(self, worker: _Worker, job: ProbeJob | None = None) -> None:
        """Asks for the next events; with `job` it is begun at once."""
        stored = self._checkpoint_of(job.id) if job else None
        content = stored.read_bytes() if stored and stored.exists() else None
        self._polls[worker.actor.work.remote(POLL_S, job, content)] = worker

    def _hear(self, poll: Any) -> Iterator[Event]:
        import ray

        worker = self._polls.pop(poll)
        try:
            heard = ray.get(poll)
        except ray.exceptions.RayError as error:
            yield from self._lost(worker, error)
            return
        worker.is_there = True
        for event, file in heard:
            yield from self._take(worker, event, file)
        if worker in self._pool and (worker.job or not worker.ready):
            self._listen(worker)

    def _not_there(self) -> Iterator[Event]:
        """Tells once of each worker that has not begun: Ray waits for a place as long as other work holds it."""
        for worker in self._polls.values():
            late = time.monotonic() - worker.asked_for > PATIENCE_S
            if late and not (worker.is_there or worker.is_told):
                worker.is_told = True
                where = self._places[worker.index].address
                yield Event(
                    worker.index,
                    waiting=f"no worker has begun on {where} yet: does other work hold its place? See `ray status`",
                )

    def _take(self, worker: _Worker, event: Event, file: bytes | None) -> Iterator[Event]:
        """Passes an event on under the worker's number. `file` is what came with it."""
        if event.fatal:
            if worker.job:  # given to an actor whose new process then could not load: another may take it
                self._waiting.appendleft(worker.job)
            yield from self._give_up(worker, event.fatal)
        elif event.baseline:
            worker.ready = True
            self._keep_texts(file)
            yield Event(worker.index, baseline=event.baseline)
        elif event.outcome:
            worker.job = None
            self._keep_checkpoint(event.outcome.id, file)
            yield Event(worker.index, event.job_id, outcome=event.outcome)
        elif not event.started:  # which was told when the job was given away
            yield Event(worker.index, event.job_id, step=event.step, point=event.point)

    def _lost(self, worker: _Worker, error: Exception) -> Iterator[Event]:
        """The actor is gone, mostly with its node. One that was never ready will not be: its place is given up."""
        self._end([worker])
        words = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).strip()
        where = self._places[worker.index].address
        if not worker.ready:
            yield from self._give_up(worker, f"no worker could start on {where}: {words}")
        elif worker.job:
            yield Event(
                worker.index,
                worker.job.id,
                outcome=ProbeOutcome(
                    id=worker.job.id,
                    status="failed",
                    reason=f"its worker on {where} was lost ({type(error).__name__}): {words}"[:500],
                    duration_s=time.monotonic() - worker.job_started,
                    worker_lost=True,
                ),
            )

    def _give_up(self, worker: _Worker, reason: str) -> Iterator[Event]:
        self._end([worker])
        self._given_up.add(worker.index)
        if len(self._given_up) == len(self._pool):
            yield Event(worker.index, fatal=reason)
        elif not any(self._pool):
            self._spawn(next(i for i in range(len(self._pool)) if i not in self._given_up))

    def _end(self, workers: Sequence[_Worker]) -> None:
        """Lets workers clear up behind them, and then ends them."""
        import ray

        for worker in workers:
            self._pool = [None if w is worker else w for w in self._pool]
            self._polls = {poll: w for poll, w in self._polls.items() if w is not worker}
        closing = [worker.actor.close.remote() for worker in workers]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSING_S)
        for worker in workers:
            ray.kill(worker.actor)

    def _share_data(self) -> None:
        import ray

        assert self._context
        folder = Path(self._context.data_folder)
        files: Mapping[str, bytes] = {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }
        self._data = ray.put(files)

    def _keep_texts(self, content: bytes | None) -> None:
        """Those on which forgetting is measured must be the same everywhere: the first worker's, now for all others."""
        assert self._context
        path = Path(self._context.data_folder) / TEXTS_FILE
        if content is not None and not path.exists():
            path.write_bytes(content)
            self._share_data()
        for index, worker in enumerate(self._pool):
            if worker is None and index not in self._given_up:
                self._spawn(index)

    def _checkpoint_of(self, id: str) -> Path:
        assert self._context
        return Path(self._context.work_folder) / id / checkpoint.FILE

    def _keep_checkpoint(self, id: str, content: bytes | None) -> None:
        """On a full disk a candidate goes without, as it does locally: it may have to start over."""
        if content is None:
            return
        path = self._checkpoint_of(id)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, content)
