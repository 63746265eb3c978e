"""Puts together the Result: the stations' findings with the versions they were made with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from advisor.forecast.own_task import suite_of_survey
from advisor.published import PublishedAnswer
from advisor.recommendation import CandidateReport, Decision, RaceReport, Result, TrainingPlan
from advisor.requirements.effects import effects
from advisor.survey import Survey
from advisor.versions import library_versions
from knowledge.methods import get_method
from knowledge.places import at_home


def make_result(
    survey: Survey | PublishedAnswer,
    candidates: Sequence[CandidateReport],
    race: RaceReport | None,
    decision: Decision | None,
    command: str,
) -> Result:
    """Everything that is known at the end, as data."""
    return Result(
        advisor_version=version("peft-advisor"),
        versions=library_versions(),
        command=command,
        request=survey.request.model_dump(mode="json"),
        model=survey.model,
        data=survey.data.profile if survey.data else None,
        device=survey.device,
        planned_run=survey.planned_run,
        candidates=tuple(candidates),
        requirements=effects(survey.request.require, candidates),
        race=race,
        recommendation=decision,
        training=training_plan(survey, decision),
        benchmark=suite_of_survey(survey),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def training_plan(survey: Survey | PublishedAnswer, decision: Decision | None) -> TrainingPlan | None:
    """What a trainer must know beside the PEFT config; None where there is nothing to train."""
    if decision is None or survey.data is None:
        return None
    return TrainingPlan(
        **facts_of_method(decision),
        data_path=_absolute(survey.data.profile.path),
        data_format=survey.data.profile.format,
        data_columns=survey.data.profile.columns,
        eval_path=_absolute(survey.data.profile.eval_path),
        held_out_key=survey.data.held_out_key,
        keyed_by=survey.data.keyed_by,
        eval_rows=survey.data.profile.eval_rows,
        metric_name=survey.data.profile.metric_name,
        label_names=survey.data.label_names,
        uses_chat_template=survey.uses_chat_template,
        pad_token=survey.pad_token,
    )


def _absolute(data: str) -> str:
    """A file's path wherever a later command is run from; the id of a hub dataset as it is."""
    path = at_home(data)
    return str(path.resolve()) if path.is_file() else data


def facts_of_method(decision: Decision) -> dict[str, Any]:
    """The fields of a TrainingPlan that depend on what was picked."""
    method = get_method(decision.name)
    return {
        "learning_rate": decision.learning_rate,
        "optimizer": method.optimizer,
        "optimizer_settings": method.optimizer_settings,
        "weight_decay": method.weight_decay,
        "through_model_loss": method.trains_through_model_loss,
        "setup_by": None if method.is_plain_peft or method.peft_type is None else method.name,
        "trains": method.trains,
    }
