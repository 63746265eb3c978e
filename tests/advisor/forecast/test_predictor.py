"""Predictions of the end of a run: what they rest on, their intervals, and where they say they do not know."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.forecast.conformal import LocalBound, error_bound
from advisor.forecast.end_model import FEWEST_RUNS, Probe, evaluated_at, features, probe_of
from advisor.forecast.local_line import LocalLine
from advisor.forecast.metric_of_loss import RERUN_METRIC
from advisor.forecast.predictor import Predictor
from knowledge.importers.peft_method_comparison import read
from knowledge.schema import Curve, CurvePoint
from knowledge.table import shipped
from tests.advisor.curves import PUBLISHED, STEPS, curve, probe, table
from tests.knowledge.suite_files import llm_run


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

    def test_between_two_evaluations_they_follow_the_log_of_the_steps(self):
        made = evaluated_at(curve(1.0, 0.2, until=0.2, metric=lambda loss: 0.4), [25, 50, 71, 200])
        assert [p.eval_loss for p in made.points] == pytest.approx([1.0, 1.0, (71 / 50) ** -0.2, 4**-0.2])
        assert [p.metric for p in made.points] == [0.4] * 4


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

    def test_a_loss_of_zero_is_the_best_there_is(self):
        """So sure of every held-out row that float32 sees no loss."""
        sure = Curve(points=tuple(CurvePoint(step=s, eval_loss=loss) for s, loss in ((300, 0.1), (STEPS, 0.0))))
        made = self.forecasts(self.race(3) | {"sure": sure})
        assert made["sure"].loss.value < 1e-5 and not made["sure"].loss.extrapolated

    def test_short_probes_alone_are_marked(self):
        short, long = (self.forecasts(self.race(n))["c9"].loss for n in (0, 5))
        assert short.extrapolated and not long.extrapolated

    def test_candidates_are_compared_by_what_is_their_own(self):
        """Real runs of one benchmark: a common shift of all its curves is in the interval, not in the noise."""
        curves = {id: probe(c) for id, c in self.race(0).items()}
        for forecast in Predictor(shipped()).predict(curves, STEPS, "accuracy").values():
            assert (
                0.005 * forecast.loss.value < forecast.loss_noise.alike < (forecast.loss.high - forecast.loss.low) / 2
            )
            assert 0.005 < forecast.metric_noise.alike < forecast.metric.high - forecast.metric.low

    def test_who_went_less_far_than_others_is_known_less_well_beside_them_alone(self):
        curves = {id: probe(c) for id, c in self.race(0, 0.2).items()}
        alone = Predictor(shipped()).predict(curves, STEPS)["c9"].loss_noise
        curves["c0"] = probe(curve(2.0, 0.3, until=0.4))
        beside = Predictor(shipped()).predict(curves, STEPS)
        assert beside["c9"].loss_noise.alike < 1.2 * alone.alike < 1.2 * 1.2 * alone.alike < alone.apart
        assert beside["c9"].loss_noise.apart > 1.5 * beside["c9"].loss_noise.alike
        assert beside["c0"].loss_noise.apart < beside["c9"].loss_noise.apart

    def test_no_less_is_open_beside_those_that_went_further(self):
        """Errors of the two sides differ, and their mean was below what is a candidate's own."""
        suite = "binary_numbers/smollm2-135m"
        own = [run for run in shipped() if run.benchmark.startswith(suite)][:10]
        known = Predictor(run for run in shipped() if not run.benchmark.startswith(suite))
        probes = {str(i): probe_of(run, 1.0 if i < 3 else 0.1) for i, run in enumerate(own)}
        for forecast in known.predict(probes, own[0].max_steps, own[0].curve.metric_name).values():
            assert forecast.loss_noise.apart >= forecast.loss_noise.alike

    def test_the_further_the_probes_went_the_finer_the_comparison(self):
        noises = [
            next(f.loss_noise.alike / f.loss.value for f in self.forecasts(self.race(0, probed)).values())
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

    def test_a_metric_that_was_measured_at_the_end_needs_nothing_to_learn_from(self):
        few = {"c0": curve(2.0, 0.2, until=1.0, metric=lambda loss: 0.5)}
        few = {"c0": few["c0"].model_copy(update={"points": few["c0"].points[-3:]})}
        made = self.forecasts(few, metric_name="accuracy")["c0"]
        assert made.metric.value == 0.5 and 0.48 < made.metric.low < 0.5 < made.metric.high < 0.52
        assert made.metric_noise.alike > 0 and not made.metric.extrapolated
        assert self.forecasts(few, metric_name="own.py:score")["c0"].metric.low == pytest.approx(0.5)

    def test_what_was_measured_at_the_end_is_off_by_a_re_run_and_not_by_its_distance_from_the_others(self):
        scattered = {
            f"c{i}": curve(2.0, 0.2 + 0.05 * i, until=until, metric=lambda loss, i=i: 0.9 - 0.3 * loss + 0.1 * (i % 2))
            for i, until in enumerate((1.0, 0.5, 0.5, 0.5))
        }
        ended, *others = self.forecasts(scattered, metric_name="accuracy").values()
        assert ended.metric_noise.alike == RERUN_METRIC
        assert all(made.metric_noise.alike > 0.05 for made in others)

    @pytest.mark.parametrize("unit", [0.001, 1, 100])
    def test_the_noise_of_an_own_metric_of_few_points_is_in_its_unit(self, unit):
        """.009 for whatever it was made all of a small one equal, and of a large one all different."""
        metric = lambda loss: unit * (0.5 - 0.3 * math.log(loss))  # noqa: E731
        few = {f"c{i}": curve(2.0, 0.2 + 0.05 * i, metric=metric) for i in range(3)}
        few = {id: c.model_copy(update={"points": c.points[-2:]}) for id, c in few.items()}
        for made in self.forecasts(few, metric_name="own.py:score").values():
            assert made.metric_noise.alike == pytest.approx(
                0.3 * unit * math.asinh(made.loss_noise.alike / made.loss.value)
            )
            assert made.metric.value - made.metric.low == pytest.approx(made.metric_noise.alike)

    def test_what_an_own_metric_of_few_points_is_at_equal_loss_is_noise_too(self):
        ends = [Curve(points=(CurvePoint(step=STEPS, eval_loss=0.5, metric=value),)) for value in (20.0, 30.0, 40.0)]
        made = self.forecasts({f"c{i}": end for i, end in enumerate(ends)}, metric_name="own.py:score")["c0"]
        assert made.metric_noise.alike == pytest.approx(1.886 * 10, rel=0.01)  # Student's, with two degrees of freedom

    def test_the_untuned_model_counts_as_a_point_of_the_relation(self):
        baseline = CurvePoint(step=0, eval_loss=8.0, metric=0.0)
        made = self.forecasts(self.race(0), metric_name="accuracy", baseline=baseline)
        assert all(0 <= f.metric.low <= f.metric.high <= 1 for f in made.values())

    def test_a_metric_that_nothing_has_moved_yet_may_still_rise(self):
        """Exact match is 0 after short probes of a task that is hard at first; a loss of 0 would mean 1."""
        curves = {f"c{i}": curve(3.0, 0.05 * i, until=0.1, metric=lambda _: 0.0) for i in range(7)}
        known, own = (self.forecasts(curves, metric_name=name)["c6"].metric for name in ("exact match", "own.py:score"))
        assert known.value > 0.01 and known.high > 0.1 and known.extrapolated
        assert own.value == 0  # of an own metric nothing is known where the loss is 0

    def test_while_a_loss_goes_on_falling_no_less_is_told_than_was_measured(self):
        """The relation of all candidates lies below one that has more rows right at equal loss."""
        metric = lambda loss: 0.9 - 0.3 * loss  # noqa: E731
        ahead = curve(2.0, 0.3, until=0.1, metric=lambda loss: metric(loss) + 0.3)
        behind = curve(2.0, 0.3, until=0.1, metric=lambda loss: metric(loss) - 0.3)
        made = self.forecasts(self.race(0) | {"ahead": ahead, "behind": behind}, metric_name="own.py:score")
        assert made["ahead"].metric.value == ahead.points[-1].metric > made["behind"].metric.value
        assert made["ahead"].metric.low < ahead.points[-1].metric < made["ahead"].metric.high
        assert made["behind"].metric.value > behind.points[-1].metric + 0.2

    def test_an_own_accuracy_in_per_cent_is_not_on_its_way_to_one(self):
        race = {id: c.model_copy() for id, c in self.race(0).items()}
        in_per_cent = {
            id: Curve(points=tuple(p.model_copy(update={"metric": 100 * p.metric}) for p in c.points))
            for id, c in race.items()
        }
        share, hundred = (self.forecasts(c, metric_name="own accuracy")["c0"].metric for c in (race, in_per_cent))
        assert hundred.value > in_per_cent["c0"].points[-1].metric
        assert hundred.value == pytest.approx(100 * share.value, rel=0.2)

    def test_an_own_metric_that_is_small_yet_may_grow_beyond_one(self):
        """As BLEU of short probes, in per cent."""
        curves = {f"c{i}": curve(3.0, 0.1 * i, until=0.1, metric=lambda loss: 0.9 * (3 - loss)) for i in range(7)}
        assert 0.9 < max(p.metric for c in curves.values() for p in c.points) < 1.1
        assert max(f.metric.high for f in self.forecasts(curves, metric_name="bleu").values()) > 1

    @pytest.mark.parametrize("value", [-12.0, 0.1, 1 / 3])
    def test_a_metric_that_is_the_same_for_all_tells_nobody_apart(self, value):
        """Rounding made leads of 1e-17 ± 1e-17 of it, by which a loss that does tell was passed over."""
        curves = {
            id: Curve(points=tuple(p.model_copy(update={"metric": value}) for p in c.points))
            for id, c in self.race(3).items()
        }
        made = self.forecasts(curves, metric_name="own score").values()
        spread = max(f.metric.value for f in made) - min(f.metric.value for f in made)
        assert spread < 0.01 * min(f.metric_noise.alike for f in made) < 1e-9

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

    def test_points_where_no_other_run_was_evaluated_change_nothing(self, unseen):
        """Half as much falls from one to the next of twice as many points: that is no slower run."""
        _, made, predictor, probes = unseen
        one = next(iter(probes))
        first, last = probes[one].curve.points
        between = CurvePoint(step=375, train_loss=(first.train_loss + last.train_loss) / 2, metric=last.metric)
        denser = replace(probes[one], curve=Curve(points=(first, between, last)))
        assert predictor.predict({one: denser}, 5000)[one] == made[one]

    def test_a_loss_beyond_all_that_was_learned_from_is_marked(self, unseen):
        _, _, predictor, _ = unseen
        odd = Probe(Curve(points=tuple(CurvePoint(step=s, train_loss=1e-4) for s in (250, 500))), 1e-4, 10**6)
        assert predictor.predict({"odd": odd}, 5000)["odd"].metric.extrapolated
        assert predictor.predict({"empty": Probe(Curve(), 1e-4, 1)}, 5000)["empty"].metric is None

    def test_what_has_come_to_its_end_is_taken_as_measured(self, unseen):
        targets, _, predictor, _ = unseen
        run = next(iter(targets.values()))
        loss = predictor.predict({"done": probe_of(run)}, 5000, run.curve.metric_name)["done"].loss
        assert loss.value == pytest.approx(run.curve.points[-1].train_loss) and not loss.extrapolated

    def test_a_few_runs_teach_no_ends(self):
        """They are witnesses of a task that is new otherwise, and its metric is learned from the race's own points."""
        few = [r for r in shipped() if r.benchmark == PUBLISHED][: FEWEST_RUNS - 1]
        others = [r for r in shipped() if not r.benchmark.startswith("metamathqa")]
        probes = {"x": probe_of(few[0], 0.1)}
        made = Predictor([*others, *few], PUBLISHED).predict(probes, 5000)["x"]
        assert made.metric is None and made.loss != Predictor(others, PUBLISHED).predict(probes, 5000)["x"].loss

    def test_an_own_run_that_is_in_the_race_with_its_curve_counts_once(self):
        """Its end was foretold from itself, and the interval of the others was as narrow as if all such were right."""
        own = [r for r in shipped() if r.benchmark == PUBLISHED][: FEWEST_RUNS - 1]
        others = [r for r in shipped() if not r.benchmark.startswith("metamathqa")]
        predictor = Predictor([*others, *own], PUBLISHED)
        metric = own[0].curve.metric_name
        ahead = {"short": probe_of(own[0], 0.1)}
        again = {f"own {i}": probe_of(run) for i, run in enumerate(own[1:])}
        alone, beside = (predictor.predict(probes, 5000, metric)["short"] for probes in (ahead, ahead | again))
        assert beside.loss == alone.loss and beside.loss_noise == alone.loss_noise
