"""Whether candidates are compared by the task's metric or by the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from advisor.deciding.frontier import is_eligible
from advisor.deciding.quality import Point, QualityField, beats, is_clearer, noise_between, point_of, value_of
from advisor.recommendation import CandidateReport
from probes.metrics import counts_rows_alike

SHARPER = 1.25  # the metric is what people ask for: the loss stands in only where it separates a quarter more pairs


def deciding_quality(candidates: Sequence[CandidateReport]) -> QualityField:
    """What candidates are compared by: metric or loss, whichever tells more pairs of them apart. If the two put
    different candidates first, of those that stayed in the race, the one decides whose lead is clearer beside its
    noise. A metric that is no plain share of right answers (macro F1, one's own) then decides where its lead is more
    than noise.

    Either tells little on some dozens of held-out rows, and both together most: of ten candidates at the ends of their
    runs, on 64 rows of eight tasks, the one with most right answers has 2.3 points fewer of the other rows right than
    the best, the one with the lowest loss as many, and what is taken here 2.0; in loss they end .049, .024 and .028
    nats above the best (python -m examples.study.held_out_rows).
    """
    stayed = [c for c in candidates if c.status == "finished" and is_eligible(c, "predicted")]
    if not all(is_eligible(c, "predicted_loss") for c in stayed):
        return sharper_quality(candidates)
    metric, loss = get_args(QualityField)
    one, other = (max(stayed, key=lambda c: _rank(c, field), default=None) for field in (metric, loss))
    if one is other or value_of(one, metric) == value_of(other, metric):
        return sharper_quality(candidates)
    if not counts_rows_alike(one.predicted.metric):
        return metric if beats(one, other, metric) else sharper_quality(candidates)
    leads = {field: abs(value_of(one, field) - value_of(other, field)) for field in (metric, loss)}
    noise = {field: noise_between(one, other, field) for field in (metric, loss)}
    return loss if is_clearer(leads[loss], noise[loss], leads[metric], noise[metric]) else metric


def _rank(candidate: CandidateReport, first: QualityField) -> tuple[float | str, ...]:
    """Of those that are equal in the one, as few rows often leave them, the better in the other leads."""
    values = (value_of(candidate, field) for field in (first, *get_args(QualityField)))
    return *values, candidate.name, candidate.learning_rate


def sharper_quality(candidates: Sequence[CandidateReport]) -> QualityField:
    """Which prediction tells more candidates apart; the task's metric unless the loss is clearly sharper, or known for
    candidates of which the metric cannot be predicted.

    On 40 held-out rows an exact match has a standard error of 7 points while the loss still separates methods.
    """
    by_loss, by_metric = (_eligible_points(candidates, field) for field in ("predicted_loss", "predicted"))
    sharper = _separated_pairs(by_loss) > SHARPER * _separated_pairs(by_metric)
    return "predicted_loss" if sharper or len(by_loss) > len(by_metric) else "predicted"


def _eligible_points(candidates: Sequence[CandidateReport], quality: QualityField) -> list[Point]:
    return [point_of(c, quality) for c in candidates if is_eligible(c, quality)]


def _separated_pairs(points: Sequence[Point]) -> int:
    return sum(a.leads(b) for a in points for b in points)
