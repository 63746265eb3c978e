"""How well final accuracy is predicted for methods that the predictor has never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from advisor.end_model import FEWEST_RUNS, loss_of, probe_of
from advisor.predictor import Predictor
from knowledge.prior import suite_of
from knowledge.schema import RunRecord
from knowledge.table import shipped
from tests.benchmarks.cohorts import Cohort, group_of

Rule = Callable[[RunRecord, float], float]


def last_loss(run: RunRecord, fraction: float) -> float:
    return loss_of(probe_of(run, fraction).curve.points[-1])


def last_validation(run: RunRecord, fraction: float) -> float:
    return probe_of(run, fraction).curve.points[-1].metric


def measure(cohort: Cohort, fraction: float, splits: int, seed: int = 0) -> dict[str, float]:
    """Spearman, MAE, coverage and width of the predictor at one probe length, beside two rules that need no fit."""
    y = np.array([run.metric for run in cohort.runs])
    value, low, high = leave_one_method_out(cohort, fraction)
    error, inside, width = abs(value - y), (low <= y) & (y <= high), high - low
    good = y > 0.3
    return {
        "spearman": float(np.mean(half_splits(cohort, fraction, splits, seed))),
        "spearman of lowest loss": _spearman([-last_loss(r, fraction) for r in cohort.runs], y),
        "spearman of last validation accuracy": _spearman([last_validation(r, fraction) for r in cohort.runs], y),
        "mae": float(error.mean()),
        "mae above .3": float(error[good].mean()),
        "coverage": float(inside.mean()),
        "coverage above .3": float(inside[good].mean()),
        "width": float(width.mean()),
        "width above .3": float(width[good].mean()),
    }


def leave_one_method_out(cohort: Cohort, fraction: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, low and high of each run's predicted accuracy, from a predictor that knows no run of its method."""
    out = np.empty((3, len(cohort.runs)))
    groups = [group_of(run) for run in cohort.runs]
    for group in sorted(set(groups)):
        held_out = [i for i, name in enumerate(groups) if name == group]
        known = [run for run in cohort.runs if group_of(run) != group]
        for i, forecast in zip(held_out, _forecasts(cohort, known, held_out, fraction), strict=True):
            out[:, i] = forecast
    return tuple(out)


def half_splits(cohort: Cohort, fraction: float, splits: int, seed: int) -> list[float]:
    """Spearman over one half of the methods of predictors that were fitted to the other half."""
    rng = np.random.default_rng(seed)
    groups = np.array([group_of(run) for run in cohort.runs])
    names = np.unique(groups)
    y = np.array([run.metric for run in cohort.runs])
    results = []
    for _ in range(splits):
        fitted = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        known = [run for run, is_known in zip(cohort.runs, fitted, strict=True) if is_known]
        held_out = np.flatnonzero(~fitted)
        values = [value for value, _, _ in _forecasts(cohort, known, held_out, fraction)]
        results.append(_spearman(values, y[held_out]))
    return results


def _forecasts(
    cohort: Cohort, known: Sequence[RunRecord], held_out: Sequence[int], fraction: float
) -> list[tuple[float, float, float]]:
    """Predictions for the held-out runs from `known` ones. Where these are too few, the shipped table's runs of the
    same suite join them, without any of the held-out methods and without any run that the cohort itself has."""
    targets = [cohort.runs[i] for i in held_out]
    if len(known) < FEWEST_RUNS:
        unseen = {group_of(run) for run in targets}
        own = {(run.experiment, run.created_at) for run in cohort.runs}
        known = [*known] + [
            run
            for run in shipped()
            if suite_of(run) == suite_of(targets[0])
            and group_of(run) not in unseen
            and (run.experiment, run.created_at) not in own
        ]
    predictor = Predictor(known, benchmark=targets[0].benchmark)
    probes = {str(i): probe_of(run, fraction) for i, run in zip(held_out, targets, strict=True)}
    forecasts = predictor.predict(probes, targets[0].max_steps)
    return [(f.metric.value, f.metric.low, f.metric.high) for f in forecasts.values()]


def _spearman(predicted: Sequence[float], actual: Sequence[float]) -> float:
    """Zero where all predictions are equal: they rank nothing."""
    a, b = (_ranks(values) for values in (predicted, actual))
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 0, ties at their mean."""
    values = np.asarray(values)
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2
