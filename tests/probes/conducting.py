"""An executor that does each job at once, and races that it conducts."""

import time

from knowledge.schema import CurvePoint
from probes.executors.base import Event
from probes.racing.conduct import Conductor, Contestant
from probes.racing.journal import Journal
from probes.racing.observer import Observer
from probes.racing.plan import Entry, RacePlan
from probes.racing.race import Race
from probes.schema import ProbeOutcome, Schedule

STEPS = 100
NAMES = ("a", "b", "c", "d")


class FakeExecutor:
    """Does each job at once; what happens to a job is told by `fate(job)`: a status, or an exception to raise."""

    workers = 1

    def __init__(self, fate=lambda job: "finished", step_s=0.0):
        self.step_s = step_s  # what a step is said to have taken
        self.fate, self.jobs, self.queue, self.cancelled = fate, [], [], False

    def submit(self, job):
        self.jobs.append(job)
        self.queue.append(job)

    def events(self, timeout_s):
        while self.queue:
            job = self.queue.pop(0)
            fate = self.fate(job)
            if isinstance(fate, BaseException):
                raise fate
            yield Event(0, job.id, started=True)
            if fate == "hangs":
                self.queue.insert(0, job)
                return
            if fate == "lost":
                yield Event(0, job.id, outcome=ProbeOutcome(id=job.id, status="failed", reason="-9", worker_lost=True))
                continue
            if fate == "finished":
                loss = 2.0 + NAMES.index(job.id) / 10 - job.stop_step / 1000
                yield Event(0, job.id, point=CurvePoint(step=job.stop_step, eval_loss=loss))
            outcome = ProbeOutcome(
                id=job.id,
                status=fate,
                reason="why",
                first_step=job.start_step,
                last_step=job.stop_step,
                duration_s=self.step_s * (job.stop_step - job.start_step),
                micro_batches=job.micro_batches,
            )
            yield Event(0, job.id, outcome=outcome)

    def cancel(self):
        self.cancelled = True
        self.queue.clear()


ENTRIES = tuple(Entry(name, name, "low-rank", 1e-3, None, 0.5) for name in NAMES)
PLAN = RacePlan(ENTRIES, fractions=(0.1, 0.5, 1.0), keep=(2, 1), budget_s=1000.0)
SHORT = RacePlan(ENTRIES, fractions=(0.1, 0.2), keep=(3,), budget_s=200.0)
SLOWER_THAN_PLANNED = RacePlan(ENTRIES, fractions=(0.1, 0.5, 1.0), keep=(3, 1), budget_s=100.0)


def conduct(path, executor, *, plan=PLAN, names=NAMES, deadline_s=1000.0, resume=False, observer=None, **settings):
    race = Race(plan)
    contestants = [Contestant(name, name.upper(), "lora", 1e-3, None) for name in names]
    schedule = Schedule(shape="cosine", total_steps=STEPS)
    with Journal(path, "fingerprint", resume=resume) as journal:
        conductor = Conductor(
            race,
            contestants,
            schedule,
            executor,
            journal,
            observer or Observer(),
            time.monotonic() + deadline_s,
            "exact match",
            **settings,
        )
        return conductor.run(), race
