"""Predictions of the end of a run: what they rest on, their intervals, and where they say they do not know."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.conformal import LocalBound, error_bound
from advisor.end_model import Probe, features, probe_of
from advisor.local_line import LocalLine
from advisor.log_curve import LogCurve, log_curve
from advisor.loss_to_go import LEAST_LEFT, LossToGo, TaskToGo, ToGo
from advisor.predictor import Predictor
from knowledge.importers.peft_method_comparison import read
from knowledge.schema import Curve, CurvePoint, RunRecord
from knowledge.table import shipped
from tests.knowledge.suite_files import llm_run

STEPS = 1000
SHARES = np.arange(1, 21) / 20
PUBLISHED = "metamathqa/llama-3.2-3b/transformers5-cuda13.0"


def curve(start: float, power: float, until: float = 1.0, metric=None, field: str = "eval_loss") -> Curve:
    """A power law in the steps, evaluated every twentieth of the run."""
    losses = start * (SHARES * 20) ** -power
    points = [
        CurvePoint(step=round(share * STEPS), metric=metric(loss) if metric else None, **{field: loss})
        for share, loss in zip(SHARES, losses, strict=True)
        if share <= until + 1e-9
    ]
    return Curve(points=tuple(points), metric_name="accuracy")


def record(name: str, start: float, power: float) -> RunRecord:
    """A finished run of the table with such a curve."""
    made = read(llm_run({"peft_type": name.upper(), "r": 8}, experiment=name))
    return made.model_copy(update={"curve": curve(start, power, field="train_loss"), "max_steps": STEPS})


def table(count: int = 40) -> list[RunRecord]:
    """Runs of one suite whose further fall follows from the fall so far."""
    rng = np.random.default_rng(0)
    return [record(f"m{i:02}", rng.uniform(0.8, 1.2), rng.uniform(0.05, 0.3)) for i in range(count)]


def probe(curve: Curve) -> Probe:
    return Probe(curve, learning_rate=1e-4, trainable_parameters=10**6)


class TestErrorBound:
    def test_is_the_rank_of_split_conformal_prediction(self):
        assert error_bound([1, -2, 3, -4]) == 4  # rank ceil(5 * .8) = 4
        assert error_bound(range(1, 10)) == 8  # rank ceil(10 * .8) = 8

    def test_too_few_errors_say_nothing(self):
        assert error_bound([0.1, 0.1, 0.1]) == math.inf
        assert error_bound([]) == math.inf

    def test_covers_new_errors_of_any_distribution(self):
        rng = np.random.default_rng(0)
        covered = [
            abs(errors[-1]) <= error_bound(errors[:-1])
            for errors in (rng.standard_cauchy(20) for _ in range(4000))  # without mean or variance
        ]
        assert 0.78 <= np.mean(covered) <= 0.84

    def test_a_local_bound_knows_where_errors_are_small(self):
        predicted = np.concatenate([np.zeros(30), np.ones(30)]) + np.arange(60) / 1000
        bound = LocalBound(predicted, np.where(predicted < 0.5, 0.1, 5.0))
        assert bound.at(0.0) == 0.1 and bound.at(1.1) == 5.0

    def test_errors_that_are_equally_near_all_count(self):
        bound = LocalBound(np.zeros(100), np.arange(100))
        assert bound.at(0.0) == error_bound(np.arange(100))


class TestLocalLine:
    def test_follows_a_line_and_goes_on_beyond_the_data(self):
        x = np.linspace(0, 1, 50)
        line = LocalLine().fit(x, 2 * x)
        assert line.predict([0.5]) == pytest.approx([1.0], abs=0.02)
        assert line.predict([1.2])[0] > 2.0

    @given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=30), st.floats(-50, 50))
    def test_is_finite_everywhere(self, rows, where):
        x, y = np.array(rows).T
        assert np.isfinite(LocalLine().fit(x, y).predict([where])).all()

    def test_a_falling_line_never_rises(self):
        x = np.linspace(0, 1, 20)
        assert np.ptp(LocalLine(falling=True).fit(x, np.linspace(0, 1e-9, 20)).predict([0.4, 0.6])) < 1e-6
        values = LocalLine(falling=True).fit(x, x).predict([0.5, 0.5001])
        assert values[1] <= values[0] + 1e-3


class TestFeatures:
    def test_describe_the_beginning_of_a_run(self):
        made = features(probe(curve(1.0, 0.2, until=0.2, metric=lambda loss: 0.4)))
        logs = np.log([1.0, 2**-0.2, 3**-0.2, 4**-0.2])
        expected = [logs[3], logs[3], logs[3] - logs[2], 0.4, math.log(10**6), math.log(1e-4), 0.0]
        assert made == pytest.approx(expected)

    def test_need_a_loss_but_no_metric(self):
        assert features(probe(Curve())) is None
        assert math.isnan(features(probe(curve(1.0, 0.1)))[3])

    def test_a_probe_of_a_record_sees_its_beginning_only(self):
        run = table(1)[0]
        assert probe_of(run, 0.1).curve.last_step == 100
        assert probe_of(read(llm_run({"peft_type": "PREFIX_TUNING"}))).is_prompt


class TestTaskToGo:
    def task(self, *race: LogCurve, runs=None) -> TaskToGo:
        return TaskToGo(LossToGo(table() if runs is None else runs), race)

    def test_learns_how_much_further_a_curve_falls(self):
        falling = [record(f"m{i:02}", 1.0, power) for i, power in enumerate(np.linspace(0.25, 0.6, 20))]
        for power in (0.3, 0.5):
            seen = log_curve(curve(5.0, power, until=0.1), STEPS)  # another level of loss: another task
            made = self.task(seen, runs=falling).predict(seen)
            truth = power * math.log(10)
            assert made.expected == pytest.approx(truth, rel=0.1)
            assert made.low <= truth <= made.high

    def test_a_curve_that_stands_still_at_full_rates_is_expected_to_fall_when_they_decay(self):
        flat = LogCurve(np.array([0.05, 0.1, 0.2, 0.3]), np.log([0.58, 0.57, 0.57, 0.57]))
        made = TaskToGo(LossToGo(shipped()), [flat]).predict(flat)
        assert 0.1 < made.expected < 0.5 and made.high > 0.6  # OFT on the demo's data did, and fell by .67

    def test_who_went_a_little_less_far_is_not_forecast_by_the_table_alone(self):
        """Two that stand still, and one that left at two thirds of their way: its end follows from them."""
        known = LossToGo(shipped())
        on = [LogCurve(np.array([0.1, 0.2, 0.3]), np.log([1.0, 0.8, 0.8]) + level) for level in (0.0, 0.01)]
        left = LogCurve(np.array([0.1, 0.2]), np.log([1.0, 0.81]))
        task = TaskToGo(known, [*on, left])
        assert task.expected(left) < task.expected(on[0]) + 0.1
        assert TaskToGo(known, [left]).expected(left) > task.expected(left) + 0.1

    def test_a_finished_run_has_nothing_to_go(self):
        assert self.task().predict(log_curve(curve(1.0, 0.2), STEPS)) == (0.0, 0.0, 0.0, 0.0)

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
        known = LossToGo(r for r in shipped() if "metamathqa" not in r.benchmark)
        runs = [log_curve(r.curve, r.max_steps) for r in shipped() if r.benchmark == PUBLISHED]
        seen = [c.until(0.1) for c in runs]
        errors = {
            count: np.mean([abs(c.lost(0.1, 1.0) - share(task.predict(c.until(0.1)))) for c in runs[6:]])
            for count, task in {n: TaskToGo(known, [*runs[:n], *seen[n:]]) for n in (0, 6)}.items()
        }
        assert errors[6] < 0.7 * errors[0]

    def test_no_loss_is_expected_to_vanish_whatever_was_seen(self):
        steep = [log_curve(curve(1.0, 3.0), STEPS) for _ in range(3)]
        seen = steep[0].until(0.1)
        made = self.task(*steep, seen).predict(seen)
        assert made.low < made.expected <= -math.log(LEAST_LEFT) == pytest.approx(made.high)

    def test_a_measured_zero_is_no_loss(self):
        assert (
            log_curve(Curve(points=(CurvePoint(step=0, eval_loss=1.0), CurvePoint(step=5, eval_loss=0.0))), 10) is None
        )


def share(to_go: ToGo) -> float:
    """Of its loss, what a curve is expected to lose."""
    return 1 - math.exp(-to_go.expected)


def flattened(seen: LogCurve) -> LogCurve:
    """The same beginning, but nothing more happens after a tenth of the run."""
    return LogCurve(seen.fractions, np.where(seen.fractions > 0.1, seen.at(0.1), seen.log_losses))


class TestNewTask:
    def forecasts(self, curves: dict[str, Curve], **options):
        return Predictor(table()).predict({id: probe(c) for id, c in curves.items()}, STEPS, **options)

    def race(self, finalists: int, probed: float = 0.1) -> dict[str, Curve]:
        """Ten candidates after a share of the run, of which some went to the end."""
        metric = lambda loss: 0.9 - 0.3 * loss  # noqa: E731
        powers = np.linspace(0.3, 0.1, 10)
        return {
            f"c{i}": curve(2.0, power, until=1.0 if i < finalists else probed, metric=metric)
            for i, power in enumerate(powers)
        }

    def test_values_lie_in_their_intervals_near_the_truth(self):
        metric = lambda loss: 0.9 - 0.3 * loss  # noqa: E731
        starts = {f"c{i}": start for i, start in enumerate(np.linspace(1.6, 2.4, 10))}
        race = {id: curve(s, 0.2, until=1.0 if id < "c3" else 0.1, metric=metric) for id, s in starts.items()}
        for id, forecast in self.forecasts(race, metric_name="accuracy").items():
            truth = starts[id] * 20**-0.2
            assert forecast.loss.metric == "eval loss"
            assert forecast.loss.low < forecast.loss.value < forecast.loss.high
            assert forecast.loss.low <= truth <= forecast.loss.high
            assert forecast.loss.value == pytest.approx(truth, rel=0.15)
            assert forecast.metric.low <= forecast.metric.value <= forecast.metric.high
            assert forecast.metric.value == pytest.approx(0.9 - 0.3 * truth, abs=0.1)

    def test_a_finished_run_is_taken_as_measured(self):
        made = self.forecasts(self.race(3), metric_name="accuracy")["c0"]
        assert made.loss.value == pytest.approx(2.0 * 20**-0.3)
        assert made.loss.high - made.loss.low < 0.05 and not made.loss.extrapolated
        assert made.metric.value == pytest.approx(0.9 - 0.3 * made.loss.value)

    def test_short_probes_alone_are_marked(self):
        short, long = (self.forecasts(self.race(n))["c9"].loss for n in (0, 5))
        assert short.extrapolated and not long.extrapolated

    def test_candidates_are_compared_by_what_is_their_own(self):
        """Real runs of one benchmark: a common shift of all its curves is in the interval, not in the noise."""
        curves = {id: probe(c) for id, c in self.race(0).items()}
        for forecast in Predictor(shipped()).predict(curves, STEPS, "accuracy").values():
            assert 0.005 * forecast.loss.value < forecast.loss_noise < forecast.loss.high - forecast.loss.value
            assert 0.005 < forecast.metric_noise < forecast.metric.high - forecast.metric.low

    def test_who_went_less_far_than_others_is_known_less_well(self):
        curves = {id: probe(c) for id, c in self.race(0, 0.2).items()}
        alone = Predictor(shipped()).predict(curves, STEPS)
        curves["c0"] = probe(curve(2.0, 0.3, until=0.4))
        beside = Predictor(shipped()).predict(curves, STEPS)
        assert beside["c9"].loss_noise > 1.2 * alone["c9"].loss_noise
        assert beside["c0"].loss_noise < alone["c0"].loss_noise

    def test_the_further_the_probes_went_the_finer_the_comparison(self):
        noises = [
            next(f.loss_noise / f.loss.value for f in self.forecasts(self.race(0, probed)).values())
            for probed in (0.05, 0.2, 0.5)
        ]
        assert noises == sorted(noises, reverse=True) and noises[-1] < noises[0] / 2

    def test_shorter_than_all_evidence_is_marked(self):
        curves = self.race(5) | {"tiny": Curve(points=(CurvePoint(step=10, eval_loss=2.0),))}
        assert self.forecasts(curves)["tiny"].loss.extrapolated

    def test_a_fall_seen_earlier_than_the_table_begins_is_no_obstacle(self):
        """Two points within the first twentieth of the run, where no run of the table was evaluated."""
        early = Curve(points=(CurvePoint(step=10, eval_loss=2.0), CurvePoint(step=40, eval_loss=1.5)))
        loss = Predictor(shipped()).predict({"early": probe(early)}, STEPS)["early"].loss
        assert loss.extrapolated
        assert loss.low < loss.value < 1.5

    def test_what_was_not_measured_is_not_predicted(self):
        made = self.forecasts(self.race(3) | {"empty": Curve()})
        assert made["empty"].loss is None and made["empty"].metric is None
        assert made["c0"].metric is None  # no metric was asked for

    def test_a_metric_needs_enough_points_to_learn_from(self):
        few = {"c0": curve(2.0, 0.2, until=0.1, metric=lambda loss: 0.5)}
        assert self.forecasts(few, metric_name="accuracy")["c0"].metric is None

    def test_the_untuned_model_counts_as_a_point_of_the_relation(self):
        baseline = CurvePoint(step=0, eval_loss=8.0, metric=0.0)
        made = self.forecasts(self.race(0), metric_name="accuracy", baseline=baseline)
        assert all(0 <= f.metric.low <= f.metric.high <= 1 for f in made.values())

    def test_a_metric_that_nothing_has_moved_yet_may_still_rise(self):
        """Exact match is 0 after short probes of a task that is hard at first; a loss of 0 would mean 1."""
        curves = {f"c{i}": curve(3.0, 0.05 * i, until=0.1, metric=lambda _: 0.0) for i in range(7)}
        known, own = (self.forecasts(curves, metric_name=name)["c6"].metric for name in ("exact match", "own.py:score"))
        assert known.value > 0.05 and known.high > 0.2 and known.extrapolated
        assert own.value == 0  # of an own metric nothing is known where the loss is 0

    def test_the_order_of_candidates_does_not_matter(self):
        curves = self.race(3)
        backwards = dict(reversed(curves.items()))
        one = self.forecasts(curves, metric_name="accuracy")
        other = self.forecasts(backwards, metric_name="accuracy")
        for id in curves:
            assert one[id].loss.value == pytest.approx(other[id].loss.value, rel=1e-9)
            assert one[id].metric.high == pytest.approx(other[id].metric.high, rel=1e-9)


class TestKnownBenchmark:
    @pytest.fixture(scope="class")
    def unseen(self):
        """A tenth of the published runs of every fourth PEFT type, predicted from the other types."""
        runs = [r for r in shipped() if r.benchmark == PUBLISHED]
        held_out = set(sorted({str(r.peft_type) for r in runs})[::4])
        known = [r for r in shipped() if str(r.peft_type) not in held_out]
        targets = {r.experiment: r for r in runs if str(r.peft_type) in held_out}
        predictor = Predictor(known, PUBLISHED)
        probes = {id: probe_of(run, 0.1) for id, run in targets.items()}
        return targets, predictor.predict(probes, 5000), predictor, probes

    def test_methods_never_seen_are_predicted_and_ranked(self, unseen):
        targets, made, _, _ = unseen
        truth = np.array([targets[id].metric for id in made])
        values = np.array([f.metric.value for f in made.values()])
        assert len(truth) > 10 and np.mean(abs(values - truth)) < 0.04
        ranks = [np.argsort(np.argsort(v)) for v in (values, truth)]
        assert np.corrcoef(*ranks)[0, 1] > 0.8

    def test_intervals_hold_about_as_often_as_they_say(self, unseen):
        targets, made, _, _ = unseen
        inside = [f.metric.low <= targets[id].metric <= f.metric.high for id, f in made.items()]
        assert 0.5 <= np.mean(inside) <= 1
        assert {f.metric.metric for f in made.values()} == {"test accuracy"}
        assert all(f.loss.low < f.loss.value < f.loss.high for f in made.values())

    def test_equal_input_gives_equal_output(self, unseen):
        _, made, predictor, probes = unseen
        one = next(iter(probes))
        assert predictor.predict({one: probes[one]}, 5000)[one] == made[one]

    def test_a_loss_beyond_all_that_was_learned_from_is_marked(self, unseen):
        _, _, predictor, _ = unseen
        odd = Probe(Curve(points=tuple(CurvePoint(step=s, train_loss=1e-4) for s in (250, 500))), 1e-4, 10**6)
        assert predictor.predict({"odd": odd}, 5000)["odd"].metric.extrapolated
        assert predictor.predict({"empty": Probe(Curve(), 1e-4, 1)}, 5000)["empty"].metric is None

    def test_too_few_runs_are_refused(self):
        with pytest.raises(ValueError, match="too few"):
            Predictor(table(5), "metamathqa/llama-3.2-3b/transformers5-cuda13.0")
