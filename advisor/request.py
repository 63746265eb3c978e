"""What the user asks for, checked before any work begins: all problems are reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from advisor.limits import MAX_COUNT, MAX_LENGTH_TOKENS, MAX_STEPS
from advisor.requirements.scope import Scope
from advisor.requirements.words import parse_requirement
from knowledge.errors import BadInput, did_you_mean
from knowledge.methods import all_methods, catalogue_name, get_method
from knowledge.schema import WARMUP_FRACTION, Finite, Quantization, Record, Scheduler, Task
from probes.data.columns import columns_of
from probes.formats import get_format
from probes.metrics import BUILT_IN, canonical_name, own_place

Objective = Literal["accuracy", "balanced", "memory", "speed"]
ALL_METHODS = "all"
MOST_WARMUP = 0.5  # of the run: a probe that only warms up tells nothing
# Fields whose option on the command line is called otherwise.
OPTIONS = {
    "budget_minutes": "--budget",
    "max_length_tokens": "--max-length",
    "gradient_accumulation_steps": "--gradient-accumulation",
    "warmup_fraction": "--warmup",
}


class Request(Record):
    """The arguments of `recommend`, in the user's terms. Defaults that depend on model or data are None here."""

    model: str = Field(min_length=1, description="hub id, local folder, GGUF file, or an alias such as 'llama'")
    data: str | None = Field(
        None, min_length=1, description="JSONL, JSON, CSV, TSV or Parquet file, or a hub dataset id"
    )
    eval_data: str | None = Field(
        None,
        min_length=1,
        description="rows of your own to hold out, as `data`; default: some of the data",
    )
    budget_minutes: Finite = Field(15.0, gt=0, description="wall-clock minutes for probing")
    vram: str | None = Field(None, description="plan for a card with this much memory, e.g. '24GB'")
    gpu: str | None = Field(None, description="plan for this card, e.g. 'RTX 4090'")
    objective: Objective = Field("balanced", description="what decides among candidates that differ")
    require: tuple[str, ...] = Field((), description="requirements, e.g. 'mergeable' or 'max-forgetting=0.1'")
    methods: tuple[str, ...] = Field((), description="race only these methods")
    exclude: tuple[str, ...] = Field((), description="leave these methods out")
    task: Task | None = Field(None, description="found from model and data unless given")
    epochs: Finite | None = Field(
        None, gt=0, le=MAX_COUNT, description="passes over the data in the planned run; default 3"
    )
    max_steps: int | None = Field(
        None, gt=0, le=MAX_STEPS, description="optimizer steps of the planned run, instead of epochs"
    )
    batch_size: int | None = Field(
        None,
        gt=0,
        le=MAX_COUNT,
        description="sequences per forward pass; default 8, in smaller portions where memory asks for it",
    )
    gradient_accumulation_steps: int = Field(1, gt=0, le=MAX_COUNT)
    scheduler: Scheduler = Field("cosine", description="how the learning rate falls after the warm-up")
    warmup_fraction: Finite = Field(
        WARMUP_FRACTION, ge=0, le=MOST_WARMUP, description="share of the planned run in which the learning rate rises"
    )
    max_length_tokens: int | None = Field(
        None, gt=1, le=MAX_LENGTH_TOKENS, description="default: what model and data need, at most 2048"
    )
    format: str | None = Field(None, description="data format; detected unless given")
    columns: Mapping[str, str] = Field(
        default_factory=dict, description="columns of the data by the format's keys, e.g. {'text': 'review'}"
    )
    metric: str | None = Field(
        None,
        description="exact match, token accuracy, accuracy, macro F1, or an own FILE.py:FUNCTION; default: as data are",
    )
    quantize: Literal[Quantization, "auto"] = Field(
        "auto", description="how to keep the base; auto takes 4 bits (nf4) where it does not fit the device otherwise"
    )
    gradient_checkpointing: bool = False
    probe: bool = Field(True, description="False answers from the benchmark table and the dry run alone")
    workers: int | None = Field(
        None, gt=0, description="probe workers; default: one per GPU, else per CPU core up to 4"
    )
    executor: Literal["process", "ray"] = Field("process", description="where probes run: here, or on a Ray cluster")
    ray_address: str | None = Field(None, description="the cluster's head; default: RAY_ADDRESS, else one started here")
    seed: int = Field(0, ge=0, lt=2**32)
    trust_remote_code: bool = False

    @field_validator("methods", "exclude", "require", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        """From Python a text will do in place of a list, with commas where it names several; None is none."""
        if isinstance(given, str):
            return tuple(part.strip() for part in given.split(","))
        return () if given is None else given

    @field_validator("columns", mode="before")
    @classmethod
    def _as_mapping(cls, given: Any) -> dict[str, str]:
        try:
            return columns_of(given)
        except BadInput as error:
            raise ValueError(str(error)) from None

    @field_validator("methods", "exclude")
    @classmethod
    def _by_their_names(cls, methods: tuple[str, ...], field: ValidationInfo) -> tuple[str, ...]:
        """Methods may be called by their titles, which is how the tables name them."""
        names, catalogue = tuple(map(catalogue_name, methods)), list(all_methods())
        known = {*catalogue, ALL_METHODS} if field.field_name == "methods" else {*catalogue}
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                " ".join(f"there is no method {name!r}. {did_you_mean(name, catalogue)}" for name in unknown)
            )
        return names

    @field_validator("require")
    @classmethod
    def _can_be_read(cls, require: tuple[str, ...]) -> tuple[str, ...]:
        """Whether a requirement can be met depends on the model; what is no requirement is said before it is read."""
        problems = []
        for text in require:
            try:
                parse_requirement(text, Scope())
            except BadInput as error:
                problems.append(str(error))
        if problems:
            raise ValueError(" ".join(problems))
        return require

    @field_validator("format")
    @classmethod
    def _is_a_format(cls, name: str | None) -> str | None:
        """Said before the model is read, and with whatever else is wrong."""
        try:
            return name if name is None else get_format(name).name
        except BadInput as error:
            raise ValueError(str(error)) from None

    @field_validator("metric")
    @classmethod
    def _is_a_metric(cls, metric: str | None) -> str | None:
        """By its own name, or from anywhere: the file of an own metric is needed again by workers and by `advisor
        train`, which run in other folders."""
        if metric is None:
            return None
        if place := own_place(metric):
            return place
        if (name := canonical_name(metric)) not in BUILT_IN:
            own = "Or give a function of your own as FILE.py:FUNCTION"
            raise ValueError(f"there is no metric {metric!r}. {did_you_mean(metric, list(BUILT_IN))} {own}")
        return name

    @model_validator(mode="after")
    def _check_together(self) -> Request:
        for_comparison = [name for name in self.methods if name != ALL_METHODS and get_method(name).reference_only]
        if self.probe and self.methods and len(for_comparison) == len(self.methods):
            raise ValueError(
                f"methods names {', '.join(for_comparison)} alone, which is measured for comparison and never "
                "recommended: name one beside it that may be"
            )
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError("epochs and max_steps both set the length of the planned run: give one of them")
        if self.vram is not None and self.gpu is not None:
            raise ValueError("vram and gpu both name the card to plan for: give one of them")
        if self.probe and self.data is None:
            raise ValueError(
                "probing needs data: give a dataset, or turn probing off (--no-probe) to answer from the table"
            )
        if self.ray_address is not None and self.executor != "ray":
            raise ValueError("ray_address is of the Ray executor: give --executor ray with it")
        if self.executor == "ray" and own_place(self.metric):
            raise ValueError("metric names a file of this machine, which the nodes of a cluster lack: race it here")
        if self.eval_data is not None and self.data is None:
            raise ValueError("eval_data is held out beside data to train on: give data with it")
        both = sorted(set(self.methods) & set(self.exclude))
        if both:
            raise ValueError(f"methods and exclude both name {', '.join(both)}")
        return self


def make_request(**fields: Any) -> Request:
    """A checked request; raises BadInput that lists every problem with the value seen."""
    try:
        return Request(**{name: str(value) if isinstance(value, Path) else value for name, value in fields.items()})
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
        raise BadInput("The request cannot be used:\n" + "\n".join(f"  - {p}" for p in problems)) from None


def _describe(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"there is no option {place!r}. {did_you_mean(place, list(Request.model_fields))}"
    if problem["type"] == "string_type" and place in Request.model_fields:
        return _describe_no_text(place, problem["input"])
    place += f" ({OPTIONS[place]})" if place in OPTIONS else ""
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message} (seen: {problem['input']!r})" if place else message


# What is given from Python in place of a name, and how it gets one.
_ADVICE = {
    "model": "Save a model that is loaded to a folder (`save_pretrained`, the tokenizer's too), and give that",
    "data": "Write rows to a file, e.g. by `datasets.Dataset.to_json`, and give its path",
    "eval_data": "Write rows to a file, e.g. by `datasets.Dataset.to_json`, and give its path",
}


def _describe_no_text(field: str, given: Any) -> str:
    """Of a field that takes text and got something else, whose own words may fill pages."""
    seen = repr(given) if isinstance(given, int | float | None) else f"a {type(given).__name__}"
    advice = f". {_ADVICE[field]}" if field in _ADVICE else ""
    return f"{field}: give text: {Request.model_fields[field].description} (seen: {seen}){advice}"
