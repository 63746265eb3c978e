"""Predicts loss and metric at the end of the planned run from probes, with 80 % intervals.

Two situations. Where the table holds enough finished runs of the very same benchmark, their ends teach what a
beginning leads to (advisor/end_model.py). On a task that nobody has run, which is what users bring, the table only
teaches how losses go on falling (advisor/loss_to_go.py), and the race's own points teach what a loss means in the
task's metric; such predictions have wide intervals and are marked as extrapolated until some candidate has gone far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from advisor.conformal import error_bound
from advisor.end_model import EndModel, Probe, features, loss_of, probe_of
from advisor.local_line import LocalLine
from advisor.loss_to_go import FINISHED, LogCurve, LossToGo, log_curve
from advisor.recommendation import Prediction
from knowledge.prior import in_one_era
from knowledge.schema import CurvePoint, RunRecord

FEWEST_RUNS = 20  # of a benchmark, to learn ends from
RERUN_LOG_LOSS = 0.005  # a re-run with another data order ends about this far away (measured: Llama-3.2-3B, MetaMathQA)
FEWEST_POINTS = 8  # of loss and metric together, to learn what a loss means in the metric
METRIC_NEIGHBOURS = 20
FAR_ENOUGH = 0.5  # a task where nobody went this far is extrapolated
FEWEST_SCALES = 3  # and so is one whose own scale fewer candidates show


@dataclass(frozen=True)
class Forecast:
    """The end of one candidate's planned run. None where nothing can be said."""

    loss: Prediction | None
    metric: Prediction | None


class Predictor:
    """Fitted from runs of the benchmark table, shipped and own; deterministic.

    benchmark: predict for this benchmark of the table, from its runs and those of other software eras of its suite
    with the offset between the eras taken out (at least FEWEST_RUNS together). None: a new task.
    """

    def __init__(self, runs: Iterable[RunRecord], benchmark: str | None = None) -> None:
        runs = list(runs)
        self._known = in_one_era(runs, benchmark) if benchmark else []
        if benchmark and len(self._known) < FEWEST_RUNS:
            raise ValueError(f"{len(self._known)} runs of {benchmark!r} are too few: at least {FEWEST_RUNS} are needed")
        self._to_go = LossToGo(runs)
        self._models: dict[tuple[float, str], EndModel] = {}

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
        if self._known:
            return {id: self._known_task(probe, max_steps) for id, probe in probes.items()}
        return self._new_task(probes, max_steps, metric_name, baseline)

    def _known_task(self, probe: Probe, max_steps: int) -> Forecast:
        x = features(probe)
        if x is None:
            return Forecast(None, None)
        fraction = round(probe.curve.last_step / max_steps, 4)
        forecasts = {}
        for outcome in ("loss", "metric"):
            model = self._model(fraction, outcome)
            (value,), (half,) = model.predict(x[None, :])
            is_outside = bool(model.is_outside(x[None, :])[0])
            if outcome == "loss":
                forecasts[outcome] = _prediction("train loss", *np.exp([value, value - half, value + half]), is_outside)
            else:
                forecasts[outcome] = _prediction(
                    self._known[0].metric_name, value, value - half, value + half, is_outside
                )
        return Forecast(**forecasts)

    def _model(self, fraction: float, outcome: str) -> EndModel:
        if (fraction, outcome) not in self._models:
            rows = [(features(probe_of(run, fraction)), run) for run in self._known]
            rows = [(x, run) for x, run in rows if x is not None and loss_of(run.curve.points[-1])]
            x = np.array([x for x, _ in rows])
            runs = [run for _, run in rows]
            if outcome == "loss":
                y = np.log([loss_of(run.curve.points[-1]) for run in runs])
            else:
                y = np.array([run.metric for run in runs])
            self._models[fraction, outcome] = EndModel().fit(x, y, [run.peft_type or "full" for run in runs])
        return self._models[fraction, outcome]

    def _new_task(
        self, probes: Mapping[str, Probe], max_steps: int, metric_name: str | None, baseline: CurvePoint | None
    ) -> dict[str, Forecast]:
        curves = {id: log_curve(probe.curve, max_steps) for id, probe in probes.items()}
        usable = [curve for curve in curves.values() if curve is not None]
        furthest = max((curve.last_fraction for curve in usable), default=0.0)
        relation = _Relation.learn(list(probes.values()), baseline) if metric_name else None
        forecasts = {}
        for id, curve in curves.items():
            if curve is None:
                forecasts[id] = Forecast(None, None)
                continue
            to_go, half = self._to_go.predict(curve)
            scale, evidence = self._to_go.scale(usable, curve.last_fraction)
            unproven = furthest < FAR_ENOUGH or evidence < FEWEST_SCALES
            finished = curve.last_fraction >= FINISHED
            half = RERUN_LOG_LOSS if finished else math.hypot(half * max(1.0, scale), RERUN_LOG_LOSS)
            end = float(curve.log_losses[-1]) - scale * to_go
            loss = metric = None
            extrapolated = not finished and (unproven or curve.last_fraction < self._to_go.earliest_fraction)
            if math.isfinite(half):
                name = "eval loss" if probes[id].curve.points[-1].eval_loss is not None else "train loss"
                loss = _prediction(name, *np.exp([end, end - half, end + half]), extrapolated)
            if relation and math.isfinite(half):
                last = probes[id].curve.points[-1].metric if finished else None
                metric = relation.predict(metric_name, curve, end, half, last, extrapolated)
            forecasts[id] = Forecast(loss, metric)
        return forecasts


class _Relation:
    """What a loss means in the task's metric, from all points of all probes: a falling local line."""

    def __init__(self, log_losses: np.ndarray, metrics: np.ndarray, bound: float) -> None:
        self._line = LocalLine(METRIC_NEIGHBOURS, falling=True).fit(log_losses, metrics)
        self._bound = bound
        self._floor = min(0.0, float(metrics.min()))
        self._ceiling = 1.0 if metrics.max() <= 1 else math.inf
        self._seen = float(log_losses.min())

    @classmethod
    def learn(cls, probes: Sequence[Probe], baseline: CurvePoint | None) -> _Relation | None:
        """None where fewer than FEWEST_POINTS points have both a loss and a metric."""
        points = [(p, i) for i, probe in enumerate(probes) for p in probe.curve.points]
        points += [(baseline, -1)] if baseline else []
        rows = [(math.log(loss), p.metric, i) for p, i in points if (loss := loss_of(p)) and p.metric is not None]
        if len(rows) < FEWEST_POINTS or len({i for _, _, i in rows}) < 2:
            return None
        x, y, owner = np.array(rows).T
        errors = np.empty(len(y))
        for i in np.unique(owner):
            out = owner == i
            line = LocalLine(METRIC_NEIGHBOURS, falling=True).fit(x[~out], y[~out])
            errors[out] = y[out] - line.predict(x[out])
        return cls(x, y, error_bound(errors))

    def predict(
        self, name: str, curve: LogCurve, end: float, half: float, last: float | None, extrapolated: bool
    ) -> Prediction:
        """The metric at log loss `end` ± `half`; `last` is the measured value of a run that is over."""
        value, worst, best = np.clip(self._line.predict([end, end + half, end - half]), self._floor, self._ceiling)
        if last is not None:
            value, worst, best = last, last + worst - value, last + best - value
        low, high = value - math.hypot(value - worst, self._bound), value + math.hypot(best - value, self._bound)
        low, high = np.clip([low, high], self._floor, self._ceiling)
        return _prediction(name, value, low, high, extrapolated or (last is None and end < self._seen))


def _prediction(name: str, value: float, low: float, high: float, extrapolated: bool) -> Prediction:
    return Prediction(metric=name, value=float(value), low=float(low), high=float(high), extrapolated=extrapolated)
