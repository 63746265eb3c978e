"""The answer: what `recommend()` returns, what `--json` prints and what recommendation.json holds.

The models are the schema. `schema_version` rises with every change that could break a reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from knowledge.schema import Curve, Finite, MemoryEstimate, PlannedRun, Record
from probes.schema import DatasetProfile, DeviceReport, ModelReport

SCHEMA_VERSION = 1

Status = Literal[
    "finished",  # probed to the last rung it was meant to reach
    "eliminated",  # left the race at a rung, see `reason`
    "not tried",  # the budget did not reach it
    "does not fit",  # dropped before training: memory
    "excluded",  # dropped before training: a requirement, --exclude, or the model cannot take it
    "diverged",  # loss became nan, inf or exactly zero
    "out of memory",
    "failed",  # the worker raised or died; `reason` has the words
    "ineffective",  # nothing trains, or the loss does not move
    "reference",  # measured for comparison only
    "from table",  # no probe: known from the benchmark table and the dry run
]


class Prediction(Record):
    """A value at the end of the planned run, with an 80 % interval."""

    metric: str = Field(description="'eval loss' (lower is better) or the task's metric (higher is better)")
    value: Finite
    low: Finite
    high: Finite
    extrapolated: bool = Field(False, description="True where the evidence does not reach: take it with care")


class CandidateReport(Record):
    """One candidate (a method at a learning rate) and everything found out about it."""

    name: str = Field(description="the method's name in the catalogue")
    title: str
    peft_type: str | None
    learning_rate: Finite
    status: Status
    reason: str = Field("", description="in words: why it left, failed, or stands where it stands")
    curve: Curve = Curve()
    predicted: Prediction | None = None
    predicted_loss: Prediction | None = None
    baseline_value: Finite | None = Field(None, description="the untuned base model's value of predicted.metric")
    memory: MemoryEstimate | None = None
    fits: bool | None = Field(None, description="whether memory.high_bytes is within the device's limit")
    probe_peak_bytes: int | None = Field(None, description="measured in the probe (its batch and lengths)")
    probe_s: Finite | None = Field(None, description="time spent on its probes")
    planned_run_s: Finite | None = Field(None, description="predicted time of the planned run on this device")
    tokens_per_s: Finite | None = None
    trainable_parameters: int | None = None
    adapter_bytes: int | None = None
    capabilities: Mapping[str, Any] = Field(default_factory=dict)
    peft_config: Mapping[str, Any] | None = None
    on_frontier: bool = False


class Decision(Record):
    """The pick and why."""

    name: str
    title: str
    learning_rate: Finite
    confidence: Literal["high", "moderate", "low"]
    reasons: tuple[str, ...] = Field(description="in plain words, most important first")
    ties: tuple[str, ...] = Field((), description="candidates that cannot be told apart from the pick in quality")
    alternatives: tuple[str, ...] = Field((), description="other points of the frontier and what they trade")
    warnings: tuple[str, ...] = ()


class RaceReport(Record):
    """How the evidence was gathered."""

    budget_s: Finite
    duration_s: Finite
    workers: int
    rungs: tuple[Mapping[str, Any], ...] = Field(description="per rung: steps, entered, left, why")
    not_tried: tuple[str, ...] = ()
    interrupted: bool = False


class Result(Record):
    """The whole of a recommendation as data; `Recommendation` in api.py adds the conveniences."""

    schema_version: int = SCHEMA_VERSION
    advisor_version: str
    versions: Mapping[str, str]
    command: str = ""
    request: Mapping[str, Any]
    model: ModelReport
    data: DatasetProfile | None
    device: DeviceReport
    planned_run: PlannedRun
    candidates: tuple[CandidateReport, ...]
    race: RaceReport | None
    recommendation: Decision | None
    files: tuple[str, ...] = ()
