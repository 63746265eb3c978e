"""Conducts a race: asks the policy who is probed next, has the executor do it, and writes everything down.

The policy (probes/racing/race.py) knows curves only; the executor knows jobs only; this is where they meet, under the
clock. Whatever happens - a dead worker, the end of the budget, Ctrl-C, a full disk - what was measured so far is kept.

A race that is resumed is run again from its first rung, and each decision is told only what was known when it was due:
what lies in the journal is taken from there, the rest is trained, and the end is that of an undisturbed race.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowledge.errors import DiskFull
from knowledge.schema import Curve
from probes import interrupts
from probes.baseline import TICK_S, WorkerFailed
from probes.executors.base import Event, Executor
from probes.racing.evidence import Evidence
from probes.racing.journal import Journal
from probes.racing.observer import Observer
from probes.racing.plan import stop_step
from probes.racing.race import Race
from probes.racing.race_clock import RaceClock
from probes.schema import FAILURES, ProbeJob, ProbeOutcome, Schedule

# An evaluation costs as much as several steps: only stretches at least this long get one half way as well.
STEPS_WORTH_A_MIDPOINT = 20
# In a race of a single rung nothing else tells how fast a loss falls, on which hangs what it comes to: after nine of 34
# steps one was .597 and ended at .146, and from that point alone it was foretold to stay.
STEPS_WORTH_AN_ONLY_MIDPOINT = 4
PARTS_AFTER_OUT_OF_MEMORY = 2  # of each forward pass, at the one further try
TRIES_OF_A_JOB = 2  # where its worker dies under it: an accident happens once, to a method that needs too much twice


@dataclass(frozen=True)
class Contestant:
    """One candidate as the executor needs it."""

    id: str
    title: str
    method: str
    learning_rate: float
    peft_config: Mapping[str, Any] | None


class Conductor:
    """Runs one race. `deadline` is a time.monotonic() value after which no job goes on; as long as no probe has
    come to its end that is `grace_s` later, for an answer that took too long is better than none.

    `objection_to(outcome)` tells why a candidate must not go on though its probe succeeded, or None. A candidate that
    runs out of memory is tried once more with each of its batches of `batch_size` rows in parts, and one whose worker
    dies once more as it is. A worker that says nothing for `silence_limit_s` seconds is ended.
    """

    def __init__(
        self,
        race: Race,
        contestants: Sequence[Contestant],
        schedule: Schedule,
        executor: Executor,
        journal: Journal,
        observer: Observer,
        deadline: float,
        metric_name: str,
        *,
        batch_size: int = 1,
        silence_limit_s: float | None = None,
        grace_s: float = 0.0,
        probed_before_s: float = 0.0,
        end_s: float = 0.0,
        objection_to: Callable[[ProbeOutcome], str | None] = lambda outcome: None,
    ) -> None:
        """probed_before_s: what the journal knew of probing when this plan was made; see Journal.probing_s. end_s: what
        is measured at the end of the planned run takes, beside what is measured on the way."""
        self._race = race
        self._contestants = {c.id: c for c in contestants}
        self._schedule = schedule
        self._executor = executor
        self._journal = journal
        self._observer = observer
        self._deadline, self._grace_s = deadline, grace_s
        self._metric_name = metric_name
        self._batch_size = batch_size
        self._silence_limit_s = silence_limit_s
        self._objection_to = objection_to
        self._lost: Counter[str] = Counter()  # workers, by the candidate they probed; a resumed race counts anew
        self.evidence = Evidence(journal.curves, journal.outcomes)
        for id, outcomes in journal.outcomes.items():
            if self._is_failure(outcomes[-1]):
                self.evidence.failed[id] = outcomes[-1]
        self._clock = RaceClock(
            *(race, self.evidence, journal, observer, executor.workers, schedule.total_steps),
            deadline=deadline,
            probed_before_s=probed_before_s,
            end_s=end_s,
        )

    def run(self) -> Evidence:
        """The whole race, or as much of it as the clock, the user and the disk allow."""
        try:
            index, stop = 0, 0
            while jobs := self._race.next_jobs(self.evidence.curves_at(stop), self._reasons_to_leave(stop)):
                start, stop = stop, self._end_of(jobs[0].until_fraction)
                self._run_rung(index, {job.id: start for job in jobs}, stop)
                if self.evidence.out_of_time:
                    break
                index += 1
                self._clock.after_rungs(index, self._reasons_to_leave(stop))
            if index and not self.evidence.out_of_time:
                self._bring_back(index)
        except KeyboardInterrupt:
            interrupts.answered()
            self._executor.cancel()
            self.evidence.interrupted = True
        except (DiskFull, WorkerFailed) as error:
            if not any(self.evidence.outcomes.get(id) for id in self._contestants):
                raise
            self._executor.cancel()
            self.evidence.ended_by = str(error)
        return self.evidence

    def _bring_back(self, index: int) -> None:
        """Where the race has come to the end of the run and time is left, those that left it come to the end too: what
        is measured there needs no forecast."""
        last = self._schedule.total_steps
        reasons = self._reasons_to_leave(last)
        back = self._clock.who_comes_back([id for id in self._race.beaten if id not in reasons])
        if back:
            self._run_rung(index, {id: self.evidence.done_step(id) for id in back}, last)

    def _run_rung(self, index: int, starts: Mapping[str, int], stop: int) -> None:
        """starts: who is in it, and from which step of the run the rung is for each."""
        ids = list(starts)
        missing = [id for id in ids if self.evidence.done_step(id) < stop and id not in self.evidence.failed]
        self._observer.rung_started(index, stop, len(ids))
        self._tell_known([id for id in ids if id not in missing and id not in self.evidence.failed], stop)
        started = time.monotonic()
        jobs = {id: self._make_job(id, starts[id], stop) for id in missing}
        for job in jobs.values():
            self._executor.submit(job)
        while jobs and not self.evidence.out_of_time:
            interrupts.check()
            for event in self._executor.events(timeout_s=TICK_S):
                self._take(event, jobs)
                if self._is_time_up():
                    break
            if self._is_time_up() and jobs:
                self._executor.cancel()
                self.evidence.out_of_time = True
        failed = len(self.evidence.failed_before(stop).keys() & set(ids))
        self.evidence.rungs.append(
            {
                "steps": stop,
                "entered": len(ids),
                "trained": len(missing) - len(jobs),
                "failed": failed,
                "duration_s": round(time.monotonic() - started, 2),
            }
        )
        self._observer.rung_finished(index, len(ids) - failed - len(jobs), failed)

    def _end_of(self, fraction: float) -> int:
        return stop_step(fraction, self._schedule.total_steps)

    def _tell_known(self, ids: Sequence[str], stop: int) -> None:
        """Tells the observer of what a resumed race need not do again: without it others would look like the best."""
        for id in ids:
            points = [p for p in self.evidence.curves.get(id, Curve()).points if p.step <= stop]
            contestant = self._contestants[id]
            if points:
                last = points[-1]
                known = contestant.title, contestant.learning_rate, last.eval_loss, last.metric, last.step
                self._observer.probe_known(*known)

    def _is_time_up(self) -> bool:
        # Of an earlier race the journal may hold others, of whom this one does not tell.
        has_answer = any(self.evidence.done_step(id) for id in self._contestants)
        return time.monotonic() > self._deadline + (0.0 if has_answer else self._grace_s)

    def _take(self, event: Event, jobs: dict[str, ProbeJob]) -> None:
        """Writes down what came; a job that has ended leaves `jobs`, unless it is tried once more."""
        if event.fatal:
            raise WorkerFailed(f"The probe workers cannot go on: {event.fatal}")
        if event.job_id is None:
            return
        contestant = self._contestants[event.job_id]
        if event.started:
            target = jobs[event.job_id].stop_step
            self._observer.probe_started(event.worker, contestant.title, contestant.learning_rate, target)
        elif event.step:
            self._observer.probe_progress(event.worker, *event.step)
        elif event.point:
            self._journal.add_point(event.job_id, event.point, self._metric_name)
        elif event.outcome:
            self._end_job(event.worker, event.outcome, jobs)

    def _end_job(self, worker: int, outcome: ProbeOutcome, jobs: dict[str, ProbeJob]) -> None:
        contestant = self._contestants[outcome.id]
        self._journal.add_outcome(outcome, self._executor.workers)
        self._lost[outcome.id] += outcome.worker_lost
        job = jobs.pop(outcome.id)
        if self._is_failure(outcome):
            self.evidence.failed[outcome.id] = outcome
        elif outcome.status in FAILURES:
            self._observer.message(f"{contestant.title}, {outcome.status}: {outcome.reason}. Trying once more")
            jobs[job.id] = job.model_copy(update={"micro_batches": self._micro_batches(job.id)})
            self._executor.submit(jobs[job.id])
            return
        points = self.evidence.curves.get(outcome.id, Curve()).points
        self._observer.probe_finished(
            worker,
            contestant.title,
            contestant.learning_rate,
            points[-1].eval_loss if points else None,
            points[-1].metric if points else None,
            outcome.status,
        )

    def _make_job(self, id: str, start: int, stop: int) -> ProbeJob:
        """To train a candidate over the rung from step `start` to `stop`, from wherever its record ends."""
        contestant = self._contestants[id]
        return ProbeJob(
            id=id,
            method=contestant.method,
            learning_rate=contestant.learning_rate,
            peft_config=contestant.peft_config,
            schedule=self._schedule,
            start_step=self.evidence.done_step(id),
            stop_step=stop,
            # Those of the rung, whatever was seen of it before the race was cut off: curves must not tell of that.
            eval_steps=tuple(step for step in self._eval_steps(start, stop) if step > self.evidence.done_step(id)),
            micro_batches=self._micro_batches(id),
            silence_limit_s=self._silence_limit_s,
        )

    def _eval_steps(self, start: int, stop: int) -> tuple[int, ...]:
        is_only = start == 0 and len(self._race.plan.fractions) == 1
        worth_it = STEPS_WORTH_AN_ONLY_MIDPOINT if is_only else STEPS_WORTH_A_MIDPOINT
        return (stop,) if stop - start < worth_it else ((start + stop) // 2, stop)

    def _micro_batches(self, id: str) -> int:
        return PARTS_AFTER_OUT_OF_MEMORY if self.evidence.ran_out_of_memory(id) else 1

    def _reasons_to_leave(self, stop: int) -> dict[str, str]:
        """Why candidates do not go on from `stop`: what is objected to in them, or how they failed on the way there."""
        finished = self.evidence.last_finished(stop)
        objections = {id: text for id, outcome in finished.items() if (text := self._objection_to(outcome))}
        return objections | self.evidence.failed_before(stop)

    def _is_failure(self, outcome: ProbeOutcome) -> bool:
        """Whether a candidate is out after this outcome, so that it is not tried again."""
        if outcome.worker_lost:
            return self._lost[outcome.id] >= TRIES_OF_A_JOB
        if outcome.status == "out of memory":
            return outcome.micro_batches > 1 or self._batch_size < PARTS_AFTER_OUT_OF_MEMORY
        return outcome.status in FAILURES
