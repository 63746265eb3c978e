"""Is the end foretold as well where the learning rate falls otherwise than in the runs that forecasts are learned from?

    python -m tests.benchmarks.schedules --out DIR [--budget 10]

Races on a sentence encoder, on each task of DATA with each schedule. Those candidates that came to the end with another
schedule and with a cosine are compared: what is foretold of both from their first 10 and 20 %, all cut alike, by a
predictor that knows no run of such data. A race that is done is known by its files in DIR.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import get_args

from advisor import recommend
from advisor.forecast.end_model import Probe
from advisor.forecast.predictor import Forecast, Predictor
from advisor.recommendation import CandidateReport, Result
from advisor.save import RESULT_FILE, load
from examples.classify_minilm import DATA as SECTIONS
from examples.classify_minilm import minilm
from knowledge import table
from knowledge.schema import CurvePoint, Scheduler

DATA = (SECTIONS, SECTIONS.with_name("debian_languages.jsonl"))
FAMILY = "debian"  # in the names of the table's tasks that are of such data
MAX_STEPS, BATCH_SIZE = 200, 16
SHARES = (0.1, 0.2)
COMPARED_WITH: Scheduler = "cosine"


Identity = tuple[str, float]


@dataclass(frozen=True)
class Told:
    """Of one candidate: its loss at the end, how far above it in logs the forecast was, and whether the 80 % intervals
    of loss and metric hold the end."""

    end_loss: float
    log_error: float
    loss_held: bool
    metric_held: bool


def told(result: Result, share: float) -> dict[Identity, Told]:
    """Of the candidates of a race that came to its end, from `share` of the run."""
    steps = result.planned_run.max_steps
    ended = {c.identity: c for c in result.candidates if c.curve.last_step >= steps and not c.rests_on_own_runs}
    runs = [r for r in table.shipped() if FAMILY not in r.benchmark and r.task != "text-to-image"]
    beginnings = {identity: _beginning(candidate, round(share * steps)) for identity, candidate in ended.items()}
    forecasts = Predictor(runs, task=result.planned_run.task).predict(beginnings, steps, result.data.metric_name)
    return {identity: _told(forecasts[identity], candidate.curve.points[-1]) for identity, candidate in ended.items()}


def _beginning(candidate: CandidateReport, steps: int) -> Probe:
    return Probe(candidate.curve.until(steps), candidate.learning_rate, candidate.trainable_parameters or 1)


def _told(forecast: Forecast, end: CurvePoint) -> Told:
    loss, metric = forecast.loss, forecast.metric
    return Told(
        end_loss=end.eval_loss,
        log_error=math.log(loss.value / end.eval_loss),
        loss_held=loss.low <= end.eval_loss <= loss.high,
        metric_held=metric is not None and metric.low <= end.metric <= metric.high,
    )


def lines(results: Mapping[Scheduler, Sequence[Result]]) -> Iterator[str]:
    """The table in Markdown. For each schedule but the cosine: what both came to, over the races on all data."""
    yield "| schedule | after | runs | mean loss at the end | mean error of its log | loss held | metric held |"
    yield "|---|---|---|---|---|---|---|"
    for scheduler in [name for name in results if name != COMPARED_WITH]:
        for share in SHARES:
            pairs = []
            for other, cosine in zip(results[scheduler], results[COMPARED_WITH], strict=True):
                of_other, of_cosine = told(other, share), told(cosine, share)
                pairs += [(of_other[c], of_cosine[c]) for c in of_other.keys() & of_cosine.keys()]
            for name, runs in zip((scheduler, f"{COMPARED_WITH}, the same"), zip(*pairs, strict=True), strict=True):
                yield (
                    f"| {name} | {share:.0%} | {len(runs)} | {fmean(r.end_loss for r in runs):.2f} "
                    f"| {fmean(abs(r.log_error) for r in runs):.2f} | {fmean(r.loss_held for r in runs):.0%} "
                    f"| {fmean(r.metric_held for r in runs):.0%} |"
                )


def race(data: Path, scheduler: Scheduler, folder: Path, budget_minutes: float) -> Result:
    """Of that schedule on that data, run unless `folder` holds it."""
    if not (folder / RESULT_FILE).exists():
        recommend(
            *(minilm(), data),
            out=folder,
            budget_minutes=budget_minutes,
            max_steps=MAX_STEPS,
            batch_size=BATCH_SIZE,
            scheduler=scheduler,
            resume=folder.exists(),
        )
    return load(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the races")
    parser.add_argument("--budget", type=float, default=10.0, help="minutes for each of them")
    options = parser.parse_args()
    os.environ["ADVISOR_DATA_DIR"] = str(options.out.resolve() / "no-own-table")
    results = {
        scheduler: [race(data, scheduler, options.out / f"{data.stem}-{scheduler}", options.budget) for data in DATA]
        for scheduler in get_args(Scheduler)
    }
    print("\n".join(lines(results)))


if __name__ == "__main__":
    main()
