"""What was measured is kept, whatever happens, and a race that is resumed ends as an undisturbed one."""

from dataclasses import replace

import pytest

from probes.executors.base import Event
from probes.racing.journal import Journal
from probes.racing.observer import Observer
from tests.probes.conducting import ENTRIES, NAMES, PLAN, SHORT, SLOWER_THAN_PLANNED, FakeExecutor, conduct


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
    assert [(job.id, job.stop_step) for job in executor.jobs][:3] == [("a", 50), ("b", 50), ("a", 100)]


def test_who_comes_back_is_decided_once(tmp_path):
    path, plan = tmp_path / "journal.jsonl", replace(PLAN, budget_s=400.0)
    undisturbed, race = conduct(tmp_path / "other.jsonl", FakeExecutor(step_s=1.0), plan=plan)
    stops = FakeExecutor(lambda job: KeyboardInterrupt() if (job.id, job.stop_step) == ("c", 100) else "finished", 1.0)
    conduct(path, stops, plan=plan)
    again, resumed = conduct(path, executor := FakeExecutor(step_s=9.0), plan=plan, resume=True)
    assert [(job.id, job.start_step, job.stop_step) for job in executor.jobs] == [("c", 10, 100)]
    assert again.curves == undisturbed.curves and resumed.plan == race.plan


def test_a_cut_is_decided_once(tmp_path):
    path = tmp_path / "journal.jsonl"
    stops = FakeExecutor(lambda job: KeyboardInterrupt() if job.stop_step > 10 else "finished", step_s=1.0)
    conduct(path, stops, plan=SLOWER_THAN_PLANNED)
    _, resumed = conduct(path, again := FakeExecutor(step_s=0.1), plan=SLOWER_THAN_PLANNED, resume=True)
    assert resumed.plan.fractions[:2] == pytest.approx((0.1, 0.27))
    assert [job.stop_step for job in again.jobs[:3]] == [27, 27, 27]


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
