"""The fourth station: what the evidence says about the end of the planned run, candidate by candidate."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from advisor.candidates import Candidate, report_without_probe
from advisor.deciding.quality import EQUALLY_FAR, TABLE_RANK
from advisor.forecast.all_rows import Shift, on_all_rows, shifts_of
from advisor.forecast.end_model import Probe
from advisor.forecast.final_loss import Noise
from advisor.forecast.held_out import (
    EVAL_ROWS,
    RowsNoise,
    held_out_noise,
    loss_noise,
    metric_noise,
    of_all,
    own_parts,
    paired,
)
from advisor.forecast.own_ends import own_ends
from advisor.forecast.own_task import benchmark_of_survey
from advisor.forecast.predictor import Predictor
from advisor.forecast.run_time import time_bound, time_interval
from advisor.forecast.telling_metric import SINGLE_TOKENS, in_metric
from advisor.measured import Measured, step_s_by_method
from advisor.memory.planned_memory import adapter_bytes_of, corrected_memory, measured_memory
from advisor.recommendation import CandidateReport, Prediction, Status
from advisor.survey import Survey
from advisor.text import rate_text
from knowledge.prior import REFERENCE, MethodPrior
from knowledge.schema import CurvePoint, MemoryEstimate, RunRecord
from probes.metrics import independent_rows
from probes.racing.evidence import Evidence
from probes.racing.race import Race
from probes.schema import Baseline

UNREACHED = "the race ended before it was evaluated"
SHORTLIST = 8  # methods of an answer without probes


def judge(
    survey: Survey,
    candidates: Sequence[Candidate],
    evidence: Evidence,
    race: Race,
    baseline: Baseline,
    records: Sequence[RunRecord],
    probed_on: str,
    speed_up: float = 1.0,
) -> list[CandidateReport]:
    """A report for each candidate that entered the race, with predictions where there is a curve.

    `probed_on` is the kind of device that the probes ran on: cuda, mps or cpu; `speed_up` how many times faster a run
    may be that has it alone.
    """
    records = [in_metric(survey.data.profile.metric_name, record) for record in records]
    own = own_ends(survey, candidates, records)
    found = [Measured.of(candidate, evidence, own.get(candidate.id)) for candidate in candidates]
    usable = [one for one in found if one.is_usable]
    shifts = shifts_of(usable)
    predicted = _predictions(usable, shifts, survey, baseline, records)
    untuned = next((one.all_rows.untuned for one in usable if one.candidate.id in shifts), baseline)
    step_s, bound = step_s_by_method(found), time_bound(one.curve for one in found)
    max_steps = survey.planned_run.max_steps
    reports = []
    for one in found:
        candidate = one.candidate
        report = _bare_report(candidate, survey, *_standing(one, race, max_steps))
        run_s = step_s[name] * max_steps if (name := candidate.method.name) in step_s else None
        done_share = min(1.0, one.probed_steps / max_steps)
        fields = {
            "baseline_value": untuned.metric,
            "baseline_loss": untuned.eval_loss,
            "memory": _memory(one, survey, probed_on),
            "planned_run_s": run_s,
            "rests_on_own_runs": one.ended_before is not None,
            "planned_run_range_s": time_interval(run_s, bound, done_share, speed_up) if run_s else None,
        }
        reports.append(report.model_copy(update=fields | one.fields(max_steps) | predicted.get(candidate.id, {})))
    return reports


def _predictions(
    found: Sequence[Measured],
    shifts: Mapping[str, Shift],
    survey: Survey,
    baseline: Baseline,
    records: Sequence[RunRecord],
) -> dict[str, dict[str, Prediction | None]]:
    """Per candidate the fields of its report that tell the end of the planned run. shifts: of those that were evaluated
    on all held-out rows."""
    assert survey.data is not None
    profile = survey.data.profile
    predictor = Predictor(
        records,
        benchmark=benchmark_of_survey(survey),
        task=survey.planned_run.task,
        label_mean_tokens=profile.label_mean_tokens,
    )
    start = CurvePoint(step=0, eval_loss=baseline.eval_loss, metric=baseline.metric)
    probes = {one.candidate.id: _probe(one) for one in found}
    forecasts = predictor.predict(probes, survey.planned_run.max_steps, profile.metric_name, start)
    first_rows = min(EVAL_ROWS, profile.eval_rows)
    of_rows = _rows_noise(found, profile.metric_name, baseline, first_rows)
    rows_told = profile.eval_rows if shifts else first_rows
    fields = {}
    for id, forecast in on_all_rows(forecasts, shifts).items():
        rows = profile.eval_rows if id in shifts else first_rows
        trials = independent_rows(profile.metric_name, survey.data.eval.class_labels, rows)
        fields[id] = {
            "predicted": _with_noise(forecast.metric, metric_noise(forecast, trials, of_rows[id]), rows_told),
            "predicted_loss": _with_noise(forecast.loss, loss_noise(forecast, of_rows[id].loss), rows_told),
        }
    return fields


def _rows_noise(
    found: Sequence[Measured], metric_name: str, baseline: Baseline, first_rows: int
) -> dict[str, RowsNoise]:
    """Per candidate what the choice of the held-out rows leaves open."""
    nats, tokens = ({one.candidate.id: one.newest(name) or () for one in found} for name in ("row_losses", "row_right"))
    # The tokens of a row are right or wrong together, so they are no independent trials as whole answers are.
    tells_tokens = metric_name == SINGLE_TOKENS
    longest = max((one.probed_steps for one in found), default=0)
    farthest = [one.candidate.id for one in found if one.probed_steps >= EQUALLY_FAR * longest]
    labels = next((one.all_rows.row_labels for one in found if one.all_rows), baseline.row_labels)
    answers = {id: [*map(operator.eq, right, labels)] for id, right in tokens.items()}
    of_loss = of_all(paired(held_out_noise, nats, farthest, first_rows), nats)
    of_tokens = of_all(paired(held_out_noise, tokens, farthest, first_rows), nats) if tells_tokens else {}
    of_answers = of_all(paired(own_parts, answers, farthest, first_rows), nats)
    return {id: RowsNoise(of_loss.get(id, 0.0), of_tokens.get(id), of_answers.get(id, 1.0)) for id in nats}


def _probe(found: Measured) -> Probe:
    return Probe(
        curve=found.curve,
        learning_rate=found.candidate.learning_rate,
        trainable_parameters=found.newest("trainable_parameters") or 1,
        is_prompt=found.candidate.method.family == "prompt",
    )


def _with_noise(prediction: Prediction | None, noise: Noise, rows: int) -> Prediction | None:
    fields = {"noise": noise.alike, "noise_apart": noise.apart, "rows": rows}
    return prediction.model_copy(update=fields) if prediction else None


def _standing(found: Measured, race: Race, max_steps: int) -> tuple[Status, str]:
    """Where the race left a candidate, and why."""
    id = found.candidate.id
    if found.failure:
        return found.failure.status, found.failure.reason
    why_left = next((decision.left[id] for decision in reversed(race.decisions) if id in decision.left), "")
    if not found.curve.points:
        return "not tried", why_left or UNREACHED
    if found.candidate.method.reference_only:
        return "reference", why_left
    came_back = id in race.beaten and found.curve.last_step >= max_steps
    if came_back or found.ended_before:  # its end is measured, whoever was ahead on the way
        return "finished", ""
    return "finished" if id in race.finalists else "eliminated", why_left


def _memory(found: Measured, survey: Survey, probed_on: str) -> MemoryEstimate | None:
    """Of the planned run. What a process holds on a processor says nothing of a card."""
    tells = found.did_whole_batches and probed_on == survey.device.kind
    held_bytes = found.peak_bytes if tells else None
    estimate = corrected_memory(found.candidate, survey, found.probed_steps, held_bytes)
    return estimate or measured_memory(held_bytes)


def not_tried(survey: Survey, candidates: Sequence[Candidate], reasons: Mapping[str, str]) -> list[CandidateReport]:
    """One report per method that the budget did not reach, not one per learning rate."""
    missed = _by_method([c for c in candidates if c.id in reasons]).values()
    return [_bare_report(c, survey, "not tried", reasons[c.id]) for c in map(_at_middle_rate, missed)]


def would_be_probed(survey: Survey, candidates: Sequence[Candidate]) -> list[CandidateReport]:
    """One report per method that the plan of a dry run lets enter, with its memory."""
    reports = []
    for of_one in _by_method(candidates).values():
        rates = ", ".join(rate_text(c.learning_rate) for c in of_one)
        reason = f"at learning rate{'s' if len(of_one) > 1 else ''} {rates}"
        reports.append(_bare_report(_at_middle_rate(of_one), survey, "planned", reason))
    return reports


def _by_method(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """The candidates of each method, by rising learning rate."""
    by_method: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_method.setdefault(candidate.method.name, []).append(candidate)
    return {name: sorted(of_one, key=lambda c: c.learning_rate) for name, of_one in by_method.items()}


def _at_middle_rate(of_one: Sequence[Candidate]) -> Candidate:
    """Of a method's candidates the one that is at the default rate, where all are there."""
    return of_one[len(of_one) // 2]


def shortlist_from_table(
    survey: Survey, candidates: Sequence[Candidate], priors: Mapping[str, MethodPrior]
) -> tuple[list[Candidate], list[CandidateReport]]:
    """The methods that published runs favour, at their default learning rates, and reports of the rest: a dry run of
    each of the catalogue's methods takes minutes and would not change the answer. Plain LoRA is always among them.
    """
    at_default = {name: _at_middle_rate(of_one) for name, of_one in _by_method(candidates).items()}
    ranked = [at_default[name] for name in priors if name in at_default]  # priors come best first
    chosen = [c for i, c in enumerate(ranked) if i < SHORTLIST or c.method.name == REFERENCE]
    rest = [c for c in at_default.values() if c not in chosen]
    return chosen, [
        _bare_report(
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
        predicted = Prediction(metric=TABLE_RANK, value=prior.score, low=prior.low, high=prior.high, extrapolated=True)
        status = "reference" if candidate.method.reference_only else "from table"
        known_from = "own runs of this task and published ones" if prior.knows_task else "published runs"
        report = _bare_report(candidate, survey, status, f"known from {known_from}")
        fields = {
            "predicted": predicted,
            "adapter_bytes": adapter_bytes_of(candidate),
            "rests_on_own_runs": prior.knows_task,
        }
        reports.append(report.model_copy(update=fields))
    return reports


def _bare_report(candidate: Candidate, survey: Survey, status: str, reason: str) -> CandidateReport:
    return report_without_probe(
        candidate.method,
        survey,
        status,
        reason,
        learning_rate=candidate.learning_rate,
        memory=candidate.memory,
        peft_config=candidate.peft_config,
    )
