"""Conducts a race: asks the policy who is probed next, has the executor do it, and writes everything down.

The policy (probes/race.py) knows curves only; the executor knows jobs only; this is where they meet, under the
clock. Whatever happens - a dead worker, the end of the budget, Ctrl-C - what was measured so far is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knowledge.errors import AdvisorError
from knowledge.schema import Curve
from probes.executors.base import Event, Executor
from probes.journal import Journal
from probes.observer import Observer
from probes.race import Race
from probes.schema import Baseline, ProbeJob, ProbeOutcome, Schedule

# Looked at this often while nothing happens, so that the end of the budget is noticed in time.
TICK_S = 0.5
# An evaluation costs as much as several steps: only stretches at least this long get one half way as well.
STEPS_WORTH_A_MIDPOINT = 20


class WorkerFailed(AdvisorError):
    """No worker could start, so nothing can be probed."""


@dataclass(frozen=True)
class Contestant:
    """One candidate as the executor needs it."""

    id: str
    title: str
    method: str
    learning_rate: float
    peft_config: Mapping[str, Any] | None


@dataclass
class Evidence:
    """What a race found out, whether it came to its end or not."""

    curves: dict[str, Curve]
    outcomes: dict[str, list[ProbeOutcome]]
    failed: dict[str, ProbeOutcome] = field(default_factory=dict)
    rungs: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    out_of_time: bool = False


def await_baseline(executor: Executor) -> Baseline:
    """The baseline of the first worker that is ready; raises WorkerFailed when none can start."""
    while True:
        for event in executor.events(timeout_s=TICK_S):
            if event.fatal:
                raise WorkerFailed(f"The probe worker could not start: {event.fatal}")
            if event.baseline:
                return event.baseline


class Conductor:
    """Runs one race. `deadline` is a time.monotonic() value after which no job goes on.

    `objection_to(outcome)` tells why a candidate must not go on though its probe succeeded, or None.
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
        objection_to: Callable[[ProbeOutcome], str | None] = lambda outcome: None,
    ) -> None:
        self._race = race
        self._contestants = {c.id: c for c in contestants}
        self._schedule = schedule
        self._executor = executor
        self._journal = journal
        self._observer = observer
        self._deadline = deadline
        self._metric_name = metric_name
        self._objection_to = objection_to
        self.evidence = Evidence(journal.curves, journal.outcomes)
        for outcomes in journal.outcomes.values():
            self._note_failure(outcomes[-1])

    def run(self) -> Evidence:
        """The whole race, or as much of it as the clock and the user allow."""
        try:
            index = 0
            while jobs := self._race.next_jobs(self.evidence.curves, self._objections() | self._failures()):
                stops = {job.id: self._stop_step(job.until_fraction) for job in jobs}
                self._run_rung(index, stops)
                if self.evidence.out_of_time:
                    break
                index += 1
        except KeyboardInterrupt:
            self._executor.cancel()
            self.evidence.interrupted = True
        return self.evidence

    def _run_rung(self, index: int, stops: Mapping[str, int]) -> None:
        missing = {id: stop for id, stop in stops.items() if self._last_step(id) < stop and not self._has_failed(id)}
        self._observer.rung_started(index, max(stops.values()), len(stops))
        started = time.monotonic()
        for id, stop in missing.items():
            self._executor.submit(self._make_job(id, stop))
        left = set(missing)
        while left and not self.evidence.out_of_time:
            for event in self._executor.events(timeout_s=TICK_S):
                self._take(event, stops, left)
                if time.monotonic() > self._deadline:
                    break
            if time.monotonic() > self._deadline and left:
                self._executor.cancel()
                self.evidence.out_of_time = True
        failed = sum(self._has_failed(id) for id in stops)
        self.evidence.rungs.append(
            {
                "steps": max(stops.values()),
                "entered": len(stops),
                "trained": len(missing) - len(left),
                "failed": failed,
                "duration_s": round(time.monotonic() - started, 2),
            }
        )
        self._observer.rung_finished(index, len(stops) - failed - len(left), failed)

    def _take(self, event: Event, stops: Mapping[str, int], left: set[str]) -> None:
        if event.fatal:
            raise WorkerFailed(f"The probe workers cannot go on: {event.fatal}")
        if event.job_id is None:
            return
        contestant = self._contestants[event.job_id]
        if event.started:
            self._observer.probe_started(event.worker, contestant.title, contestant.learning_rate, stops[event.job_id])
        elif event.step:
            self._observer.probe_progress(event.worker, *event.step)
        elif event.point:
            self._journal.add_point(event.job_id, event.point, self._metric_name)
        elif event.outcome:
            self._journal.add_outcome(event.outcome)
            self._note_failure(event.outcome)
            left.discard(event.job_id)
            points = self.evidence.curves.get(event.job_id, Curve()).points
            self._observer.probe_finished(
                event.worker,
                contestant.title,
                contestant.learning_rate,
                points[-1].eval_loss if points else None,
                points[-1].metric if points else None,
                event.outcome.status,
            )

    def _make_job(self, id: str, stop_step: int) -> ProbeJob:
        contestant = self._contestants[id]
        start_step = self._last_step(id)
        return ProbeJob(
            id=id,
            method=contestant.method,
            learning_rate=contestant.learning_rate,
            peft_config=contestant.peft_config,
            schedule=self._schedule,
            stop_step=stop_step,
            eval_steps=_eval_steps(start_step, stop_step),
        )

    def _stop_step(self, fraction: float) -> int:
        return max(1, round(fraction * self._schedule.total_steps))

    def _last_step(self, id: str) -> int:
        curve = self.evidence.curves.get(id)
        return curve.last_step if curve else 0

    def _has_failed(self, id: str) -> bool:
        return id in self.evidence.failed

    def _objections(self) -> dict[str, str]:
        latest = {id: self._objection_to(outcomes[-1]) for id, outcomes in self.evidence.outcomes.items()}
        return {id: reason for id, reason in latest.items() if reason}

    def _failures(self) -> dict[str, str]:
        return {id: outcome.reason for id, outcome in self.evidence.failed.items()}

    def _note_failure(self, outcome: ProbeOutcome) -> None:
        if outcome.status in ("diverged", "out of memory", "ineffective", "failed"):
            self.evidence.failed[outcome.id] = outcome


def _eval_steps(start_step: int, stop_step: int) -> tuple[int, ...]:
    if stop_step - start_step < STEPS_WORTH_A_MIDPOINT:
        return (stop_step,)
    return ((start_step + stop_step) // 2, stop_step)
