"""How much losses still fall: the law of the table, and what the curves of a race add to it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from advisor.forecast.end_model import LEAST_LOSS
from advisor.forecast.fall_law import LEAST_LEFT, Law, fall_of, log_odds_of
from advisor.forecast.log_curve import LogCurve, log_curve
from advisor.forecast.loss_to_go import LossToGo, TaskToGo
from knowledge.schema import Curve, CurvePoint
from knowledge.table import shipped
from tests.advisor.curves import STEPS, curve, flattened, record, table


def falling(levels, steep: float, to_go: float) -> list[LogCurve]:
    """Curves of one task whose log losses fell by `steep` from 10 to 20 % of the run, and by `to_go` from there on."""
    return [LogCurve(np.array([0.1, 0.2, 1.0]), np.array([steep, 0.0, -to_go]) + level) for level in levels]


class TestLaw:
    def test_a_power_of_the_last_fall_is_found(self):
        tasks = [falling((0.0, 0.5), steep, 2 * steep**1.5) for steep in (0.2, 0.4, 0.8, 1.6)]
        law = Law.fit(tasks, 0.2, with_cause=True)
        for steep in (0.3, 1.2):
            assert law.further(steep, log_nats=0.0) == pytest.approx(2 * steep**1.5, rel=0.2)

    def test_where_tasks_fell_alike_falls_are_proportional(self):
        law = Law.fit([falling((0.0,), 0.3, to_go) for to_go in (0.2, 0.8)], 0.2, with_cause=True)
        assert law.power == pytest.approx(1.0) and law.further(0.3, log_nats=0.0) == pytest.approx(0.4)

    def test_of_long_texts_less_goes_than_of_short_answers(self):
        tasks = []
        for tokens, to_go in ((2, 0.8), (5, 0.5), (50, 0.15), (200, 0.08)):
            (made,) = falling((0.0,), 0.4, to_go)
            tasks.append([LogCurve(made.fractions, made.log_losses, label_mean_tokens=tokens)])
        law = Law.fit(tasks, 0.2, with_cause=True)
        assert law.nats_power < -0.3 and law.power == pytest.approx(1.0)
        short, long = (law.further(0.4, math.log(tokens)) for tokens in (3, 100))
        assert short == pytest.approx(0.65, rel=0.2) and long == pytest.approx(0.12, rel=0.2)

    def test_little_that_goes_is_known_better_than_much(self):
        """Told as an error of the log-odds: an open-ended text keeps most of its loss in any case."""
        half_widths = {
            fall: (fall_of(log_odds_of(fall) + 0.8) - fall_of(log_odds_of(fall) - 0.8)) / 2 for fall in (0.05, 0.5, 1.5)
        }
        assert half_widths[0.05] < 0.3 * half_widths[0.5] < half_widths[1.5]
        assert fall_of(log_odds_of(0.5)) == pytest.approx(0.5)

    def test_the_smallest_share_is_not_told_from_a_small_rise(self):
        assert fall_of(log_odds_of(-0.1)) < 0 < fall_of(log_odds_of(0.03))


class TestLossToGo:
    def test_a_single_task_that_was_evaluated_early_does_not_speak_for_all(self):
        """A run of one's own has the points of its probe, which may be earlier than all of the table."""
        early = record("own", 1.0, 0.3).model_copy(
            update={
                "benchmark": "own/task/era",
                "curve": Curve(points=tuple(CurvePoint(step=s, eval_loss=9 * s**-0.1) for s in (5, 10, 100, STEPS))),
            }
        )
        before, after = LossToGo(shipped()), LossToGo([*shipped(), early])
        assert after.earliest_fraction == before.earliest_fraction
        assert not after.has_falls(2 * 5 / STEPS) and after.has_falls(0.2)

    @pytest.mark.parametrize("steps", [30_000, 35_000, 100_000])
    def test_after_very_few_of_very_many_steps_a_loss_still_falls(self, steps):
        """Those steps are less than a ten-thousandth of the run."""
        losses = ((8, 2.0), (steps // 20, 1.5), (steps // 10, 1.3), (steps // 5, 1.1), (steps, 0.9))
        points = tuple(CurvePoint(step=step, eval_loss=loss) for step, loss in losses)
        changes = {"curve": Curve(points=points), "max_steps": steps}
        runs = [record(f"own{i}", 1.0, 0.3).model_copy(update={**changes, "benchmark": f"o{i}/t/e"}) for i in range(3)]
        known = log_curve(Curve(points=points[:1]), steps, 8.0)
        to_go = TaskToGo(LossToGo(runs), [known]).predict(known)
        assert to_go.expected == pytest.approx(math.log(2.0 / 0.9), rel=0.1)
        assert to_go.low <= to_go.expected < to_go.high


class TestTaskToGo:
    def task(self, *race: LogCurve, runs=None) -> TaskToGo:
        return TaskToGo(LossToGo(table() if runs is None else runs), race)

    def test_learns_how_much_further_a_curve_falls(self):
        falling = [record(f"m{i:02}", 1.0, power) for i, power in enumerate(np.linspace(0.25, 0.6, 20))]
        for power in (0.45, 0.55):  # steeper than what a flat curve is taken for
            seen = log_curve(curve(5.0, power, until=0.1), STEPS)  # another level of loss: another task
            made = self.task(seen, runs=falling).predict(seen)
            truth = power * math.log(10)
            assert made.expected == pytest.approx(truth, rel=0.1)
            assert made.low <= truth <= made.high

    def test_a_curve_that_stands_still_at_full_rates_is_expected_to_fall_when_they_decay(self):
        of_answers, of_texts = (
            LogCurve(np.array([0.05, 0.1, 0.2, 0.3]), np.log([0.58, 0.57, 0.57, 0.57]), label_mean_tokens=tokens)
            for tokens in (3, 100)
        )
        made, of_long = (TaskToGo(LossToGo(shipped()), [flat]).predict(flat) for flat in (of_answers, of_texts))
        assert 0.1 < made.expected < 0.7 and made.high > 2 * made.expected
        assert 0.02 < of_long.expected < 0.5 * made.expected

    def test_a_few_curves_tell_less_of_their_task_than_many(self):
        known = LossToGo(shipped())
        many = [LogCurve(np.array([0.1, 0.2]), np.array([0.2, 0.0]) + level) for level in np.linspace(0, 0.1, 12)]
        wide, narrow = (TaskToGo(known, race).predict(many[0]) for race in (many[:2], many))
        assert wide.half > 1.02 * narrow.half

    def test_classifications_and_texts_are_learned_apart_where_there_are_enough_of_each(self):
        runs = [
            made.model_copy(update={"task": task, "benchmark": f"{task}-{i}/model/era"})
            for task in ("causal-lm", "sequence-classification")
            for i in range(3 if task == "causal-lm" else 2)
            for made in table(2)
        ]
        assert set(LossToGo(runs, "seq2seq-lm").tasks) == {f"causal-lm-{i}/model" for i in range(3)}
        assert len(LossToGo(runs, "sequence-classification").tasks) == 5

    def test_runs_whose_rate_never_fell_teach_nothing(self):
        runs = [run.model_copy(update={"scheduler": "constant"}) for run in table(2)]
        assert (
            LossToGo(runs).tasks == {}
            and LossToGo([*runs, *shipped()]).tasks.keys() == LossToGo(shipped()).tasks.keys()
        )

    def test_who_went_a_little_less_far_is_not_forecast_by_the_table_alone(self):
        """Two that stand still, and one that left at two thirds of their way: its end follows from them."""
        known = LossToGo(shipped())
        on = [LogCurve(np.array([0.1, 0.2, 0.3]), np.log([1.0, 0.8, 0.8]) + level) for level in (0.0, 0.01)]
        left = LogCurve(np.array([0.1, 0.2]), np.log([1.0, 0.81]))
        task = TaskToGo(known, [*on, left])
        assert task.expected(left) < task.expected(on[0]) + 0.1
        assert TaskToGo(known, [left]).expected(left) > task.expected(left) + 0.03

    def test_a_finished_run_has_nothing_to_go(self):
        assert self.task().predict(log_curve(curve(1.0, 0.2), STEPS)) == (0.0, 0.0, 0.0, 0.0)

    def test_where_a_rise_is_expected_it_may_be_larger(self):
        """Of a task whose finished curves rose again, as on little data."""
        rising = Curve(points=tuple(CurvePoint(step=s, eval_loss=x) for s, x in ((20, 2.0), (40, 1.5), (200, 2.7))))
        race = [log_curve(rising, STEPS)] * 8
        to_go = TaskToGo(LossToGo(table()), race).predict(log_curve(rising.until(40), STEPS))
        assert to_go.expected < 0
        assert to_go.low < to_go.expected - 0.02 < to_go.expected < to_go.high

    def test_without_a_table_nothing_is_known(self):
        assert self.task(runs=[]).predict(log_curve(curve(1.0, 0.2, until=0.1), STEPS)).high == math.inf

    def test_those_that_went_further_show_what_is_to_come(self):
        usual = [log_curve(curve(1.0, power), STEPS) for power in (0.1, 0.2, 0.25)]
        seen = usual[1].until(0.1)
        as_usual, flat = (self.task(*race, seen) for race in (usual, map(flattened, usual)))
        assert as_usual.predict(seen).expected == pytest.approx(0.2 * math.log(10), abs=0.05)
        assert flat.predict(seen).expected < 0.1
        assert as_usual.proven_to(0.1) == 1.0 and as_usual.proven_to(0.6) is None  # nobody went twice as far

    def test_who_went_a_little_further_shows_a_part_and_is_expected_to_go_on(self):
        others = [log_curve(curve(1.0, 0.2), STEPS).until(0.2) for _ in range(3)]
        seen = others[0].until(0.1)
        task = self.task(*others, seen)
        assert task.proven_to(0.1) == 0.2
        assert task.average(0.1) == pytest.approx(0.2 * math.log(2) + task.average(0.2), abs=0.05)

    def test_who_is_behind_early_is_expected_to_end_nearer_to_the_others(self):
        """As real runs do, whose ends lie closer together than their beginnings."""
        known = LossToGo(shipped())
        front, behind = (LogCurve(np.array([0.02, 0.05]), np.log([2.0, loss])) for loss in (1.0, 2.0))
        task = TaskToGo(known, [front, behind])
        distance = math.log(2.0) + task.expected(front) - task.expected(behind)
        assert 0.2 * math.log(2.0) < distance < 0.7 * math.log(2.0)

    def test_distances_stay_where_finished_curves_of_the_task_show_it(self):
        shares = np.array([0.05, 0.1, 1.0])
        finished = [LogCurve(shares, np.log([1.1, 1.0, 0.5]) + level) for level in np.linspace(0, 2, 8)]
        seen = [finished[0].until(0.1), finished[7].until(0.1)]
        by_table, shown = (TaskToGo(LossToGo(shipped()), [*race, *seen]) for race in ((), finished))
        gap = lambda task: abs(task.expected(seen[1]) - task.expected(seen[0]))  # noqa: E731
        assert gap(shown) < 0.3 * gap(by_table)

    def test_one_that_explodes_shows_nothing_of_its_task_unless_all_do(self):
        usual = [log_curve(curve(1.0, power), STEPS).until(0.5) for power in (0.1, 0.2, 0.25)]
        seen = log_curve(curve(1.0, 0.2), STEPS).until(0.1)
        wild = LogCurve(usual[0].fractions, np.append(usual[0].log_losses[:-1], math.log(5.0)))
        assert wild.has_exploded and not usual[0].has_exploded
        assert self.task(*usual, wild, seen).average(0.1) == self.task(*usual, seen).average(0.1)
        assert self.task(wild, wild).average(0.1) < 0

    def test_real_runs_beside_it_bring_a_forecast_nearer(self):
        """Six runs of a task went to the end, the others to a tenth of it, and the table does not know the task."""
        known = LossToGo(r for r in shipped() if "spell_backward" not in r.benchmark)
        runs = [log_curve(r.curve, r.max_steps) for r in shipped() if "spell_backward" in r.benchmark]
        seen = [c.until(0.1) for c in runs]
        errors = {
            count: np.mean([abs(c.at(0.1) - c.at(1.0) - task.expected(c.until(0.1))) for c in runs[6:]])
            for count, task in {n: TaskToGo(known, [*runs[:n], *seen[n:]]) for n in (0, 6)}.items()
        }
        assert errors[6] < 0.7 * errors[0]

    def test_no_loss_is_expected_to_vanish_whatever_was_seen(self):
        steep = [log_curve(curve(1.0, 3.0), STEPS) for _ in range(3)]
        seen = steep[0].until(0.1)
        made = self.task(*steep, seen).predict(seen)
        assert made.low < made.expected <= -math.log(LEAST_LEFT) == pytest.approx(made.high)

    def test_a_loss_of_zero_is_a_small_one(self):
        """So is that of a classifier that is sure of every held-out row, in float32."""
        curve = log_curve(Curve(points=(CurvePoint(step=0, eval_loss=1.0), CurvePoint(step=5, eval_loss=0.0))), 10)
        assert curve.log_losses == pytest.approx([math.log(LEAST_LOSS)])
