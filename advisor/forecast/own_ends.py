"""Candidates that the user has trained to the end before, on this very task: their ends are known, not foretold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from advisor.candidates import Candidate
from advisor.forecast.own_task import suite_of_survey
from advisor.own_runs import CONFIG_KEYS_APART
from advisor.survey import Survey
from knowledge.prior import suite_of
from knowledge.schema import OWN, RunRecord


def own_ends(survey: Survey, candidates: Sequence[Candidate], records: Iterable[RunRecord]) -> dict[str, RunRecord]:
    """By candidate id the user's own finished run of it: with its settings, learning rate and seed, judged by the same
    metric. Of several the latest."""
    own = [record for record in records if record.source == OWN]
    if not own or survey.data is None:
        return {}
    suite, run, metric_name = suite_of_survey(survey), survey.planned_run, survey.data.profile.metric_name
    of_task = [
        record
        for record in sorted(own, key=lambda record: record.created_at)
        if suite_of(record) == suite
        and record.seed == run.seed
        and record.curve.metric_name == metric_name
        and record.curve.last_step >= run.max_steps
    ]
    return {c.id: record for c in candidates for record in of_task if _is_of(record, c)}


def _is_of(record: RunRecord, candidate: Candidate) -> bool:
    return (
        record.method == candidate.method.name
        and math.isclose(record.learning_rate, candidate.learning_rate, rel_tol=1e-6)
        and _as_kept(record.peft_config) == _as_kept(candidate.peft_config)
    )


def _as_kept(config: Mapping[str, Any] | None) -> str:
    """A PEFT config as the table keeps it: JSON knows lists alone."""
    kept = {key: value for key, value in (config or {}).items() if key not in CONFIG_KEYS_APART}
    return json.dumps(kept, sort_keys=True, default=sorted)
