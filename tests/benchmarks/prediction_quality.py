"""How well final accuracy is predicted for methods that the predictor has never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from advisor.forecast.end_model import FEWEST_RUNS, loss_of, probe_of
from advisor.forecast.predictor import Predictor
from knowledge.prior import suite_of
from knowledge.schema import RunRecord
from knowledge.table import shipped
from tests.benchmarks.cohorts import Cohort, group_of

Rule = Callable[[RunRecord, float], float]


def last_loss(run: RunRecord, fraction: float) -> float:
    return loss_of(probe_of(run, fraction).curve.points[-1])


def last_validation(run: RunRecord, fraction: float) -> float:
    return probe_of(run, fraction).curve.points[-1].metric


def measure(cohort: Cohort, fraction: float, splits: int, seed: int = 0) -> dict[str, float | None]:
    """Spearman, MAE, coverage and width of the predictor at one probe length, beside two rules that need no fit. None
    is what there is nothing to measure by; runs of which nothing is forecast count in none but `without forecast`."""
    y = np.array([run.metric for run in cohort.runs])
    value, low, high = leave_one_method_out(cohort, fraction)
    error, inside, width = abs(value - y), (low <= y) & (y <= high), high - low
    told = np.isfinite(value)
    good = told & (y > 0.3)
    return {
        "spearman": _mean(np.array(half_splits(cohort, fraction, splits, seed))),
        "spearman of lowest loss": _spearman([-last_loss(r, fraction) for r in cohort.runs], y),
        "spearman of last validation accuracy": _spearman([last_validation(r, fraction) for r in cohort.runs], y),
        "mae": _mean(error[told]),
        "mae above .3": _mean(error[good]),
        "coverage": _mean(inside[told]),
        "coverage above .3": _mean(inside[good]),
        "width": _mean(width[told]),
        "width above .3": _mean(width[good]),
        "without forecast": float((~told).mean()),
    }


def leave_one_method_out(cohort: Cohort, fraction: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, low and high of each run's predicted accuracy, from a predictor that knows no run of its method; nan where
    nothing is forecast."""
    out = np.empty((3, len(cohort.runs)))
    groups = np.array([group_of(run) for run in cohort.runs])
    for group in np.unique(groups):
        held_out = groups == group
        out[:, held_out] = _forecasts(cohort, held_out, fraction)
    return tuple(out)


def half_splits(cohort: Cohort, fraction: float, splits: int, seed: int) -> list[float]:
    """Spearman over one half of the methods of predictors that were fitted to the other half."""
    rng = np.random.default_rng(seed)
    groups = np.array([group_of(run) for run in cohort.runs])
    names = np.unique(groups)
    y = np.array([run.metric for run in cohort.runs])
    results = []
    for _ in range(splits):
        held_out = ~np.isin(groups, rng.permutation(names)[: len(names) // 2])
        values = _forecasts(cohort, held_out, fraction)[0]
        if np.isfinite(values).all():
            results.append(_spearman(values, y[held_out]))
    return results


def _forecasts(cohort: Cohort, held_out: np.ndarray, fraction: float) -> np.ndarray:
    """Predicted accuracy of the runs that the mask holds out, its low and its high, (3, their number), from the others.
    Where these are too few, the shipped table's runs of the same suite join them, without any of the held-out methods
    and without any run that the cohort itself has; where they still are, the end of the curve's own metric is forecast
    in its place, as on a task that nobody has run."""
    targets = [run for run, is_out in zip(cohort.runs, held_out, strict=True) if is_out]
    known = [run for run, is_out in zip(cohort.runs, held_out, strict=True) if not is_out]
    predictor = Predictor([*known, *_shipped(cohort, targets, len(known))], benchmark=targets[0].benchmark)
    probes = {str(i): probe_of(run, fraction) for i, run in enumerate(targets)}
    forecasts = predictor.predict(probes, targets[0].max_steps)
    if any(forecast.metric is None for forecast in forecasts.values()):
        forecasts = predictor.predict(probes, targets[0].max_steps, targets[0].curve.metric_name)
    metrics = [forecast.metric for forecast in forecasts.values()]
    return np.array([(m.value, m.low, m.high) if m else (np.nan,) * 3 for m in metrics]).T


def _shipped(cohort: Cohort, targets: Sequence[RunRecord], known: int) -> list[RunRecord]:
    """What joins so many known runs: those of the table that are of other tasks, and of the same suite where it is
    needed."""
    suite, unseen = suite_of(targets[0]), {group_of(run) for run in targets}
    own = {(run.experiment, run.created_at) for run in cohort.runs}
    return [
        run
        for run in shipped()
        if suite_of(run) != suite
        or (known < FEWEST_RUNS and group_of(run) not in unseen and (run.experiment, run.created_at) not in own)
    ]


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _spearman(predicted: Sequence[float], actual: Sequence[float]) -> float:
    """Zero where all predictions are equal: they rank nothing."""
    a, b = (_ranks(values) for values in (predicted, actual))
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 0, ties at their mean."""
    values = np.asarray(values)
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2
