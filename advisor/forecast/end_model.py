"""Predicts the end of a run from its beginning, learned from finished runs of the same benchmark.

The mean of two models: extremely randomised trees on seven features of the probe, and such trees on what a local line
through (log loss, outcome) leaves over. Trees alone cannot predict anything better than the best run they have seen,
the line alone is misled by methods that start late; their mean was better than either at 5, 10 and 20 % of the run on
unseen methods (tests/benchmarks/selection.py; Gaussian processes, boosting, ridge and a separate model of the final
loss were worse; that the first trees follow the loss was better at 10 and 20 %).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from advisor.forecast.conformal import LocalBound
from advisor.forecast.local_line import LocalLine
from knowledge.schema import Curve, CurvePoint, RunRecord

FEWEST_RUNS = 20  # of a benchmark, to learn ends from
LEAST_LOSS = 1e-6  # nats; next to it float32 tells no two apart
TREES, SEED = 60, 0
SAME_SHARE = 1.01  # of a run, where one is so many times the other: steps are whole numbers
STILL_NEAR = 1.25  # times a share: what comes after it tells little more
# Methods that train inputs instead of weights start from a damaged model and learn late.
PROMPT_TYPES = {"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "TRAINABLE_TOKENS", "CPT"}


@dataclass(frozen=True)
class Probe:
    """The beginning of a run, with what is known of the candidate beforehand."""

    curve: Curve
    learning_rate: float
    trainable_parameters: int
    is_prompt: bool = False


def probe_of(run: RunRecord, fraction: float = 1.0) -> Probe:
    """What a probe of this share of a finished run would have seen."""
    return Probe(
        curve=run.curve.until(round(fraction * run.max_steps)),
        learning_rate=run.learning_rate,
        trainable_parameters=run.trainable_parameters or 1,
        is_prompt=run.peft_type in PROMPT_TYPES,
    )


def loss_of(point: CurvePoint) -> float | None:
    """The held-out loss where it was measured, else the training loss."""
    return point.train_loss if point.eval_loss is None else point.eval_loss


def log_loss_of(point: CurvePoint) -> float | None:
    """Its log; a loss of 0 is what float32 makes of answers that are nearly certain."""
    loss = loss_of(point)
    return None if loss is None else math.log(max(loss, LEAST_LOSS))


def evaluated_at(curve: Curve, steps: Sequence[int]) -> Curve:
    """The curve as it would be had it been evaluated at these steps alone: the log of its loss and its metric are
    straight in the log of the steps between its own points, and level before them. It must have a loss."""
    known = {p.step: p for p in curve.points if p.step > 0}
    losses = {step: log_loss for step, p in known.items() if (log_loss := log_loss_of(p)) is not None}
    metrics = {step: p.metric for step, p in known.items() if p.metric is not None}

    def at(values: Mapping[int, float], step: int) -> float | None:
        return float(np.interp(np.log(step), np.log([*values]), [*values.values()])) if values else None

    def made(step: int) -> CurvePoint:
        return CurvePoint(step=step, eval_loss=math.exp(at(losses, step)), metric=at(metrics, step))

    points = tuple(known[step] if step in losses else made(step) for step in steps)
    return curve.model_copy(update={"points": points})


def features(probe: Probe) -> np.ndarray | None:
    """Shape (7,): log loss now, its fall since the first and the previous point, mean metric so far (nan where there
    is none), log trainable parameters, log learning rate, whether it trains inputs. None without a loss."""
    logs = [log_loss for p in probe.curve.points if (log_loss := log_loss_of(p)) is not None]
    if not logs:
        return None
    metrics = [p.metric for p in probe.curve.points if p.metric is not None]
    return np.array(
        [
            logs[-1],
            logs[-1] - logs[0],
            logs[-1] - logs[max(0, len(logs) - 2)],
            np.mean(metrics) if metrics else np.nan,
            np.log(max(1, probe.trainable_parameters)),
            np.log(probe.learning_rate),
            float(probe.is_prompt),
        ]
    )


class EndModel:
    """One outcome at the end of the run as a function of `features`. Deterministic."""

    def fit(self, x: np.ndarray, y: np.ndarray, groups: Sequence[str]) -> EndModel:
        """x: (n, 7), y: (n,). Errors are judged on each group by a model of all others: of few runs a model of four
        fifths knows clearly less than one of all, and its errors would make intervals too wide."""
        self._fit(x, y)
        groups = np.asarray(groups)
        predicted = np.full(len(y), np.mean(y))
        for name in np.unique(groups):
            out = groups == name
            if not out.all():
                predicted[out] = EndModel()._fit(x[~out], y[~out])._predict(x[out])
        self._bound = LocalBound(predicted, y - predicted)
        self._range = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
        return self

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x: (m, 7). Returns the expected outcomes and the half-widths of their 80 % intervals, both (m,)."""
        values = self._predict(x)
        return values, np.array([self._bound.at(value) for value in values])

    def is_outside(self, x: np.ndarray) -> np.ndarray:
        """x: (m, 7). Whether the loss or the learning rate lies beyond all runs that were learned from, (m,)."""
        low, high = self._range
        checked = [0, 5]
        margin = 0.05 * (high - low)
        return ((x < low - margin) | (x > high + margin))[:, checked].any(axis=1)

    def _fit(self, x: np.ndarray, y: np.ndarray) -> EndModel:
        from sklearn.ensemble import ExtraTreesRegressor

        self._line = LocalLine().fit(x[:, 0], y)
        # Of two probes that are equal in all else none is to end worse for its lower loss.
        follows_loss = [_direction(x[:, 0], y), *[0] * (x.shape[1] - 1)]
        self._outcome = ExtraTreesRegressor(TREES, random_state=SEED, monotonic_cst=follows_loss).fit(x, y)
        left_over = y - self._line.predict(x[:, 0])
        self._left_over = ExtraTreesRegressor(TREES, random_state=SEED).fit(x, left_over)
        return self

    def _predict(self, x: np.ndarray) -> np.ndarray:
        return (self._outcome.predict(x) + self._line.predict(x[:, 0]) + self._left_over.predict(x)) / 2


def _direction(x: np.ndarray, y: np.ndarray) -> int:
    """1 where `y` grows with `x`, as the end of a loss does with the loss, -1 where it falls; 0 where one is the same
    for all."""
    return int(np.sign(np.sum((x - x.mean()) * (y - y.mean()))))


class End(NamedTuple):
    """The expected log of a final loss and the expected final metric, with the half-widths of their 80 % intervals."""

    log_loss: float
    log_loss_half: float
    metric: float
    metric_half: float
    is_outside: bool


class KnownEnds:
    """What finished runs of one benchmark, with comparable metrics, teach of the ends of others. Deterministic.

    Beginnings are compared as they look at the steps after which the runs were evaluated: a race stops at others than
    `advisor train` does, and a loss falls a lot from one of these to the next.
    """

    def __init__(self, runs: Sequence[RunRecord]) -> None:
        self._runs = runs
        self._models = cache(self._fit)

    def metrics(self, metric_name: str | None) -> list[float]:
        """The final metrics of the runs whose curves are in that metric; of all for None."""
        return [run.metric for run in self._runs if metric_name in (None, run.curve.metric_name)]

    def predict(self, probe: Probe, max_steps: int, metric_name: str | None) -> End | None:
        """None where fewer than FEWEST_RUNS runs were evaluated about where the probe ends, or it has no loss."""
        seen = _shares(probe.curve, max_steps)
        shares = self._shared(seen[0], seen[-1], metric_name) if seen else ()
        if not shares or seen[-1] > STILL_NEAR * shares[-1]:
            return None
        x = features(replace(probe, curve=evaluated_at(probe.curve, [round(s * max_steps) for s in shares])))
        models = self._models(shares, metric_name)
        (log_loss, log_loss_half), (metric, metric_half) = (
            (float(value), float(half)) for (value,), (half,) in (model.predict(x[None, :]) for model in models)
        )
        return End(log_loss, log_loss_half, metric, metric_half, bool(models[1].is_outside(x[None, :])[0]))

    def _shared(self, first: float, last: float, metric_name: str | None) -> tuple[float, ...]:
        """The shares of a run, from one to another, after which FEWEST_RUNS runs or more were evaluated."""
        counts = Counter(s for run in self._ended(metric_name) for s in _shares(run.curve, run.max_steps))
        often = (share for share, count in counts.items() if count >= FEWEST_RUNS)
        return tuple(sorted(share for share in often if first <= SAME_SHARE * share and share <= SAME_SHARE * last))

    def _ended(self, metric_name: str | None) -> list[RunRecord]:
        """The runs that can be compared, with a loss at their ends."""
        compared = [run for run in self._runs if metric_name in (None, run.curve.metric_name)]
        return [run for run in compared if run.curve.points and loss_of(run.curve.points[-1]) is not None]

    def _fit(self, shares: tuple[float, ...], metric_name: str | None) -> tuple[EndModel, EndModel]:
        """For the log loss and for the metric, from beginnings that were evaluated at these shares of the run."""
        runs = [run for run in self._ended(metric_name) if shares[-1] in _shares(run.curve, run.max_steps)]
        seen = [evaluated_at(run.curve, [round(s * run.max_steps) for s in shares]) for run in runs]
        x = np.array([features(replace(probe_of(run), curve=curve)) for run, curve in zip(runs, seen, strict=True)])
        log_losses = np.array([log_loss_of(run.curve.points[-1]) for run in runs])
        metrics = np.array([run.metric for run in runs])
        groups = [run.peft_type or "full" for run in runs]
        return EndModel().fit(x, log_losses, groups), EndModel().fit(x, metrics, groups)


def _shares(curve: Curve, max_steps: int) -> list[float]:
    """The shares of the run after which it has a loss."""
    return [p.step / max_steps for p in curve.points if p.step > 0 and loss_of(p) is not None]
