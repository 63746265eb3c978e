"""Single tokens that are right take the place of exact match where a race saw not one right answer.

Of open-ended texts no answer is ever right as a whole, and of hard tasks none is yet: exact match is 0 for all then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from advisor.survey import Survey
from knowledge.schema import Curve, CurvePoint
from probes.evidence import Evidence
from probes.schema import Baseline

WHOLE_ANSWERS, SINGLE_TOKENS = "exact match", "token accuracy"


def with_telling_metric(
    survey: Survey, evidence: Evidence, baseline: Baseline, say: Callable[[str], None]
) -> tuple[Survey, Evidence, Baseline]:
    """All three in token accuracy, where nobody asked for exact match and no candidate had an answer right; as they are
    otherwise, and where the race was begun by a version that did not measure both."""
    assert survey.data is not None
    points = [point for curve in evidence.curves.values() for point in curve.points]
    if survey.request.metric is not None or survey.data.profile.metric_name != WHOLE_ANSWERS or not points:
        return survey, evidence, baseline
    if baseline.metric or any(point.metric or point.token_accuracy is None for point in points):
        return survey, evidence, baseline
    say(f"no candidate had a held-out answer right as a whole: the metric is {SINGLE_TOKENS}, not {WHOLE_ANSWERS}")
    return (
        replace(survey, data=survey.data.judged_by(SINGLE_TOKENS)),
        replace(evidence, curves={id: judged_by(SINGLE_TOKENS, curve) for id, curve in evidence.curves.items()}),
        baseline.model_copy(update={"metric": baseline.token_accuracy}),
    )


def judged_by(metric_name: str, curve: Curve) -> Curve:
    """The curve in token accuracy, where that is asked for and was measured beside its own metric."""
    if metric_name != SINGLE_TOKENS or curve.metric_name != WHOLE_ANSWERS:
        return curve
    measures = {"metric", "token_accuracy"}
    points = [CurvePoint(metric=p.token_accuracy, **p.model_dump(exclude=measures)) for p in curve.points]
    return Curve(points=tuple(points), metric_name=metric_name)
