"""What speaks against a pick in the data: how little they can tell, and whether a classifier looks at them at all."""

from __future__ import annotations

import math

from advisor.data_notes import notes_on
from advisor.deciding.case import Case
from advisor.forecast.held_out import EVAL_ROWS
from advisor.text import plural, quality_text
from probes.metrics import MACRO_F1
from probes.schema import DatasetProfile

SMALL_HELD_OUT_ROWS = 100
MANY_LEFT_OUT = 0.05  # share of the rows: fewer are what any collection has
SEEN_MARGIN = 0.01  # of accuracy, above that of the most frequent class


def data_doubts(case: Case, data: DatasetProfile) -> list[str]:
    """What the data leave open: few held-out rows, many that are left out, a sample gone over again, odd rows."""
    found = []
    if data.eval_rows < SMALL_HELD_OUT_ROWS:
        found.append(_held_out_warning(data.eval_rows, case.prediction.rows, case.metric))
    if sum(data.dropped.values()) > MANY_LEFT_OUT * data.rows:
        found.append(_left_out_warning(data))
    if repeated := _sample_warning(case, data):
        found.append(repeated)
    if data.metric_instead_of:
        told = f"{data.metric_name} is told instead of {data.metric_instead_of}"
        found.append(f"No candidate had a held-out answer right as a whole: {told}.")
    return found + notes_on(data)


def _held_out_warning(rows: int, measured_rows: int | None, metric: str) -> str:
    text = f"Only {plural(rows, 'held-out row')}"
    if metric in ("exact match", "accuracy"):  # one trial a row
        measured = measured_rows or min(EVAL_ROWS, max(1, rows))
        text += f": {metric} is known to about {100 * math.sqrt(0.25 / measured):.0f} points"
    return text + "."


def _left_out_warning(data: DatasetProfile) -> str:
    reasons = ", ".join(f"{count:,}: {reason}" for reason, count in data.dropped.items() if count)
    return f"{sum(data.dropped.values()):,} of the {data.rows:,} rows are left out ({reasons})."


def _sample_warning(case: Case, data: DatasetProfile) -> str:
    """Where a probe trained on rows of a sample again that the planned run would not have come to by then."""
    run, sample = case.planned_run, data.sample_rows
    if run is None or case.pick.rests_on_own_runs or data.tokenised_rows >= data.usable_rows or sample <= 0:
        return ""
    seen = case.pick.curve.last_step * run.rows_per_step
    if seen <= sample:
        return ""
    return (
        f"Its probe went {seen / sample:.1f} times over a sample of {sample:,} rows, where the planned run goes "
        f"{seen / data.train_rows:.1f} times over all {data.train_rows:,}: that may end otherwise."
    )


def blindness(case: Case) -> str:
    """Where a classifier does, or has done so far, no better than one that does not look."""
    return _as_good_as_blind(case) or _blind_so_far(case)


def _as_good_as_blind(case: Case) -> str:
    """Where a classifier is expected to be right no more often than one that does not look."""
    share = _right_without_looking(case)
    if share is None or case.pick.predicted.value > share + SEEN_MARGIN:
        return ""
    blind = f"Always naming the most frequent class would reach {_as_told(share, case)} on the held-out rows."
    is_macro = case.pick.predicted.metric == MACRO_F1
    return blind if is_macro else f"{blind} Where rare classes matter, --metric macro-f1 counts all classes alike."


def _blind_so_far(case: Case) -> str:
    """Where a classifier is expected to do better than that, and no probe of it has yet."""
    share, points = _right_without_looking(case), case.pick.curve.points
    if share is None or not 0 < (case.probed_share or 0) < 1:
        return ""
    if points[-1].metric is None or points[-1].metric > share + SEEN_MARGIN:
        return ""
    return (
        f"After {plural(points[-1].step, 'step')} it did no better than always naming the most frequent class "
        f"({_as_told(share, case)}): that it will is inferred from its loss."
    )


def _right_without_looking(case: Case) -> float | None:
    """What always naming the most frequent class gets, where the pick is told in accuracy or macro F1: there all of
    that class and nothing of the others."""
    share = case.data.largest_class_share if case.data is not None else None
    metric = case.pick.predicted.metric if case.pick.predicted is not None else None
    if share is None or metric not in ("accuracy", MACRO_F1):
        return None
    return share if metric == "accuracy" else 2 * share / (1 + share) / max(1, case.data.held_out_classes)


def _as_told(value: float, case: Case) -> str:
    return f"{case.pick.predicted.metric} {quality_text(value, case.pick.predicted.metric)}"
