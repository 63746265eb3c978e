"""From candidates to one recommendation with its reasons. Deterministic: equal input gives equal words.

The objective names a target among the candidates that fit. What is expected to end where the target does is as good as
it, and of these the cheapest is taken: memory, then forgetting, then time, then how easily it is deployed. What lies
within noise of the pick is told as tied, for nothing is proven there, but an expected gain is not given up for a cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from advisor.deciding.case import Case
from advisor.deciding.costs import FELT_S, KEPT_GAIN, Scale
from advisor.deciding.deciding_quality import deciding_quality
from advisor.deciding.frontier import is_eligible, pareto_members
from advisor.deciding.quality import (
    QualityField,
    as_good_as,
    equal_within,
    point_of,
    share_of_gain,
    value_of,
)
from advisor.deciding.rates import best_of_each_method
from advisor.deciding.wording import explain, standing
from advisor.recommendation import CandidateReport, Decision
from advisor.request import Objective
from knowledge.prior import REFERENCE
from knowledge.schema import PlannedRun
from probes.schema import DatasetProfile, DeviceReport

# What each objective trades, in shares of the best candidate's gain over the untuned model.
# Ten percent of the memory of the device are worth one percent of the gain. Forecasts lie closer together than ends: of
# 150 races at a tenth of the sweep's cost on 63 published runs, on a card of 48 GB, this gives up .0016 in accuracy for
# .6 GB, as .03 and .05 do; with .5 it was .0123 for 1.6 GB (60 races), most of what a race is for.
BALANCED_MEMORY_WEIGHT = 0.1
# A run of half the time is worth half a percent; a minute is added to each, so that nothing is given up for seconds. Of
# twelve races of tests/benchmarks/trials.py, from which the need came, one pick changes: OSF would have been taken for
# .2 points, within noise, at three times the time and the memory. On fourteen tasks whose times are known none does
# (fifteen races each at a tenth and at a fifth), and on the 63 published runs nothing is given up in accuracy (150
# races each), where two percent gave up .0008 and .0006.
BALANCED_TIME_WEIGHT = 0.005


def decide(
    candidates: Sequence[CandidateReport],
    device: DeviceReport,
    objective: Objective,
    *,
    planned_run: PlannedRun | None = None,
    data: DatasetProfile | None = None,
) -> tuple[list[CandidateReport], Decision | None]:
    """The candidates with `fits`, `on_frontier` and `reason` set, and the pick, or None where there can be none.

    `fits` says what is likely; the warnings tell what an unlucky order of batches would need. The order of `candidates`
    is kept and does not influence the pick; references are never picked. `planned_run` and `data` sharpen the
    confidence and the warnings.
    """
    judged, case = weigh(candidates, device, objective, planned_run=planned_run, data=data)
    if case is None:
        return judged, None
    return [c.model_copy(update={"reason": standing(c, case)}) for c in judged], explain(case)


def weigh(
    candidates: Sequence[CandidateReport],
    device: DeviceReport,
    objective: Objective,
    *,
    planned_run: PlannedRun | None,
    data: DatasetProfile | None,
) -> tuple[list[CandidateReport], Case | None]:
    """The candidates with `fits` and `on_frontier` set, and the pick with all that it was weighed against."""
    judged = [c.model_copy(update={"fits": _fits(c, device), "on_frontier": False}) for c in candidates]
    quality = deciding_quality(judged)
    if not any(is_eligible(c, quality) for c in judged):
        return judged, None
    case = _weigh_by(quality, judged, device, objective, planned_run, data)
    return list(case.candidates), case


def _weigh_by(
    quality: QualityField,
    judged: Sequence[CandidateReport],
    device: DeviceReport,
    objective: Objective,
    planned_run: PlannedRun | None,
    data: DatasetProfile | None,
) -> Case:
    """The case where candidates are compared by that; one of them at least is eligible by it."""
    eligible = sorted((c for c in judged if is_eligible(c, quality)), key=lambda c: c.identity)
    # A rate that another rate of its method beat at equal steps is out of the comparison, whatever its shorter
    # probe is thought to lead to.
    rivals = best_of_each_method(eligible, quality)
    points = [point_of(c, quality) for c in rivals]
    members = {rivals[i].identity for i in pareto_members(points, equal_within(rivals, quality))}
    judged = [c.model_copy(update={"on_frontier": c.identity in members}) for c in judged]
    best_rates = {c.identity for c in rivals}
    rivals = sorted((c for c in judged if c.identity in best_rates), key=lambda c: c.identity)
    contenders = _contenders(rivals, objective, quality)
    scale = Scale(objective, quality, device.limit_bytes)
    target = _target(contenders, scale)
    left, steps = scale.cheapest(as_good_as(target, contenders, quality))
    pick = _best_of(left, quality, equal_within(rivals, quality))
    return Case(pick, target, rivals, contenders, judged, objective, quality, device, planned_run, data, steps)


def _best_of(left: Sequence[CandidateReport], quality: QualityField, equal: float) -> CandidateReport:
    """Of those that no cost tells apart: who is expected to end best, and of ends that are taken for equal the one that
    needs the least memory, if by less than anyone feels: no other pick is on the frontier."""
    best = max(value_of(c, quality) for c in left)
    alike = [c for c in left if value_of(c, quality) >= best - equal]

    def order(candidate: CandidateReport) -> tuple[Any, ...]:
        point = point_of(candidate, quality)
        return point.memory_step, -point.value, candidate.name != REFERENCE, *candidate.identity

    return min(alike, key=order)


def _fits(candidate: CandidateReport, device: DeviceReport) -> bool | None:
    return None if candidate.memory is None else candidate.memory.is_likely_to_fit(device.limit_bytes)


def _contenders(
    rivals: Sequence[CandidateReport], objective: Objective, quality: QualityField
) -> list[CandidateReport]:
    """Who may be picked: those that stayed in the race, for the others were behind at equal steps. Where memory or
    speed decides also those of them that keep enough of the gain at the worse end of their intervals: what a short
    probe is expected to lead to is drawn to what the others lead to."""
    stayed = [c for c in rivals if c.status != "eliminated"]
    if not stayed or objective in ("accuracy", "balanced"):
        return stayed or list(rivals)
    best = max(stayed, key=lambda c: value_of(c, quality))
    kept = {c.name: share_of_gain(point_of(c, quality).low, best, rivals, quality) for c in rivals}
    return [c for c in rivals if c in stayed or kept[c.name] >= KEPT_GAIN[objective]]


def _target(contenders: Sequence[CandidateReport], scale: Scale) -> CandidateReport:
    """The candidate that the objective asks for, by expected values."""
    objective, quality = scale.objective, scale.quality
    best = max(contenders, key=lambda c: value_of(c, quality))
    if objective == "accuracy":
        return best
    kept = {c.name: share_of_gain(value_of(c, quality), best, contenders, quality) for c in contenders}
    if objective == "balanced":
        longest_s = max((c.planned_run_s for c in contenders if c.planned_run_s is not None), default=0.0)
        return max(contenders, key=lambda c: kept[c.name] - _price(c, scale, longest_s))
    good_enough = [c for c in contenders if kept[c.name] >= KEPT_GAIN[objective]]
    return max(scale.least(good_enough), key=lambda c: value_of(c, quality))


def _price(candidate: CandidateReport, scale: Scale, longest_s: float) -> float:
    """What memory and time are worth, in shares of the best gain; a time that is not known counts as the longest."""
    seconds = longest_s if candidate.planned_run_s is None else candidate.planned_run_s
    doublings = math.log2(seconds + FELT_S)
    return BALANCED_MEMORY_WEIGHT * scale.share_of_memory(candidate) + BALANCED_TIME_WEIGHT * doublings
