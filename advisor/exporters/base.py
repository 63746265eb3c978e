"""What exporters share: the error for what a target cannot say, the canonical config, and the facts of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from advisor.deciding.quality import TABLE_RANK
from advisor.forecast.held_out import EVAL_ROWS
from advisor.recommendation import CandidateReport, Result, TrainingPlan
from knowledge.errors import AdvisorError, BadInput
from probes.gguf import model_folder


class NotExpressible(AdvisorError):
    """The target cannot say what was recommended; it would train something else."""

    exit_code = 2

    def __init__(self, reason: str, alternative: str) -> None:
        super().__init__(f"{reason} {alternative}")
        self.reason = reason
        self.alternative = alternative


@dataclass(frozen=True)
class Recommended:
    """The parts of a result that a trainer needs, checked to be there."""

    result: Result
    pick: CandidateReport
    plan: TrainingPlan

    @property
    def end_rows(self) -> int:
        """Held-out rows that the end of the run is measured on: those that its prediction is of; all of them where
        nothing was predicted."""
        made = [p for p in (self.pick.predicted, self.pick.predicted_loss) if p and p.metric != TABLE_RANK]
        first_rows = min(EVAL_ROWS, self.plan.eval_rows)
        return max((p.rows or first_rows for p in made), default=self.plan.eval_rows)


def recommended(result: Result) -> Recommended:
    """The pick with its training plan. Raises BadInput without a pick, NotExpressible without a plan."""
    pick = picked(result)
    if result.training is None:
        raise NotExpressible(
            "There is no training plan, for the recommendation was made without data.",
            "Run `advisor recommend` with --data to get files for a trainer.",
        )
    return Recommended(result, pick, result.training)


def picked(result: Result) -> CandidateReport:
    """The recommended candidate. Raises BadInput where there is none."""
    if result.pick is None:
        raise BadInput(
            "There is no recommendation: no candidate had a valid result that fits. "
            "`advisor report` on its folder says why."
        )
    return result.pick


def peft_config(pick: CandidateReport) -> dict[str, Any]:
    """The canonical config. Raises NotExpressible where no adapter is added."""
    if pick.peft_config is None:
        raise NotExpressible(
            f"{pick.title} adds no adapter, so there is no PEFT config.", "Use the training script instead."
        )
    return canonical(pick.peft_config)


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config of plain values in a fixed order: sets sorted, enums as their values, unset keys left out.

    Raises NotExpressible for a value that JSON cannot hold.
    """
    return {key: _config_value(key, config[key]) for key in sorted(config, key=_key_order) if config[key] is not None}


def _key_order(key: str) -> tuple[bool, bool, str]:
    return key != "peft_type", key != "task_type", key


def _config_value(key: str, value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): _config_value(key, v) for k, v in value.items()}
    if isinstance(value, Set):
        return sorted(_config_value(key, v) for v in value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_config_value(key, v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise NotExpressible(
        f"The setting {key} has a value of type {type(value).__name__} that a config file cannot hold.",
        "Use the Python API.",
    )


def model_location(result: Result) -> str:
    """What a trainer loads: hub id, folder or GGUF file."""
    return result.model.location or result.model.reference


def loads_gguf(result: Result) -> bool:
    """Whether the base is read from the GGUF file itself: transformers cannot quantise it on the way, so that a base in
    few bits comes from the folder of safetensors that the file was converted to for the probes."""
    return result.model.source == "gguf file" and result.planned_run.quantization == "none"


def script_model_location(result: Result) -> str:
    """What a script loads with transformers. Raises NotExpressible where a GGUF file would have to be converted and is
    not there."""
    location = model_location(result)
    if result.model.source != "gguf file" or loads_gguf(result):
        return location
    if not Path(location).is_file():
        raise NotExpressible(f"{location}, to be quantised, is not here.", "Export where the GGUF file is.")
    return str(model_folder(Path(location)))


def how_found(result: Result) -> str:
    """How the run came to be the one: 'recommended', unless the user has chosen another."""
    decision, pick = result.recommendation, result.pick
    if decision is None or pick is None or not decision.chosen_over:
        return "recommended"
    return "chosen from published runs" if pick.status == "from table" else "chosen from what was measured"


def provenance(result: Result) -> list[str]:
    """Lines for the head of a file: what it is for, and which versions it was made with."""
    from advisor.text import clean, rate_text

    decision = result.recommendation
    assert decision is not None  # `recommended` has checked it
    versions = ", ".join(f"{clean(name)} {clean(version)}" for name, version in sorted(result.versions.items()))
    return [
        f"{clean(decision.title)} at learning rate {rate_text(decision.learning_rate)} "
        f"on {clean(result.model.reference)}, {how_found(result)} by peft-advisor {clean(result.advisor_version)}.",
        f"Made with {versions or 'unknown versions'}.",
    ]
