"""The answer as data: `result` of what `recommend()` returns, what `--json` prints and recommendation.json holds.

The models are the schema. `schema_version` rises with every change that could break a reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from advisor.request import Objective
from knowledge.schema import Curve, Finite, MemoryEstimate, PlannedRun, Record
from probes.schema import DatasetProfile, DeviceReport, ModelReport

SCHEMA_VERSION = 2  # since 2, capabilities.quantized names the kinds of bases instead of being true or false

Status = Literal[
    "finished",  # probed to the last rung it was meant to reach
    "eliminated",  # left the race at a rung, see `reason`
    "not tried",  # the budget did not reach it
    "planned",  # would enter the race; a dry run stops here
    "does not fit",  # dropped before training: memory
    "excluded",  # dropped before training: a requirement, --exclude, or the model cannot take it
    "diverged",  # loss became nan, inf or exactly zero
    "out of memory",
    "failed",  # the worker raised or died; `reason` has the words
    "ineffective",  # nothing trains
    "reference",  # measured for comparison only
    "from table",  # no probe: known from the benchmark table and the dry run
]


class Prediction(Record):
    """A value at the end of the planned run, with an 80 % interval."""

    metric: str = Field(
        description="'eval loss' (lower is better), the task's metric, or 'table rank' (see advisor.deciding.quality)"
    )
    value: Finite
    low: Finite
    high: Finite
    noise: Finite | None = Field(
        None,
        ge=0,
        description="80 % half-width of what another run of the same candidate would differ by: candidates of one race "
        "are compared by this, for most of the interval's width is common to all of them",
    )
    noise_apart: Finite | None = Field(
        None,
        ge=0,
        description="the same beside candidates that were probed further, with which less of it is common; None where "
        "there is no such difference",
    )
    extrapolated: bool = Field(False, description="True where the evidence does not reach: take it with care")
    rows: int | None = Field(None, description="held-out rows that it is of, the first of them; None in older results")


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
    baseline_loss: Finite | None = Field(None, description="the untuned base model's value of predicted_loss.metric")
    memory: MemoryEstimate | None = None
    fits: bool | None = Field(None, description="whether memory.peak_bytes is within the device's limit")
    probe_peak_bytes: int | None = Field(None, description="measured in the probe (its batch and lengths)")
    probe_s: Finite | None = Field(None, description="time spent on its probes")
    micro_batches: int = Field(
        1, description="parts in which its probe did each batch; more than one where whole batches ran out of memory"
    )
    planned_run_s: Finite | None = Field(None, description="predicted time of the planned run where its probe ran")
    planned_run_range_s: tuple[Finite, Finite] | None = Field(
        None, description="its 80 % interval; on a shared device down to what a run may take that has it alone"
    )
    tokens_per_s: Finite | None = None
    trainable_parameters: int | None = None
    adapter_bytes: int | None = None
    forgetting: Finite | None = Field(
        None,
        description="nats per token by which the loss on texts that the base model wrote had grown at the end of the "
        "last probe: an estimate of the divergence from the base",
    )
    forgetting_noise: Finite | None = Field(None, description="80 % half-width over the choice of these texts")
    forgetting_share: Finite | None = Field(None, description="share of the planned run done when it was measured")
    forgetting_note: str = Field("", description="why it was not measured")
    drift: Finite | None = Field(
        None,
        description="image generators: how far images of other prompts move from the base model's; lower is better",
    )
    latency_overhead: Finite | None = Field(
        None,
        description="share of time that a request takes longer with the adapter, 0 where it merges into the base; "
        "measured only where a requirement asks for it",
    )
    rests_on_own_runs: bool = Field(
        False, description="its end is that of the user's own run of it; without probes: such runs are part of its rank"
    )
    violates: tuple[str, ...] = Field((), description="the requirements that it does not meet, as they were given")
    capabilities: Mapping[str, Any] = Field(default_factory=dict)
    peft_config: Mapping[str, Any] | None = None
    on_frontier: bool = False

    @property
    def identity(self) -> tuple[str, float]:
        """The method's name and the learning rate: what tells the candidates of a race apart."""
        return self.name, self.learning_rate


class RequirementEffect(Record):
    """What one requirement took out of the comparison."""

    requirement: str = Field(description="as it was given, e.g. 'max-adapter-size=50MB'")
    methods: tuple[str, ...] = Field(description="titles of the methods that it left no candidate of")
    rates: int = Field(description="further candidates: learning rates of methods that stayed at another rate")
    alone: int = Field(description="how many of these methods no other requirement would have taken out")


class Decision(Record):
    """The pick and why."""

    name: str
    title: str
    learning_rate: Finite
    objective: Objective
    chosen_over: str = Field("", description="what was recommended, where the user chose this one in its place")
    compared_by: str = Field(description="the quality that decided: the task's metric, or the loss where it is sharper")
    confidence: Literal["high", "moderate", "low"]
    gain_over_lora: str = Field(description="one sentence: what the pick gains over tuned LoRA, also first of reasons")
    reasons: tuple[str, ...] = Field(description="in plain words, most important first")
    ties: tuple[str, ...] = Field((), description="candidates that cannot be told apart from the pick in quality")
    alternatives: tuple[str, ...] = Field((), description="other points of the frontier and what they trade")
    warnings: tuple[str, ...] = ()


class RaceReport(Record):
    """How the evidence was gathered."""

    budget_s: Finite
    duration_s: Finite = Field(description="of a resumed race with what its probes took before")
    workers: int
    plan: tuple[str, ...] = Field((), description="the plan in words, one line per rung")
    expected_s: Finite = Field(0.0, description="how long the planned rungs were expected to take")
    dry_run: bool = Field(False, description="True where the plan was all that was asked for")
    rungs: tuple[Mapping[str, Any], ...] = Field(description="per rung: steps, entered, trained, failed, duration_s")
    not_tried: tuple[str, ...] = ()
    interrupted: bool = False
    ended_by: str = Field("", description="why it could not go on, where not the user or the clock ended it")


class TrainingPlan(Record):
    """What a trainer must know of the recommended run beside the PEFT config and the PlannedRun. Exporters read
    this and never a method's name."""

    learning_rate: Finite = Field(gt=0, description="peak rate of the schedule")
    optimizer: str = Field("torch.optim:AdamW", description="'module:callable'; peft.optimizers get the model first")
    optimizer_settings: Mapping[str, Any] = Field(default_factory=dict, description="further keyword arguments")
    weight_decay: Finite = Field(0.0, ge=0)
    through_model_loss: bool = Field(False, description="train on the model's own loss: the method adds terms to it")
    data_path: str = Field(description="the training file, or a hub dataset id")
    data_format: str = Field(description="name of a data format, e.g. 'prompt-completion'")
    data_columns: Mapping[str, str] = Field(
        default_factory=dict, description="columns of the data that stand for keys of the format; see DatasetProfile"
    )
    eval_path: str = Field("", description="the user's own rows to hold out; empty: rows of the data are, by their key")
    held_out_key: int = Field(description="rows whose probes.data.split.group_key is at or below this are held out")
    keyed_by: Literal["prompt", "text"] = Field(description="what that key is of; see PreparedData.keyed_by")
    eval_rows: int = Field(gt=0, description="rows held out: the first of each key, by rising key")
    metric_name: str = Field(description="one of probes.metrics, or the name of the user's own")
    setup_by: str | None = Field(
        None, description="catalogue name of a method whose own code prepares the model, beside its PEFT config"
    )
    trains: str = Field("", description="without an adapter: names of trained parameters match this regular expression")
    label_names: tuple[str, ...] = Field((), description="classes in the order of their numbers, for classification")
    uses_chat_template: bool = Field(False, description="rows are rendered through the tokenizer's chat template")
    pad_token: str | None = Field(None, description="the token that pads, where the tokenizer brings none of its own")


class Result(Record):
    """The whole of a recommendation as data; `Recommendation` in outcome.py adds the conveniences."""

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
    requirements: tuple[RequirementEffect, ...] = Field((), description="in the order in which they were given")
    race: RaceReport | None
    recommendation: Decision | None
    training: TrainingPlan | None = Field(None, description="None without data: there is no run to write down")
    files: tuple[str, ...] = ()
    benchmark: str = Field("", description="names the task in the user's own table of runs; see forecast/own_task.py")
    created_at: str = Field("", description="ISO 8601 time of the recommendation")

    @property
    def pick(self) -> CandidateReport | None:
        """The recommended candidate."""
        if self.recommendation is None:
            return None
        wanted = (self.recommendation.name, self.recommendation.learning_rate)
        return next((c for c in self.candidates if c.identity == wanted), None)

    @property
    def trusts_model_code(self) -> bool:
        """Whether the user lets code run that comes with the model."""
        return bool(self.request.get("trust_remote_code"))
