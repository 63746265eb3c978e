"""The conductor spends the budget as planned, and as measured times allow."""

from dataclasses import replace

import pytest

from probes.racing.plan import stop_step
from tests.probes.conducting import NAMES, PLAN, SHORT, SLOWER_THAN_PLANNED, FakeExecutor, conduct


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


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        (1.0, [("a", 75), ("b", 75)]),  # 70 s are spent; two would take 160 of the 130 s that are left to the end
        (0.5, [("a", 100), ("b", 100), ("c", 100)]),
        (2.4, [("a", 26), ("b", 26)]),
        (2.8, []),
    ],
)
def test_what_is_left_of_the_budget_takes_finalists_further(tmp_path, step_s, expected):
    evidence, race = conduct(tmp_path / "journal.jsonl", executor := FakeExecutor(step_s=step_s), plan=SHORT)
    assert [(job.id, job.stop_step) for job in executor.jobs[7:]] == expected
    assert [rung["steps"] for rung in evidence.rungs] == [10, 20, *({stop for _, stop in expected})]
    assert race.finalists == tuple(name for name, _ in expected or (("a", 0), ("b", 0), ("c", 0)))


@pytest.mark.parametrize(
    ("budget_s", "back"),
    [  # 40, 80 and 50 s are spent where "a" has come to the end; "b" has 50 steps to go, "c" and "d" 90
        (1000.0, ["b", "c", "d"]),
        (400.0, ["b", "c"]),
        (280.0, ["b"]),
        (200.0, []),
    ],
)
def test_where_time_is_left_who_left_comes_to_the_end_too_the_last_first(tmp_path, budget_s, back):
    plan = replace(PLAN, budget_s=budget_s)
    evidence, race = conduct(tmp_path / "journal.jsonl", executor := FakeExecutor(step_s=1.0), plan=plan)
    assert [(job.id, job.start_step) for job in executor.jobs[7:]] == [(id, 50 if id == "b" else 10) for id in back]
    assert {job.stop_step for job in executor.jobs[7:]} <= {100}
    # Half of its own way: half of the longest one would be another step once that has been gone, and the race resumed.
    assert [job.eval_steps for job in executor.jobs[7:]] == [(75 if id == "b" else 55, 100) for id in back]
    assert race.finalists == ("a",) and len(evidence.rungs) == 3 + bool(back)
    assert (race.plan.lines()[-1] == f"{len(back)} of those that had left to the end too") == bool(back)


def test_nobody_comes_back_who_failed_or_is_objected_to_or_where_the_race_has_not_come_to_the_end(tmp_path):
    fails = FakeExecutor(lambda job: "diverged" if job.id == "b" and job.stop_step == 50 else "finished", step_s=1.0)
    conduct(tmp_path / "journal.jsonl", fails, objection_to=lambda outcome: "too much" if outcome.id == "c" else None)
    assert [job.id for job in fails.jobs if job.stop_step == 100] == ["a", "d"]
    short = replace(SHORT, budget_s=130.0)
    conduct(tmp_path / "short.jsonl", executor := FakeExecutor(step_s=1.0), plan=short)
    assert "d" not in [job.id for job in executor.jobs[4:]]


def test_who_comes_back_may_be_cut_off_by_the_clock(tmp_path):
    hangs = FakeExecutor(lambda job: "hangs" if (job.id, job.stop_step) == ("c", 100) else "finished", step_s=0.001)
    evidence, race = conduct(tmp_path / "journal.jsonl", hangs, deadline_s=0.7)
    assert evidence.out_of_time and race.finalists == ("a",)
    assert [evidence.done_step(id) for id in NAMES] == [100, 100, 10, 10]


@pytest.mark.parametrize(("fraction", "eval_steps"), [(0.09, (4, 9)), (0.03, (3,))])
def test_a_single_rung_is_evaluated_half_way_too(tmp_path, fraction, eval_steps):
    """Else nothing would tell how fast the losses fall."""
    executor = FakeExecutor()
    conduct(tmp_path / "journal.jsonl", executor, plan=replace(PLAN, fractions=(fraction,), keep=()))
    assert {job.eval_steps for job in executor.jobs} == {eval_steps}


def test_a_rung_without_a_step_sends_nobody_home(tmp_path):
    """Three could go to 1.4 %, which is the first step as well."""
    plan = replace(PLAN, fractions=(0.01, 0.5), keep=(3,), budget_s=5.2)
    evidence, race = conduct(tmp_path / "journal.jsonl", FakeExecutor(step_s=1.0), plan=plan)
    assert [rung["steps"] for rung in evidence.rungs] == [1]
    assert race.finalists == NAMES


@pytest.mark.parametrize(
    ("fraction", "max_steps", "step"),
    [(1.0, 300, 300), (0.9999, 300, 299), (0.99, 20, 19), (0.5, 20, 10), (0.001, 300, 1), (0.5, 1, 1), (1.0, 1, 1)],
)
def test_only_all_of_a_run_ends_at_its_last_step(fraction, max_steps, step):
    assert stop_step(fraction, max_steps) == step


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        (0.4, [("a", 50), ("b", 50), ("c", 50), ("a", 100)]),
        (1.0, [("a", 27), ("b", 27), ("c", 27)]),  # 40 s are spent: three come 17 steps further in 51 of 60
        (2.0, [("a", 13), ("b", 13), ("c", 13)]),
        (2.1, [("a", 13), ("b", 13)]),  # 16 s are left, and a step or two would be no comparison
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


def test_a_rung_is_not_cut_for_those_who_are_objected_to(tmp_path):
    """As above: who does not go on needs no time."""
    executor = FakeExecutor(step_s=0.8)
    objection = lambda outcome: "too much" if outcome.id in "cd" else None  # noqa: E731
    conduct(tmp_path / "journal.jsonl", executor, plan=SLOWER_THAN_PLANNED, objection_to=objection)
    assert [(job.id, job.stop_step) for job in executor.jobs[4:6]] == [("a", 50), ("b", 50)]


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
