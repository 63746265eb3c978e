"""The race policy: who goes on, and who leaves and why."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.schema import Curve, CurvePoint
from probes.racing.race import LEFT_ITS_PLACE, Race, at_step, fall_per_doubling, recent_loss
from tests.probes.races import curve, drive, entry, plan


def test_the_best_go_on_and_the_others_have_a_reason():
    race = Race(plan([entry("a"), entry("b"), entry("c")]))
    rungs = drive(race, {"a@0.0001": 1.0, "b@0.0001": 1.5, "c@0.0001": 2.0})
    assert rungs == [{"a@0.0001", "b@0.0001", "c@0.0001"}, {"a@0.0001", "b@0.0001"}, {"a@0.0001"}]
    assert race.finalists == ("a@0.0001",)
    assert race.decisions[0].left == {"c@0.0001": "1.000 behind a at step 5"}
    titled = Race(plan([replace(entry("a"), title="Alpha"), entry("b"), entry("c")]))
    drive(titled, {"a@0.0001": 1.0, "b@0.0001": 1.5, "c@0.0001": 2.0})
    assert titled.decisions[0].left == {"c@0.0001": "1.000 behind Alpha at step 5"}
    assert [d.fraction for d in race.decisions] == [0.05, 0.1, 1.0]


def test_who_is_as_good_as_the_leader_is_not_said_to_be_behind():
    race = Race(plan([entry("a"), entry("b"), entry("c")]))
    drive(race, dict.fromkeys(("a@0.0001", "b@0.0001", "c@0.0001"), 1.0))
    assert race.decisions[0].left == {"c@0.0001": "no better than a at step 5"}


def test_each_method_keeps_its_best_learning_rate_and_early_in_the_run_the_next_lower_one():
    """Short probes favour rates that are too high: the next lower one is not beaten yet, a higher one is."""
    entries = [entry(m, rate) for m in "ab" for rate in (1e-5, 1e-4, 1e-3)]
    race = Race(plan(entries, fractions=(0.05, 0.1, 1.0), keep=(4, 4)))
    losses = {"a@1e-05": 2.0, "a@0.0001": 1.0, "a@0.001": 0.5, "b@1e-05": 2.0, "b@0.0001": 1.1, "b@0.001": 3.0}
    rungs = drive(race, losses)
    assert rungs[1] == {"a@0.001", "a@0.0001", "b@0.0001", "b@1e-05"}
    assert rungs[2] == {"a@0.001", "b@0.0001"}
    assert race.decisions[0].left["b@0.001"] == "learning rate 0.0001 does better: 1.100 against 3.000 at step 5"
    assert race.decisions[1].left["a@0.0001"] == "learning rate 0.001 does better: 0.500 against 1.000 at step 10"


def test_a_frugal_candidate_stays_for_the_frontier():
    names, losses = "abcde", {f"{m}@0.0001": 1 + i / 10 for i, m in enumerate("abcde")}
    frugal = [entry(m, peak=5 if m == "e" else 20) for m in names]
    assert drive(Race(plan(frugal, keep=(4, 1))), losses)[1] == {f"{m}@0.0001" for m in "abce"}
    same_memory = [entry(m, peak=20) for m in names]
    assert drive(Race(plan(same_memory, keep=(4, 1))), losses)[1] == {f"{m}@0.0001" for m in "abcd"}


def test_the_best_are_trained_first_for_time_may_run_out_on_the_way():
    entries = [entry("a", 1e-4), entry("b", 1e-4), entry("a", 1e-3), entry("b", 1e-3)]
    race = Race(plan(entries, keep=(4, 4)))
    losses = {"a@0.0001": 2.0, "b@0.0001": 1.9, "a@0.001": 1.5, "b@0.001": 1.4}
    observed = {job.id: curve(losses[job.id]) for job in race.next_jobs({}, {})}
    ids = [job.id for job in race.next_jobs(observed, {})]
    assert ids[:2] == ["b@0.001", "a@0.001"]


def test_the_reference_stays_as_long_as_the_plan_says():
    entries = [entry("a"), entry("b"), entry("lora", 1e-4), entry("lora", 1e-3)]
    losses = {"a@0.0001": 1.0, "b@0.0001": 1.1, "lora@0.0001": 2.0, "lora@0.001": 3.0}
    rungs = drive(Race(plan(entries, reference_rungs=2)), losses)
    assert rungs[1:] == [{"a@0.0001", "b@0.0001", "lora@0.0001"}, {"a@0.0001"}]


def test_the_reference_is_the_first_to_come_back_unless_a_rate_of_it_is_left():
    entries = [entry("a"), entry("b"), entry("c"), entry("lora", 1e-4), entry("lora", 1e-3)]
    losses = {"a@0.0001": 1.0, "b@0.0001": 1.1, "c@0.0001": 1.2, "lora@0.001": 2.0, "lora@0.0001": 3.0}
    drive(race := Race(plan(entries, keep=(3, 1), reference_rungs=2)), losses)
    assert race.beaten == ("lora@0.001", "b@0.0001", "c@0.0001", "lora@0.0001")
    drive(race := Race(plan(entries, keep=(3, 1), reference_rungs=3)), losses)
    assert race.beaten == ("b@0.0001", "c@0.0001", "lora@0.0001")


def test_failures_leave_with_their_reason_and_are_not_asked_for_again():
    race = Race(plan([entry("a"), entry("b")]))
    rungs = drive(race, {"a@0.0001": 1.0, "b@0.0001": 0.5}, failed={"b@0.0001": "out of memory"})
    assert rungs == [{"a@0.0001"}] * 3
    assert race.decisions[0].left == {"b@0.0001": "out of memory"}


def test_a_race_cut_short_in_its_first_rung_has_eliminated_nobody():
    race = Race(plan([entry("a"), entry("b")]))
    race.next_jobs({}, {})
    assert race.finalists == ("a@0.0001", "b@0.0001")


def test_a_race_that_everybody_leaves_ends():
    race = Race(plan([entry("a"), entry("b")]))
    race.next_jobs({}, {})
    assert race.next_jobs({}, {"a@0.0001": "diverged"}) == []
    assert race.decisions[0].left == {"a@0.0001": "diverged", "b@0.0001": "no finite loss"}
    assert race.finalists == () and len(race.decisions) == 1
    assert race.next_jobs({}, {}) == []  # asking again changes nothing


def test_candidates_are_compared_at_equal_steps():
    """One was trained further by an interrupted race: its later, lower loss must not count yet."""
    race = Race(plan([entry("a"), entry("b")], keep=(1, 1)))
    race.next_jobs({}, {})
    jobs = race.next_jobs({"a@0.0001": curve(2.0, 0.1), "b@0.0001": curve(1.0)}, {})
    assert [job.id for job in jobs] == ["b@0.0001"]


@pytest.mark.parametrize(
    ("steps", "loss"),
    [((10, 20), 2.0), ((5, 20), 1.5), ((20, 40), 2.0), ((5,), 2.0)],
    ids=["measured there", "before and after", "only later", "only before"],
)
def test_a_race_with_other_rungs_left_a_loss_near_the_step(steps, loss):
    """Losses of 2.0 and then 1.0, at these steps: half way in the log of the steps they are 1.5."""
    measured = Curve(points=tuple(CurvePoint(step=s, eval_loss=x) for s, x in zip(steps, (2.0, 1.0), strict=False)))
    seen = at_step(measured, 10)
    assert seen.last_step == min(10, steps[-1]) and seen.points[-1].eval_loss == pytest.approx(loss)
    assert seen.points[-1].train_loss is None


def test_who_still_falls_steeply_is_said_not_to_have_converged():
    race = Race(plan([entry("a"), entry("b")], keep=(1, 1)))
    race.next_jobs({}, {})
    race.next_jobs({"a@0.0001": curve(1.01, 1.0), "b@0.0001": curve(3.0, 1.2)}, {})
    assert race.decisions[0].left["b@0.0001"].endswith("not converged within the budget")


def test_the_recent_loss_is_held_out_where_there_is_one():
    points = [CurvePoint(step=s, train_loss=0.1, eval_loss=float(s)) for s in (10, 91, 95, 100)]
    assert recent_loss(Curve(points=points), entry("a")) == pytest.approx((91 + 95 + 100) / 3)
    trained = Curve(points=(CurvePoint(step=10, train_loss=0.4),))
    assert recent_loss(trained, entry("a")) == 0.4
    assert recent_loss(Curve(), entry("a")) == math.inf


LOSSES = st.one_of(st.floats(0.1, 10), st.sampled_from([math.nan, math.inf, -math.inf]))


@given(st.lists(st.tuples(LOSSES, st.integers(1, 5)), min_size=1, max_size=12), st.data())
def test_what_is_not_finite_leaves_and_the_order_of_entries_does_not_matter(rows, data):
    entries = [entry(f"m{i:02}", peak=peak) for i, (_, peak) in enumerate(rows)]
    values = {e.id: score for e, (score, _) in zip(entries, rows, strict=True)}
    losses = dict.fromkeys(values, 1.0)
    results = []
    for order in (entries, data.draw(st.permutations(entries))):
        race = Race(plan(order, keep=(4, 2)), score=lambda curve, entry: values[entry.id])
        drive(race, losses)
        results.append(race)
    finite = [id for id, value in values.items() if math.isfinite(value)]
    for race in results:
        first = race.decisions[0]
        assert {id for id, why in first.left.items() if why == "no finite loss"} == set(values) - set(finite)
        assert set(first.kept) | set(first.left) == set(first.entered) == set(values)
        assert len(first.kept) == min(4, len(finite)) and set(race.finalists) <= set(finite)
        if finite:
            assert race.finalists[0] == min(finite, key=lambda id: (values[id], id))
    assert [d.kept for d in results[0].decisions] == [d.kept for d in results[1].decisions]
    assert [d.left for d in results[0].decisions] == [d.left for d in results[1].decisions]


@pytest.mark.parametrize(
    ("peaks", "fourth"),
    [
        ({"c": 4, "e": 5}, "e"),  # c alone has less loss and no more memory, of d all three have
        ({"c": 4, "e": 5, "f": None}, "e"),  # unknown memory is no small one
        ({"b": 4, "c": 4, "e": 5}, "d"),  # two have: too far from the frontier
        ({"a": 12, "b": 12, "e": 5}, "e"),  # none has; of d one
    ],
)
def test_every_fourth_place_is_of_the_frontier(peaks, fourth):
    entries = [entry(m, peak=peaks.get(m, 10)) for m in "abcdef"]
    race = Race(plan(entries, fractions=(0.1, 1.0), keep=(4,)))
    drive(race, {e.id: 1 + i / 10 for i, e in enumerate(entries)})
    assert {id[0] for id in race.decisions[0].kept} == {"a", "b", "c", fourth}


def test_a_loss_falls_by_so_much_per_doubling():
    points = [CurvePoint(step=step, eval_loss=loss) for step, loss in ((0, 4.0), (10, 2.0), (40, 1.0))]
    assert fall_per_doubling(Curve(points=tuple(points))) == pytest.approx(0.5)
    assert fall_per_doubling(Curve(points=tuple(points[:2]))) == 0


def test_who_falls_no_faster_than_the_leader_is_not_said_to_catch_up():
    entries = [entry("a"), entry("b"), entry("c")]
    race = Race(plan(entries, fractions=(0.1, 1.0), keep=(1,)))
    race.next_jobs({}, {})
    observed = {"a@0.0001": curve(2.0, 1.0), "b@0.0001": curve(2.3, 1.3), "c@0.0001": curve(3.9, 1.4)}
    race.next_jobs(observed, {})
    left = race.decisions[0].left
    assert "falling faster" not in left["b@0.0001"] and "falling faster" in left["c@0.0001"]


def test_one_without_a_point_does_not_cut_the_others():
    race = Race(plan([entry("a"), entry("b")], fractions=(0.1, 1.0), keep=(2,)))
    race.next_jobs({}, {})
    race.next_jobs({"a@0.0001": curve(1.0), "b@0.0001": Curve()}, {})
    assert race.decisions[0].kept == ("a@0.0001",) and race.decisions[0].left == {"b@0.0001": "no finite loss"}


def test_what_is_measured_for_comparison_goes_on_where_all_others_do():
    """However well it does, and though it would be on the frontier."""
    entries = [replace(entry("full", peak=1), reference_only=True), entry("a"), entry("b"), entry("c")]
    losses = {"full@0.0001": 0.5, "a@0.0001": 1.0, "b@0.0001": 1.1, "c@0.0001": 1.2}
    race = Race(plan(entries, fractions=(0.05, 0.1, 0.2), keep=(4, 3)))
    assert drive(race, losses) == [{*losses}, {*losses}, {"a@0.0001", "b@0.0001", "c@0.0001"}]
    assert race.decisions[1].left == {"full@0.0001": LEFT_ITS_PLACE}
