"""The fourth station: what the evidence says about the end of the planned run, candidate by candidate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from advisor.candidates import Candidate, capabilities_of, report_without_probe
from advisor.end_model import Probe
from advisor.held_out import EVAL_ROWS, held_out_noise
from advisor.own_task import suite_of_survey
from advisor.planned_memory import corrected_memory, measured_memory
from advisor.predictor import Forecast, Predictor
from advisor.recommendation import CandidateReport, Prediction
from advisor.survey import Survey
from advisor.telling_metric import SINGLE_TOKENS
from knowledge.intervals import Z_80
from knowledge.prior import REFERENCE, MethodPrior
from knowledge.schema import Curve, CurvePoint, RunRecord
from probes.conduct import Evidence
from probes.metrics import is_share
from probes.race import Race
from probes.schema import Baseline, ProbeOutcome

UNREACHED = "the race ended before its turn"
SHORTLIST = 8  # methods of an answer without probes


def judge(
    survey: Survey,
    candidates: Sequence[Candidate],
    evidence: Evidence,
    race: Race,
    baseline: Baseline,
    records: Sequence[RunRecord],
    probed_on: str,
) -> list[CandidateReport]:
    """A report for each candidate that entered the race, with predictions where there is a curve.

    `probed_on` is the kind of device that the probes ran on: cuda, mps or cpu.
    """
    assert survey.data is not None
    measured = {c.id: evidence.curves[c.id] for c in candidates if _is_usable(c, evidence)}
    predictor = Predictor(
        records,
        suite=suite_of_survey(survey),
        task=survey.planned_run.task,
        label_mean_tokens=survey.data.profile.label_mean_tokens,
    )
    forecasts = predictor.predict(
        {
            c.id: Probe(
                curve=measured[c.id],
                learning_rate=c.learning_rate,
                trainable_parameters=_trainable(evidence, c.id) or 1,
                is_prompt=c.method.family == "prompt",
            )
            for c in candidates
            if c.id in measured
        },
        survey.planned_run.max_steps,
        survey.data.profile.metric_name,
        CurvePoint(step=0, eval_loss=baseline.eval_loss, metric=baseline.metric),
    )
    sampling = _sampling(evidence, measured, "row_losses")
    # The tokens of a row are right or wrong together, so they are no independent trials as whole answers are.
    of_tokens = _sampling(evidence, measured, "row_right") if survey.data.profile.metric_name == SINGLE_TOKENS else {}
    last_jobs: dict[str, list[ProbeOutcome]] = {c.method.name: [] for c in candidates}
    for c in candidates:
        last_jobs[c.method.name] += evidence.outcomes.get(c.id, [])[-1:]
    step_s = {name: _step_s(outcomes) for name, outcomes in last_jobs.items()}
    reasons_left = {id: reason for decision in race.decisions for id, reason in decision.left.items()}
    return [
        _report(
            c,
            survey,
            evidence,
            baseline,
            forecasts.get(c.id),
            sampling.get(c.id, 0.0),
            of_tokens.get(c.id),
            reasons_left.get(c.id),
            c.id in race.finalists,
            step_s[c.method.name],
            probed_on,
        )
        for c in candidates
    ]


def not_tried(survey: Survey, candidates: Sequence[Candidate], reasons: Mapping[str, str]) -> list[CandidateReport]:
    """One report per method that the budget did not reach, not one per learning rate."""
    missed = _at_middle_rates([c for c in candidates if c.id in reasons])
    return [_without_probe(candidate, survey, "not tried", reasons[candidate.id]) for candidate in missed.values()]


def would_be_probed(survey: Survey, candidates: Sequence[Candidate]) -> list[CandidateReport]:
    """One report per method that the plan of a dry run lets enter, with its memory."""
    rates: dict[str, list[str]] = {}
    for candidate in candidates:
        rates.setdefault(candidate.method.name, []).append(f"{candidate.learning_rate:g}")
    return [
        _without_probe(
            candidate,
            survey,
            "planned",
            f"at learning rate{'s' if len(rates[name]) > 1 else ''} {', '.join(rates[name])}",
        )
        for name, candidate in _at_middle_rates(candidates).items()
    ]


def _at_middle_rates(candidates: Sequence[Candidate]) -> dict[str, Candidate]:
    """By method, of its candidates (lowest rate first) the middle one, which is the default where all are there."""
    by_method: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_method.setdefault(candidate.method.name, []).append(candidate)
    return {name: of_one[len(of_one) // 2] for name, of_one in by_method.items()}


def shortlist_from_table(
    survey: Survey, candidates: Sequence[Candidate], priors: Mapping[str, MethodPrior]
) -> tuple[list[Candidate], list[CandidateReport]]:
    """The methods that published runs favour, at their default learning rates, and reports of the rest: a dry run of
    each of the catalogue's methods takes minutes and would not change the answer. Plain LoRA is always among them.
    """
    at_default = _at_middle_rates(candidates)
    ranked = [at_default[name] for name in priors if name in at_default]  # priors come best first
    chosen = [c for i, c in enumerate(ranked) if i < SHORTLIST or c.method.name == REFERENCE]
    rest = [c for c in at_default.values() if c not in chosen]
    return chosen, [
        _without_probe(
            c,
            survey,
            "not tried",
            "published runs favour others" if c.method.name in priors else "no published run to judge it by",
        )
        for c in rest
    ]


def judge_from_table(
    survey: Survey, candidates: Sequence[Candidate], priors: Mapping[str, MethodPrior]
) -> list[CandidateReport]:
    """Reports whose quality is the share of methods beaten in the benchmark table: the answer without probes."""
    reports = []
    for candidate in candidates:
        prior = priors[candidate.method.name]
        predicted = Prediction(
            metric="table rank", value=prior.score, low=prior.low, high=prior.high, extrapolated=True
        )
        status = "reference" if candidate.method.reference_only else "from table"
        report = _without_probe(candidate, survey, status, "known from published runs")
        # What trains is held as it is saved, but for what becomes a LoRA of twice its rank.
        is_known = candidate.memory is not None and not candidate.method.saved_size_differs
        adapter_bytes = candidate.memory.breakdown.get("adapter") if is_known else None
        if adapter_bytes is not None:
            adapter_bytes *= candidate.method.saved_rank_factor
        reports.append(report.model_copy(update={"predicted": predicted, "adapter_bytes": adapter_bytes}))
    return reports


def _without_probe(candidate: Candidate, survey: Survey, status: str, reason: str) -> CandidateReport:
    return report_without_probe(
        candidate.method,
        survey,
        status,
        reason,
        learning_rate=candidate.learning_rate,
        memory=candidate.memory,
        peft_config=candidate.peft_config,
    )


def _report(
    candidate: Candidate,
    survey: Survey,
    evidence: Evidence,
    baseline: Baseline,
    forecast: Forecast | None,
    sampling_noise: float,
    token_noise: float | None,
    reason_left: str | None,
    is_finalist: bool,
    step_s: float | None,
    probed_on: str,
) -> CandidateReport:
    method, outcomes = candidate.method, evidence.outcomes.get(candidate.id, [])
    failure = evidence.failed.get(candidate.id)
    curve = evidence.curves.get(candidate.id, Curve())
    probe_peak_bytes = max((o.peak_bytes for o in outcomes if o.peak_bytes), default=None)
    # A probe that ran out of memory, or did its batches in parts, held something else than the run will; what a process
    # holds on a processor says nothing of a card.
    in_whole = all(o.micro_batches == 1 and o.status != "out of memory" for o in outcomes)
    held_bytes = probe_peak_bytes if in_whole and probed_on == survey.device.kind else None
    return CandidateReport(
        name=method.name,
        title=method.title,
        peft_type=method.peft_type,
        learning_rate=candidate.learning_rate,
        status=_status(candidate, failure, curve, is_finalist),
        reason=failure.reason if failure else reason_left or ("" if curve.points else UNREACHED),
        curve=curve,
        predicted=_with_noise(
            forecast.metric, _metric_noise(forecast, min(EVAL_ROWS, survey.data.profile.eval_rows), token_noise)
        )
        if forecast
        else None,
        predicted_loss=_with_noise(forecast.loss, _loss_noise(forecast, sampling_noise)) if forecast else None,
        baseline_value=baseline.metric,
        baseline_loss=baseline.eval_loss,
        memory=corrected_memory(candidate, survey, curve.last_step, held_bytes) or measured_memory(held_bytes),
        probe_peak_bytes=probe_peak_bytes,
        probe_s=sum(o.duration_s for o in outcomes) if outcomes else None,
        micro_batches=max((o.micro_batches for o in outcomes), default=1),
        planned_run_s=step_s * survey.planned_run.max_steps if step_s else None,
        tokens_per_s=_tokens_per_s(outcomes),
        trainable_parameters=_trainable(evidence, candidate.id),
        adapter_bytes=next((o.adapter_bytes for o in reversed(outcomes) if o.adapter_bytes is not None), None),
        **_forgetting(outcomes, survey.planned_run.max_steps),
        latency_overhead=next((o.latency_overhead for o in reversed(outcomes) if o.latency_overhead is not None), None),
        capabilities=capabilities_of(method, survey),
        peft_config=candidate.peft_config,
    )


def _forgetting(outcomes: Sequence[ProbeOutcome], max_steps: int) -> dict[str, Any]:
    """The fields about forgetting, from the last probe in which it was measured."""
    measured = next((o for o in reversed(outcomes) if o.forgetting is not None), None)
    if measured is None:
        return {"forgetting_note": outcomes[-1].forgetting_note if outcomes else ""}
    return {
        "forgetting": measured.forgetting,
        "forgetting_noise": measured.forgetting_noise,
        "forgetting_share": min(1.0, measured.last_step / max_steps),
    }


def _with_noise(prediction: Prediction | None, noise: float) -> Prediction | None:
    return prediction.model_copy(update={"noise": noise}) if prediction else None


def _loss_noise(forecast: Forecast, sampling_noise: float) -> float:
    """What is the candidate's own in the forecast's error, and what the choice of held-out rows adds to it."""
    return 0.0 if forecast.loss is None else math.hypot(forecast.loss_noise, sampling_noise * forecast.loss.value)


def _metric_noise(forecast: Forecast, rows: int, token_noise: float | None) -> float:
    """The same for the metric: shares such as exact match vary with the rows that are evaluated as counts do, right
    tokens as they do from row to row (a share of their mean). How a metric of the user's own varies is not known."""
    if forecast.metric is None or not is_share(forecast.metric.metric):
        return forecast.metric_noise
    if token_noise is not None:
        return math.hypot(forecast.metric_noise, token_noise * forecast.metric.value)
    rows = max(2, rows)
    share = min(max(forecast.metric.value, 1 / rows), 1 - 1 / rows)
    return math.hypot(forecast.metric_noise, Z_80 * math.sqrt(share * (1 - share) / rows))


def _status(candidate: Candidate, failure: ProbeOutcome | None, curve: Curve, is_finalist: bool) -> str:
    if failure:
        return failure.status
    if not curve.points:
        return "not tried"
    if candidate.method.reference_only:
        return "reference"
    return "finished" if is_finalist else "eliminated"


def _is_usable(candidate: Candidate, evidence: Evidence) -> bool:
    curve = evidence.curves.get(candidate.id)
    return bool(curve and curve.points) and candidate.id not in evidence.failed


def _trainable(evidence: Evidence, id: str) -> int | None:
    outcomes = evidence.outcomes.get(id, [])
    return next((o.trainable_parameters for o in reversed(outcomes) if o.trainable_parameters), None)


def _sampling(evidence: Evidence, ids: Iterable[str], column: str) -> dict[str, float]:
    """The noise of the held-out rows, by a column of each one's last evaluation; of a probe that was cut off, which has
    none, the largest of the others."""
    rows = {
        id: next((found for o in reversed(evidence.outcomes.get(id, [])) if (found := getattr(o, column))), ())
        for id in ids
    }
    noise = held_out_noise(rows)
    return {id: noise.get(id, max(noise.values())) for id in rows} if noise else {}


def _step_s(outcomes: Sequence[ProbeOutcome]) -> float | None:
    """Seconds per optimizer step of the last jobs of a method's candidates. Learning rates take the same time, and one
    short probe may have had a busy machine. train_s and last_step count from a probe's beginning."""
    done = [o for o in outcomes if o.last_step and o.train_s]
    return sum(o.train_s for o in done) / sum(o.last_step for o in done) if done else None


def _tokens_per_s(outcomes: Sequence[ProbeOutcome]) -> float | None:
    done = [o for o in outcomes if o.trained_tokens and o.train_s]
    return done[-1].trained_tokens / done[-1].train_s if done else None
