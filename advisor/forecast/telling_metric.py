"""Single tokens that are right take the place of exact match where a race saw not one right answer.

Of open-ended texts no answer is ever right as a whole, and of hard tasks none is yet: exact match is 0 for all then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from advisor.survey import Survey
from knowledge.schema import OWN, Curve, CurvePoint, RunRecord, held_out
from probes.racing.evidence import Evidence
from probes.schema import Baseline, ProbeOutcome

WHOLE_ANSWERS, SINGLE_TOKENS = "exact match", "token accuracy"


def with_telling_metric(
    survey: Survey, evidence: Evidence, baseline: Baseline, say: Callable[[str], None]
) -> tuple[Survey, Evidence, Baseline]:
    """All three in token accuracy, where nobody asked for exact match and no candidate had an answer right; as they are
    otherwise, and where the race was begun by a version that did not measure both."""
    assert survey.data is not None
    points = [point for curve in evidence.curves.values() for point in curve.points]
    ended = [o.all_rows for outcomes in evidence.outcomes.values() for o in outcomes if o.all_rows]
    points += [point for all_rows in ended for point in (all_rows.end, all_rows.untuned)]
    asked_otherwise = survey.request.metric is not None or survey.data.profile.metric_name != WHOLE_ANSWERS
    if asked_otherwise or not evidence.curves:
        return survey, evidence, baseline
    if baseline.metric or any(point.metric or point.token_accuracy is None for point in points):
        return survey, evidence, baseline
    say(f"no candidate had a held-out answer right as a whole: the metric is {SINGLE_TOKENS}, not {WHOLE_ANSWERS}")
    return (
        replace(survey, data=survey.data.judged_by(SINGLE_TOKENS, instead_of=WHOLE_ANSWERS)),
        replace(
            evidence,
            curves={id: judged_by(SINGLE_TOKENS, curve) for id, curve in evidence.curves.items()},
            outcomes={id: [*map(_ended_in_tokens, outcomes)] for id, outcomes in evidence.outcomes.items()},
        ),
        baseline.model_copy(update={"metric": baseline.token_accuracy}),
    )


def judged_by(metric_name: str, curve: Curve) -> Curve:
    """The curve in token accuracy, where that is asked for and was measured beside its own metric."""
    if metric_name != SINGLE_TOKENS or curve.metric_name != WHOLE_ANSWERS:
        return curve
    return Curve(points=tuple(map(_in_tokens, curve.points)), metric_name=metric_name)


def in_metric(metric_name: str, record: RunRecord) -> RunRecord:
    """A finished run of the user's judged by that metric, where its curve can be."""
    curve = judged_by(metric_name, record.curve)
    if record.source != OWN or curve is record.curve or not curve.points:
        return record
    changes = {"curve": curve, "metric": curve.points[-1].metric, "metric_name": held_out(metric_name)}
    return record if changes["metric"] is None else record.model_copy(update=changes)


def _ended_in_tokens(outcome: ProbeOutcome) -> ProbeOutcome:
    if (measured := outcome.all_rows) is None:
        return outcome
    in_tokens = {"end": _in_tokens(measured.end), "untuned": _in_tokens(measured.untuned)}
    return outcome.model_copy(update={"all_rows": measured.model_copy(update=in_tokens)})


def _in_tokens(point: CurvePoint) -> CurvePoint:
    return CurvePoint(metric=point.token_accuracy, **point.model_dump(exclude={"metric", "token_accuracy"}))
