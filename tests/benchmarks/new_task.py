"""How true are forecasts on a task that nobody has run? Each task of the table in turn plays the unknown one.

    python -m tests.benchmarks.new_task [--sets 40] [--json]

Races of the product are replayed on random sets of a task's finished runs; the predictor knows only the other tasks.
The last line of the output is everything as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from advisor.deciding.quality import LIKELY, Point
from advisor.deciding.rates import rate_that_stands
from advisor.forecast.end_model import loss_of, probe_of
from advisor.forecast.final_loss import Noise
from advisor.forecast.predictor import Forecast, Predictor
from advisor.recommendation import Prediction
from knowledge import table
from knowledge.prior import suite_of
from knowledge.schema import RunRecord
from tests.benchmarks.cohorts import settings_key
from tests.benchmarks.race_quality import random_sets, replay

BUDGETS = (0.1, 0.2, 0.4)
SET_SIZE = 24
FEWEST_RUNS = 8
LEFT_OUT = 2  # of a task with few runs, so that its sets differ


@dataclass(frozen=True)
class Judged:
    """One candidate of a race: what is told of it, the run in truth, and how far it was probed."""

    forecast: Forecast
    run: RunRecord
    probed_steps: int

    @property
    def loss(self) -> Point:
        assert self.forecast.loss is not None
        return self._point(self.forecast.loss, self.forecast.loss_noise, -1)

    @property
    def metric(self) -> Point | None:
        """None where none is foretold or was measured at the end."""
        if self.forecast.metric is None or self.run.curve.points[-1].metric is None:
            return None
        return self._point(self.forecast.metric, self.forecast.metric_noise, 1)

    @property
    def end_loss(self) -> float:
        return loss_of(self.run.curve.points[-1])

    def _point(self, told: Prediction, noise: Noise, sign: int) -> Point:
        low, high = sorted((sign * told.low, sign * told.high))
        return Point(sign * told.value, low, high, 1.0, *noise, self.probed_steps)


FIGURES = (
    "error", "bias", "inside", "half_width",
    "metric_error", "metric_inside", "metric_half_width",
    "pick_error", "pick_inside", "pick_half_width",
    "pick_metric_error", "pick_metric_inside", "pick_metric_half_width",
    "difference_inside", "metric_difference_inside",
    "proven", "proven_right", "likely_right",
    "comes_back", "comes_back_right",
    "rates_differ", "kept_behind", "foretold_behind", "taken_behind",
)  # fmt: skip


class Tally:
    """What the races of one task and budget come to. Errors of what did not run to its end, losses in nats, and the
    same of the picks alone, which are what a user is told; of two finalists that did not, whether their difference is
    within its 80 % interval, whether one was said to be ahead beyond noise, or likely, and whether it was; the same of
    those that left the race and the pick. Of methods at several rates: whether the race kept another one than is
    foretold to end best, and if so, how far above the method's best they end, and the one that is taken."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {name: [] for name in FIGURES}

    def _note(self, **values: float) -> None:
        for name, value in values.items():
            self._values[name].append(value)

    def add(self, forecast: Forecast, run: RunRecord, of: str = "") -> None:
        loss, metric, end = forecast.loss, forecast.metric, run.curve.points[-1]
        truth = loss_of(end)
        assert loss is not None and truth
        self._compare_with_end(of, loss, truth)
        if not of:
            self._note(bias=loss.value - truth)
        if metric is not None and end.metric is not None:
            self._compare_with_end(f"{of}metric_", metric, end.metric)

    def _compare_with_end(self, of: str, told: Prediction, truth: float) -> None:
        values = {
            f"{of}error": abs(told.value - truth),
            f"{of}inside": told.low <= truth <= told.high,
            f"{of}half_width": (told.high - told.low) / 2,
        }
        self._note(**values)

    def compare(self, one: Judged, other: Judged) -> None:
        lead, noise = other.loss.value - one.loss.value, one.loss.noise_against(other.loss)
        truth = one.end_loss - other.end_loss
        is_right = (lead > 0) == (truth > 0)
        self._note(difference_inside=abs(lead - truth) <= noise)
        if one.metric and other.metric:
            true_lead = one.run.curve.points[-1].metric - other.run.curve.points[-1].metric
            error = one.metric.value - other.metric.value - true_lead
            self._note(metric_difference_inside=abs(error) <= one.metric.noise_against(other.metric))
        self._note(proven=abs(lead) > noise)
        if abs(lead) > noise:
            self._note(proven_right=is_right)
        elif abs(lead) > LIKELY * noise:
            self._note(likely_right=is_right)

    def against_pick(self, left: Judged, pick: Judged) -> None:
        """Of one that left the race, whether it is said to end ahead of the pick beyond noise, and whether it does."""
        is_ahead = left.loss.beats(pick.loss)
        self._note(comes_back=is_ahead)
        if is_ahead:
            self._note(comes_back_right=left.end_loss < pick.end_loss)

    def rates(self, kept: str, rates: Mapping[str, Judged]) -> None:
        """Of one method; kept: the rate that stayed longest."""
        points = {id: rate.loss for id, rate in rates.items()}
        ends = {id: rate.end_loss for id, rate in rates.items()}

        def value(id: str) -> float:
            return points[id].value

        foretold = max(rates, key=value)
        taken = rate_that_stands(kept, rates, value, lambda one, other: points[one].leads(points[other]))
        self._note(rates_differ=kept != foretold)
        if kept != foretold:
            behind = (ends[id] - min(ends.values()) for id in (kept, foretold, taken))
            self._note(**dict(zip(("kept_behind", "foretold_behind", "taken_behind"), behind, strict=True)))

    def figures(self) -> dict[str, float | None]:
        return {name: float(np.mean(values)) if values else None for name, values in self._values.items()}


def tasks() -> Iterator[tuple[str, list[RunRecord], list[RunRecord]]]:
    """Name, finished runs, and the runs of all other tasks; of tasks with enough text runs of one length."""
    runs = [run for run in table.shipped() if run.task != "text-to-image"]
    for suite in sorted({suite_of(run) for run in runs}):
        benchmark = max({r.benchmark for r in runs if suite_of(r) == suite}, key=[r.benchmark for r in runs].count)
        own = [run for run in runs if run.benchmark == benchmark]
        if len(own) >= FEWEST_RUNS:
            yield suite, own, [run for run in runs if suite_of(run) != suite]


def predictor_of(own: Sequence[RunRecord], known: Iterable[RunRecord]) -> Predictor:
    """That knows no other runs; what it learns of them it learns once."""
    return Predictor(known, task=own[0].task, label_mean_tokens=own[0].label_mean_tokens or 1.0)


def measure(own: Sequence[RunRecord], predictor: Predictor, share: float, sets: int) -> dict[str, float | None]:
    tally, steps = Tally(), own[0].max_steps
    for runs in random_sets(own, sets, min(SET_SIZE, len(own) - LEFT_OUT)):
        by_id, raced = {run.experiment: run for run in runs}, replay(runs, share)
        probes = {id: probe_of(by_id[id], raced.reached[id]) for id in raced.observed}
        forecasts = predictor.predict(probes, steps, own[0].curve.metric_name)
        for id, forecast in forecasts.items():
            if raced.reached[id] < 1:
                tally.add(forecast, by_id[id])
        if raced.reached[pick := raced.finalists[0]] < 1:
            tally.add(forecasts[pick], by_id[pick], of="pick_")
        judged = {id: Judged(told, by_id[id], probes[id].curve.last_step) for id, told in forecasts.items()}
        for id in judged.keys() - set(raced.finalists):
            tally.against_pick(judged[id], judged[raced.finalists[0]])
        for rates in _at_several_rates(judged).values():
            stayed = {id: (id in raced.finalists, raced.reached[id], judged[id].loss.value) for id in rates}
            tally.rates(max(rates, key=stayed.get), rates)
        for one, other in combinations(raced.finalists, 2):
            if max(raced.reached[one], raced.reached[other]) < 1:
                tally.compare(judged[one], judged[other])
    return tally.figures()


def _at_several_rates(judged: Mapping[str, Judged]) -> dict[str, dict[str, Judged]]:
    """Of the methods that were probed at more than one learning rate what is known of each rate."""
    found: dict[str, dict[str, Judged]] = {}
    for id, one in judged.items():
        found.setdefault(settings_key(one.run), {})[id] = one
    return {method: rates for method, rates in found.items() if len(rates) > 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=40, help="random races per task and budget")
    parser.add_argument("--json", action="store_true", help="print the JSON alone")
    options = parser.parse_args()
    figures = {}
    for name, own, known in tasks():
        predictor = predictor_of(own, known)
        figures[name] = {f"{share:.0%}": measure(own, predictor, share, options.sets) for share in BUDGETS}
    if not options.json:
        for name, by_budget in figures.items():
            print(f"\n{name}\n{'budget':20s}" + "".join(f"{budget:>9s}" for budget in by_budget))
            for key in FIGURES:
                cells = ("-" if row[key] is None else f"{row[key]:.3f}" for row in by_budget.values())
                print(f"{key.replace('_', ' '):20s}" + "".join(f"{cell:>9s}" for cell in cells))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
