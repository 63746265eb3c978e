"""What the product recommends after a replayed race: its forecasts and its decision, on finished runs.

Forecasts come from a predictor that knows other tasks alone, as on data that nobody has run. The card is as large as
that of the published runs, so that what costs decide is as it was there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from advisor.deciding.decision import decide
from advisor.forecast.end_model import loss_of, probe_of
from advisor.forecast.final_loss import Noise
from advisor.forecast.predictor import Forecast, Predictor
from advisor.recommendation import CandidateReport, Prediction
from advisor.request import Objective, Request
from knowledge import table
from knowledge.prior import suite_of
from knowledge.schema import MemoryEstimate, RunRecord
from probes.schema import DeviceReport
from tests.benchmarks.cohorts import settings_key
from tests.benchmarks.race_quality import Outcome, Replay, Strategy, outcome_of, replay

CARD_BYTES = 48 * 10**9
CARD = DeviceReport(
    kind="cuda", name="NVIDIA L40S", total_bytes=CARD_BYTES, free_bytes=CARD_BYTES, limit_bytes=CARD_BYTES
)
DEFAULT: Objective = Request.model_fields["objective"].default
UNKNOWN = MemoryEstimate(peak_bytes=1, low_bytes=1, high_bytes=1)  # the same for all: memory then decides nothing


def advice(share_of_sweep: float, own: Sequence[RunRecord]) -> Strategy:
    """The race with that budget and the decision after it, on sets of the runs `own`, by the default objective."""
    known = [run for run in table.shipped() if suite_of(run) != suite_of(own[0])]
    predictor, untuned_loss = predictor_of(own, known), untuned_loss_of(own)

    def play(runs: Sequence[RunRecord]) -> Outcome:
        raced = replay(runs, share_of_sweep)
        return outcome_of(runs, raced, picks(runs, raced, predictor, untuned_loss, [DEFAULT])[DEFAULT])

    return play


def predictor_of(own: Sequence[RunRecord], known: Sequence[RunRecord]) -> Predictor:
    """For runs of the task of `own`, from the runs of other tasks."""
    return Predictor(known, task=own[0].task, label_mean_tokens=own[0].label_mean_tokens or 1.0)


def untuned_loss_of(own: Sequence[RunRecord]) -> float:
    """The median of the first losses of a task's curves stands for it."""
    return median(loss for run in own if (loss := loss_of(run.curve.points[0])) is not None)


def picks(
    runs: Sequence[RunRecord],
    raced: Replay,
    predictor: Predictor,
    untuned_loss: float,
    objectives: Sequence[Objective],
) -> dict[Objective, RunRecord]:
    """The runs that are recommended after a race on `runs`."""
    by_id = {run.experiment: run for run in runs}
    probes = {id: probe_of(by_id[id], raced.reached[id]) for id in raced.observed}
    forecasts = predictor.predict(probes, runs[0].max_steps, runs[0].curve.metric_name)
    candidates = reports(runs, raced, forecasts, untuned_loss)
    picked = {}
    for objective in objectives:
        _, decision = decide(candidates, CARD, objective)
        assert decision is not None
        picked[objective] = by_id[decision.title]
    return picked


def reports(
    runs: Sequence[RunRecord], raced: Replay, forecasts: Mapping[str, Forecast], untuned_loss: float
) -> list[CandidateReport]:
    """What the product would know of each candidate that was probed."""
    by_id = {run.experiment: run for run in runs}
    return [
        CandidateReport(
            name=settings_key(by_id[id]),
            title=id,
            peft_type=by_id[id].peft_type,
            learning_rate=by_id[id].learning_rate,
            status="finished" if id in raced.finalists else "eliminated",
            curve=raced.observed[id],
            predicted_loss=with_noise(forecast.loss, forecast.loss_noise),
            baseline_loss=untuned_loss,
            memory=_memory(by_id[id]),
            planned_run_s=by_id[id].train_s,
        )
        for id, forecast in forecasts.items()
        if forecast.loss is not None
    ]


def with_noise(told: Prediction, noise: Noise) -> Prediction:
    """Nothing is known of single held-out rows, which would add to it."""
    return told.model_copy(update={"noise": noise.alike, "noise_apart": noise.apart})


def _memory(run: RunRecord) -> MemoryEstimate:
    if run.peak_bytes is None:
        return UNKNOWN
    return MemoryEstimate(peak_bytes=run.peak_bytes, low_bytes=run.peak_bytes, high_bytes=run.peak_bytes)
