"""Predicts loss and metric at the end of the planned run from probes, with 80 % intervals.

Two situations. Where the table holds enough finished runs of the very same task, published ones or the user's own,
their ends teach what a beginning leads to (end_model.py). On a task that nobody has run, which is what users
bring, the table only teaches how losses go on falling (loss_to_go.py), and the race's own points teach what a
loss means in the task's metric; such predictions have wide intervals and are marked as extrapolated until some
candidate has gone far. A few finished runs of the very task (same_task.py) say how much of that holds there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from advisor.forecast.end_model import KnownEnds, Probe, probe_of
from advisor.forecast.final_loss import NO_NOISE, FinalLoss, Noise, prediction_of, rerun
from advisor.forecast.log_curve import FINISHED, LogCurve, log_curve
from advisor.forecast.loss_to_go import FEWEST_WITNESSES, LossToGo, TaskToGo
from advisor.forecast.metric_of_loss import ROUNDING, MetricOfLoss, as_measured, loss_and_metric, noise_by_few, range_of
from advisor.forecast.same_task import SameTask
from advisor.recommendation import Prediction
from knowledge.prior import in_one_era, suite_of, without_repeats
from knowledge.schema import CurvePoint, RunRecord, Task
from probes.metrics import EVAL_LOSS, TRAIN_LOSS

SHOWN_FROM = 0.5  # of the run: a task where nobody went this far is extrapolated


@dataclass(frozen=True)
class Forecast:
    """The end of one candidate's planned run. None where nothing can be said.

    The intervals are for the values themselves. Most of their width is shared by all candidates of a race (how this
    task's losses will go on falling), so they are far too wide to compare candidates by: `loss_noise` and
    `metric_noise` are for that: how differently from the others it may go on falling, and what would differ if it were
    run again.
    """

    loss: Prediction | None
    metric: Prediction | None
    loss_noise: Noise = NO_NOISE
    metric_noise: Noise = NO_NOISE


class Predictor:
    """Fitted from runs of the benchmark table, shipped and own; deterministic.

    benchmark: what the probes are of, 'suite/software era'. Runs of that suite are of the very task: their ends are
    learned from where they are FEWEST_RUNS, with the offset between eras taken out of their metrics; however few, they
    are used. task: its kind. label_mean_tokens: of how many tokens of a row its loss is the mean.
    """

    def __init__(
        self,
        runs: Iterable[RunRecord],
        benchmark: str | None = None,
        task: Task = "causal-lm",
        label_mean_tokens: float = 1.0,
    ) -> None:
        runs = list(runs)
        suite = (benchmark or "").rpartition("/")[0]
        self._own = without_repeats(run for run in runs if suite and suite_of(run) == suite)
        self._ends = KnownEnds(in_one_era(self._own, benchmark or ""))
        self._to_go = LossToGo((run for run in runs if not suite or suite_of(run) != suite), task)
        self._label_mean_tokens = label_mean_tokens
        self._same_task = SameTask(self._own)

    def predict(
        self,
        probes: Mapping[str, Probe],
        max_steps: int,
        metric_name: str | None = None,
        baseline: CurvePoint | None = None,
    ) -> dict[str, Forecast]:
        """The end of a run of `max_steps` for each probe, by id. The probes are of one task and may differ in length.

        baseline: the untuned model's held-out loss and metric, a further point of the relation between the two.
        """
        known = {id: self._known_task(probe, max_steps, metric_name) for id, probe in probes.items()}
        if None not in known.values():
            return known
        return self._new_task(probes, max_steps, metric_name, baseline) | {id: f for id, f in known.items() if f}

    def _known_task(self, probe: Probe, max_steps: int, metric_name: str | None) -> Forecast | None:
        """None where too few runs of the very task have come to their ends, or where the probe itself has and shows the
        metric; of the test set of a published benchmark no curve tells."""
        if metric_name and probe.curve.last_step >= FINISHED * max_steps:
            return None
        found = self._ends.predict(probe, max_steps, metric_name)
        if found is None:
            return None
        log_loss, half = found.log_loss, found.log_loss_half
        end = FinalLoss(
            *(log_loss, log_loss - half, log_loss + half, Noise.same(half)),
            is_measured=False,
            extrapolated=found.is_outside,
        )
        name = metric_name or self._own[0].metric_name
        limits = range_of(self._ends.metrics(metric_name), name)
        values = np.clip([found.metric + side * found.metric_half for side in (0, -1, 1)], *limits)
        return Forecast(
            loss=end.prediction(_loss_name(probe)),
            metric=prediction_of(name, *values, found.is_outside),
            loss_noise=end.loss_noise,
            metric_noise=Noise.same(max(found.metric_half, ROUNDING * abs(found.metric))),
        )

    def _new_task(
        self, probes: Mapping[str, Probe], max_steps: int, metric_name: str | None, baseline: CurvePoint | None
    ) -> dict[str, Forecast]:
        # A candidate that was run to its end before may be in the race with that curve: it counts once.
        raced = [probe.curve for probe in probes.values()]
        own = [r for r in self._own if r.curve.metric_name == metric_name and r.curve not in raced]
        curves = {id: log_curve(probe.curve, max_steps, self._label_mean_tokens) for id, probe in probes.items()}
        race = [curve for id, curve in curves.items() if curve is not None and probes[id].curve not in self._same_task]
        task = TaskToGo(self._to_go, [*race, *self._same_task.curves])
        longest = max((curve.last_fraction for curve in race), default=0.0)
        of_metric = [*probes.values(), *map(probe_of, own)]
        points = loss_and_metric(of_metric, baseline) if metric_name else np.empty((3, 0))
        relation = MetricOfLoss.learn(metric_name, *points) if metric_name else None
        forecasts = {}
        for id, curve in curves.items():
            end = self._end(curve, task, longest) if curve else None
            if end is None:
                forecasts[id] = Forecast(None, None)
                continue
            last = probes[id].curve.points[-1]
            noise = relation.noise(end) if relation else noise_by_few(metric_name, end, *points[:2])
            forecasts[id] = Forecast(
                loss=end.prediction(_loss_name(probes[id])),
                metric=relation.predict(end, last, float(curve.log_losses[-1]))
                if relation
                else as_measured(metric_name, end, last, noise),
                loss_noise=end.loss_noise,
                metric_noise=noise,
            )
        return forecasts

    def _is_shown(self, longest: float) -> bool:
        """Whether somebody went far enough on this task, now or in an own run of before."""
        return longest >= SHOWN_FROM or bool(self._same_task.curves)

    def _end(self, curve: LogCurve, task: TaskToGo, longest: float) -> FinalLoss | None:
        """The end of one curve, given its task and how far the longest of its race went; None where the table has
        nothing to learn from."""
        if curve.last_fraction >= FINISHED:
            return FinalLoss.measured(float(curve.log_losses[-1]))
        to_go = task.predict(curve)
        if math.isinf(to_go.high):
            return None
        shown = len(task.further(curve.last_fraction)) >= FEWEST_WITNESSES
        proven = shown and self._is_shown(longest)
        to_go = self._same_task.interval(to_go, curve.last_fraction, task)
        log_loss = float(curve.log_losses[-1]) - to_go.expected
        again = rerun(log_loss)
        return FinalLoss(
            log_loss=log_loss,
            low=log_loss - math.hypot(to_go.high - to_go.expected, again),
            high=log_loss + math.hypot(to_go.expected - to_go.low, again),
            noise=Noise(to_go.own_half, max(to_go.own_half, to_go.half)).each(lambda half: math.hypot(half, again)),
            is_measured=False,
            extrapolated=not proven or curve.last_fraction < self._to_go.earliest_fraction,
        )


def _loss_name(probe: Probe) -> str:
    return TRAIN_LOSS if probe.curve.points[-1].eval_loss is None else EVAL_LOSS
