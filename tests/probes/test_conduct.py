"""The conductor keeps what was measured, whatever happens to workers, clock and user."""

import time
from dataclasses import replace

import pytest

from knowledge.schema import CurvePoint
from probes.conduct import Conductor, Contestant, WorkerFailed, await_baseline
from probes.executors.base import Event
from probes.journal import Journal
from probes.observer import Observer
from probes.plan import Entry, RacePlan
from probes.race import Race
from probes.schema import Baseline, ProbeOutcome, Schedule

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


def test_survivors_go_on_and_the_rest_is_left_alone(tmp_path):
    executor = FakeExecutor()
    evidence, race = conduct(tmp_path / "journal.jsonl", executor)
    assert [(job.id, job.stop_step) for job in executor.jobs] == [
        *((name, 10) for name in NAMES),
        *(("a", 50), ("b", 50)),
        ("a", 100),
    ]
    assert race.finalists == ("a",)
    assert [rung["steps"] for rung in evidence.rungs] == [10, 50, 100]
    assert executor.jobs[4].eval_steps == (30, 50)  # long stretches are evaluated half way as well
    assert executor.jobs[0].eval_steps == (10,)


def test_what_an_earlier_race_measured_at_other_steps_is_compared_all_the_same(tmp_path):
    """The earlier race measured a and b at 9 and went on with a; of c and d, which are new, a is the best still."""
    early = replace(PLAN, entries=ENTRIES[:2], fractions=(0.09, 0.18), keep=(1,), budget_s=1.0)
    conduct(tmp_path / "journal.jsonl", FakeExecutor(), plan=early)
    executor = FakeExecutor()
    _, race = conduct(tmp_path / "journal.jsonl", executor, resume=True)
    assert [(job.id, job.start_step) for job in executor.jobs[:3]] == [("b", 9), ("c", 0), ("d", 0)]
    assert race.decisions[0].kept == ("a", "b") and race.finalists == ("a",)


def test_a_race_that_goes_on_with_fewer_workers_has_not_used_more_of_its_budget(tmp_path):
    """40 seconds of four workers were 10 by the clock."""
    plan = replace(PLAN, fractions=(0.1, 0.2, 0.4), budget_s=60.0)
    many = FakeExecutor(lambda job: KeyboardInterrupt() if job.stop_step > 10 else "finished", step_s=1.0)
    many.workers = 4
    conduct(tmp_path / "journal.jsonl", many, plan=plan)
    with Journal(tmp_path / "journal.jsonl", "fingerprint", resume=True) as journal:
        assert journal.probing_s == 10
    _, race = conduct(tmp_path / "journal.jsonl", FakeExecutor(step_s=1.0), plan=plan, resume=True)
    assert race.plan.fractions[:3] == plan.fractions


def test_what_an_earlier_plan_decided_is_not_decided_for_a_longer_one(tmp_path):
    small = replace(PLAN, budget_s=42.0)
    evidence, _ = conduct(tmp_path / "journal.jsonl", FakeExecutor(step_s=1.0), plan=small)
    assert [rung["steps"] for rung in evidence.rungs] == [10], "it has no time for more"
    with Journal(tmp_path / "journal.jsonl", "fingerprint", resume=True) as journal:
        before_s = journal.probing_s
    large = replace(PLAN, budget_s=300.0)
    executor = FakeExecutor(step_s=1.0)
    evidence, _ = conduct(tmp_path / "journal.jsonl", executor, plan=large, resume=True, probed_before_s=before_s)
    assert [(job.id, job.stop_step) for job in executor.jobs] == [("a", 50), ("b", 50), ("a", 100)]


SHORT = RacePlan(ENTRIES, fractions=(0.1, 0.2), keep=(3,), budget_s=200.0)


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        (1.0, [("a", 85), ("b", 85)]),  # 70 s are spent; two would take 160 of the 130 s that are left to the end
        (0.5, [("a", 100), ("b", 100), ("c", 100)]),
        (2.4, [("a", 27), ("b", 27)]),
        (2.8, []),
    ],
)
def test_what_is_left_of_the_budget_takes_finalists_further(tmp_path, step_s, expected):
    evidence, race = conduct(tmp_path / "journal.jsonl", executor := FakeExecutor(step_s=step_s), plan=SHORT)
    assert [(job.id, job.stop_step) for job in executor.jobs[7:]] == expected
    assert [rung["steps"] for rung in evidence.rungs] == [10, 20, *({stop for _, stop in expected})]
    assert race.finalists == tuple(name for name, _ in expected or (("a", 0), ("b", 0), ("c", 0)))


@pytest.mark.parametrize(
    ("fractions", "budget_s", "steps", "finalists"),
    [
        ((0.1, 0.996), 311.0, [10, 100], ("a", "b", "c")),  # two could go from 99.6 % to the end, which they are at
        ((0.01, 0.5), 5.2, [1], NAMES),  # three could go to 1.4 %, which is the first step as well
    ],
)
def test_a_rung_without_a_step_sends_nobody_home(tmp_path, fractions, budget_s, steps, finalists):
    plan = replace(PLAN, fractions=fractions, keep=(3,), budget_s=budget_s)
    evidence, race = conduct(tmp_path / "journal.jsonl", FakeExecutor(step_s=1.0), plan=plan)
    assert [rung["steps"] for rung in evidence.rungs] == steps
    assert race.finalists == finalists


SLOWER_THAN_PLANNED = RacePlan(ENTRIES, fractions=(0.1, 0.5, 1.0), keep=(3, 1), budget_s=100.0)


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        (0.4, [("a", 50), ("b", 50), ("c", 50), ("a", 100)]),
        (1.0, [("a", 30), ("b", 30), ("c", 30)]),  # 40 s are spent: three come 20 steps further in 60
        (2.0, [("a", 13), ("b", 13), ("c", 13)]),
        (2.2, [("a", 13), ("b", 13)]),  # 12 s are left, and a step or two would be no comparison
        (2.4, []),
    ],
)
def test_a_rung_that_cannot_end_in_time_is_cut(tmp_path, step_s, expected):
    executor = FakeExecutor(step_s=step_s)
    evidence, _ = conduct(tmp_path / "journal.jsonl", executor, plan=SLOWER_THAN_PLANNED)
    assert [(job.id, job.stop_step) for job in executor.jobs[4:]] == expected
    assert not evidence.out_of_time


def test_a_rung_is_not_cut_for_those_who_have_failed(tmp_path):
    """32 of 100 seconds are spent: two come from 10 to 50 % in 64, for the three that were planned it would take 96."""
    executor = FakeExecutor(lambda job: "diverged" if job.id in "cd" else "finished", step_s=0.8)
    conduct(tmp_path / "journal.jsonl", executor, plan=SLOWER_THAN_PLANNED)
    assert [(job.id, job.stop_step) for job in executor.jobs[4:6]] == [("a", 50), ("b", 50)]


def test_a_cut_is_decided_once(tmp_path):
    path = tmp_path / "journal.jsonl"
    stops = FakeExecutor(lambda job: KeyboardInterrupt() if job.stop_step > 10 else "finished", step_s=1.0)
    conduct(path, stops, plan=SLOWER_THAN_PLANNED)
    _, resumed = conduct(path, again := FakeExecutor(step_s=0.1), plan=SLOWER_THAN_PLANNED, resume=True)
    assert resumed.plan.fractions[:2] == pytest.approx((0.1, 0.3))
    assert [job.stop_step for job in again.jobs[:3]] == [30, 30, 30]


def test_what_was_found_to_fit_is_not_doubted_when_the_race_is_resumed(tmp_path):
    path = tmp_path / "journal.jsonl"
    stops = FakeExecutor(lambda job: KeyboardInterrupt() if job.stop_step > 10 else "finished", step_s=0.4)
    conduct(path, stops, plan=SLOWER_THAN_PLANNED)
    conduct(path, again := FakeExecutor(step_s=5.0), plan=SLOWER_THAN_PLANNED, resume=True, deadline_s=30.0)
    assert [job.stop_step for job in again.jobs[:3]] == [50, 50, 50]


def test_how_far_finalists_go_is_decided_once(tmp_path):
    path = tmp_path / "journal.jsonl"
    _, undisturbed = conduct(path, FakeExecutor(step_s=1.0), plan=SHORT)
    resumed = conduct(path, executor := FakeExecutor(step_s=0.1), plan=SHORT, resume=True)[1]
    assert executor.jobs == []
    assert resumed.plan == undisturbed.plan != SHORT
    unlike = tmp_path / "other.jsonl"
    conduct(unlike, FakeExecutor(step_s=2.8), plan=SHORT)
    assert conduct(unlike, FakeExecutor(step_s=0.1), plan=SHORT, resume=True)[1].plan == SHORT


@pytest.mark.parametrize("status", ["diverged", "out of memory", "ineffective", "failed"])
def test_a_failed_candidate_leaves_and_the_next_takes_its_place(tmp_path, status):
    evidence, race = conduct(tmp_path / "journal.jsonl", FakeExecutor(lambda j: status if j.id == "a" else "finished"))
    assert evidence.failed["a"].status == status
    assert race.finalists == ("b",)
    assert race.decisions[0].left["a"] == "why"


def test_a_candidate_that_is_objected_to_goes_no_further_though_nothing_failed(tmp_path):
    evidence, race = conduct(
        tmp_path / "journal.jsonl",
        executor := FakeExecutor(),
        objection_to=lambda outcome: "too much" if outcome.id == "a" else None,
    )
    assert [job.id for job in executor.jobs if job.stop_step > 10] == ["b", "c", "b"]
    assert race.decisions[0].left["a"] == "too much"
    assert evidence.failed == {}


def test_the_end_of_the_budget_ends_the_race_with_what_there_is(tmp_path):
    executor = FakeExecutor(lambda job: "hangs" if job.id == "c" else "finished")
    evidence, _ = conduct(tmp_path / "journal.jsonl", executor, deadline_s=0.3)
    assert evidence.out_of_time
    assert executor.cancelled
    assert set(evidence.curves) == {"a", "b"}


def test_a_budget_that_is_over_before_anything_is_evaluated_waits_for_the_first(tmp_path):
    strict, _ = conduct(tmp_path / "strict.jsonl", FakeExecutor(), deadline_s=0.0)
    assert strict.out_of_time and len(strict.outcomes) <= 1
    alone = FakeExecutor(lambda job: "hangs" if job.id == "a" else "finished")
    nothing, _ = conduct(tmp_path / "nothing.jsonl", alone, deadline_s=0.0, grace_s=0.2)
    assert nothing.out_of_time and not nothing.curves and alone.cancelled
    waited, _ = conduct(tmp_path / "waited.jsonl", FakeExecutor(), deadline_s=0.0, grace_s=100.0)
    assert waited.out_of_time and set(waited.curves) == {"a"}, "and for no other"


def test_what_an_earlier_race_measured_of_others_is_no_answer_of_this_one(tmp_path):
    """A budget that is over waits for the first of this race, as it did for the first of the earlier one."""
    of_a, of_b = (replace(PLAN, entries=(entry,)) for entry in ENTRIES[:2])
    conduct(tmp_path / "journal.jsonl", FakeExecutor(), plan=of_a)
    settings = {"plan": of_b, "names": ("b",), "resume": True, "deadline_s": 0.0, "grace_s": 100.0}
    evidence, _ = conduct(tmp_path / "journal.jsonl", FakeExecutor(), **settings)
    assert evidence.done_step("b") == 10


def test_ctrl_c_keeps_what_was_measured_and_a_resumed_race_trains_only_the_rest(tmp_path):
    path = tmp_path / "journal.jsonl"
    undisturbed, _ = conduct(tmp_path / "other.jsonl", FakeExecutor())
    evidence, _ = conduct(path, FakeExecutor(lambda j: KeyboardInterrupt() if j.id == "c" else "finished"))
    assert evidence.interrupted
    again = FakeExecutor()
    resumed, race = conduct(path, again, resume=True)
    assert [job.id for job in again.jobs] == ["c", "d", "a", "b", "a"]
    assert race.finalists == ("a",)
    assert resumed.curves == undisturbed.curves


def test_a_resumed_race_tells_what_need_not_be_done_again(tmp_path):
    """Else those that are new would lead in the display, whoever is ahead of them."""

    class Noting(Observer):
        def __init__(self):
            self.told = []

        def probe_known(self, title, learning_rate, eval_loss, metric, step):
            self.told.append((title, step, eval_loss))

    path = tmp_path / "journal.jsonl"
    conduct(path, FakeExecutor(), plan=replace(PLAN, entries=ENTRIES[:2]))
    noting = Noting()
    conduct(path, FakeExecutor(), resume=True, observer=noting)
    assert noting.told[:2] == [("A", 10, 1.99), ("B", 10, pytest.approx(2.09))]
    assert ("A", 50, 1.95) in noting.told and not any(title in ("C", "D") for title, *_ in noting.told)


def test_a_failure_is_remembered_when_the_race_is_resumed(tmp_path):
    path = tmp_path / "journal.jsonl"
    conduct(path, FakeExecutor(lambda job: "diverged" if job.id == "a" else "finished"))
    again = FakeExecutor()
    evidence, race = conduct(path, again, resume=True)
    assert again.jobs == []
    assert evidence.failed["a"].status == "diverged"
    assert race.finalists == ("b",)


def test_workers_that_cannot_start_are_an_error_with_their_words():
    class Broken(FakeExecutor):
        def events(self, timeout_s):
            yield Event(0, fatal="no such model")

    with pytest.raises(WorkerFailed, match="no such model"):
        await_baseline(Broken())


def test_the_first_baseline_is_taken_and_what_it_waits_for_is_told():
    class Ready(FakeExecutor):
        def events(self, timeout_s):
            yield Event(0, waiting="the place is taken")
            yield Event(1, baseline=Baseline(eval_loss=2.0, metric=0.1, load_s=1, eval_s=1, eval_tokens=5))

    said = []
    assert await_baseline(Ready(), said.append).eval_loss == 2.0
    assert said == ["the place is taken"]


def test_a_model_that_is_never_loaded_is_not_waited_for_beyond_twice_the_budget():
    class Silent(FakeExecutor):
        def events(self, timeout_s):
            yield from ()

    with pytest.raises(WorkerFailed, match="larger --budget"):
        await_baseline(Silent(), until=time.monotonic() + 0.01)


def test_an_accident_to_a_worker_changes_nothing(tmp_path):
    undisturbed, _ = conduct(tmp_path / "undisturbed.jsonl", FakeExecutor())
    accidents = ["a"]
    executor = FakeExecutor(lambda job: "lost" if job.id in accidents and not accidents.clear() else "finished")
    disturbed, race = conduct(tmp_path / "journal.jsonl", executor)
    assert [job.id for job in executor.jobs[:5]] == ["a", "b", "c", "d", "a"]
    assert race.finalists == ("a",)
    assert disturbed.curves == undisturbed.curves
    assert disturbed.failed == {}


def test_a_candidate_whose_workers_keep_dying_leaves_and_gets_another_chance_when_the_race_is_resumed(tmp_path):
    path = tmp_path / "journal.jsonl"
    disturbed, race = conduct(path, executor := FakeExecutor(lambda job: "lost" if job.id == "a" else "finished"))
    assert [job.id for job in executor.jobs].count("a") == 2
    assert disturbed.failed["a"].worker_lost
    assert race.finalists == ("b",)
    resumed, race = conduct(path, again := FakeExecutor(), resume=True)
    assert [(job.id, job.stop_step) for job in again.jobs] == [("a", 10), ("a", 50), ("a", 100)]
    assert race.finalists == ("a",)
    assert resumed.failed == {}


def test_who_runs_out_of_memory_is_tried_once_more_in_parts_and_stays_in_parts(tmp_path):
    path = tmp_path / "journal.jsonl"
    executor = FakeExecutor(lambda j: "out of memory" if j.id == "a" and j.micro_batches == 1 else "finished")
    evidence, race = conduct(path, executor, batch_size=8)
    assert [(j.stop_step, j.micro_batches) for j in executor.jobs if j.id == "a"] == [
        (10, 1),
        (10, 2),
        (50, 2),
        (100, 2),
    ]
    assert [o.status for o in evidence.outcomes["a"]] == ["out of memory", *["finished"] * 3]
    assert race.finalists == ("a",)
    assert evidence.failed == {}


def test_who_runs_out_of_memory_in_parts_as_well_is_out(tmp_path):
    path = tmp_path / "journal.jsonl"
    executor = FakeExecutor(lambda job: "out of memory" if job.id == "a" else "finished")
    evidence, race = conduct(path, executor, batch_size=8)
    assert [j.micro_batches for j in executor.jobs if j.id == "a"] == [1, 2]
    assert evidence.failed["a"].status == "out of memory"
    assert race.finalists == ("b",)
    again = FakeExecutor()
    conduct(path, again, resume=True, batch_size=8)
    assert again.jobs == []


def cut_after(path, records, target):
    """The journal as it would be had the race been killed after so many records."""
    target.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:records]))
    return target


@pytest.mark.parametrize("fails", [{}, {"a": 50}, {"b": 10}])
def test_cut_off_after_any_record_and_resumed_it_ends_as_if_undisturbed(tmp_path, fails):
    def fate(job):
        return "diverged" if fails.get(job.id) == job.stop_step else "finished"

    whole = tmp_path / "whole.jsonl"
    undisturbed, race = conduct(whole, FakeExecutor(fate))
    for records in range(1, len(whole.read_bytes().splitlines())):
        journal = cut_after(whole, records, tmp_path / f"cut-{records}.jsonl")
        resumed, again = conduct(journal, FakeExecutor(fate), resume=True)
        assert again.decisions == race.decisions
        assert resumed.curves == undisturbed.curves
        assert resumed.failed == undisturbed.failed
        jobs_done = {(o.id, o.last_step) for o in outcomes_in(journal)}
        assert len(jobs_done) == len(outcomes_in(journal))  # nothing was trained twice


def outcomes_in(path):
    with Journal(path, "fingerprint", resume=True) as journal:
        return [o for outcomes in journal.outcomes.values() for o in outcomes]


def test_a_full_disk_ends_the_race_with_what_there_is(tmp_path):
    from knowledge.errors import DiskFull

    evidence, _ = conduct(
        tmp_path / "j.jsonl", FakeExecutor(lambda j: DiskFull("no room") if j.id == "c" else "finished")
    )
    assert evidence.ended_by == "no room"
    assert set(evidence.curves) == {"a", "b"}


def test_workers_that_can_no_longer_start_end_the_race_with_what_there_is(tmp_path):
    class Dying(FakeExecutor):
        def events(self, timeout_s):
            if len(self.jobs) > len(NAMES):
                yield Event(0, fatal="no memory left")
            yield from super().events(timeout_s)

    evidence, race = conduct(tmp_path / "journal.jsonl", Dying())
    assert "no memory left" in evidence.ended_by
    assert set(evidence.curves) == set(NAMES)
    assert len(race.decisions) == 1
