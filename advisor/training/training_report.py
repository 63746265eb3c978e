"""What a training run reached, beside what was predicted for it: the content of training.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from advisor.forecast.overtraining import overtrained
from advisor.recommendation import CandidateReport, Prediction, Result
from knowledge.errors import BadInput, first_fault
from knowledge.schema import Curve, CurvePoint, DType, Finite, Record
from probes.metrics import EVAL_LOSS
from probes.schema import ProbeOutcome

SCHEMA_VERSION = 1
REPORT_FILE, ADAPTER_FOLDER = "training.json", "adapter"  # in the folder of a recommendation
# The two losses are means over one batch in the same arithmetic: more than this is another model.
SAME_LOSS = 1e-3


class Comparison(Record):
    """One quantity of the run, predicted and reached. What was not predicted, or not measured here, is None."""

    quantity: str = Field(description="name of a metric, 'peak memory' (bytes) or 'training time' (s)")
    kind: Literal["quality", "bytes", "seconds"]
    predicted: Finite | None = None
    low: Finite | None = None
    high: Finite | None = None
    reached: Finite | None = None
    note: str = ""

    @property
    def inside(self) -> bool | None:
        """Whether the reached value lies in the interval; None where there is nothing to compare."""
        if self.reached is None or self.low is None or self.high is None:
            return None
        return self.low <= self.reached <= self.high


class TrainingReport(Record):
    """A run that came to its end."""

    schema_version: int = SCHEMA_VERSION
    advisor_version: str
    versions: Mapping[str, str]
    name: str = Field(description="the method's name in the catalogue")
    title: str
    learning_rate: Finite
    max_steps: int
    first_step: int = Field(0, description="steps taken over from a probe or an earlier part of the run")
    curve: Curve
    end: CurvePoint | None = Field(
        None,
        description="the evaluation at the end, on as many held-out rows as the prediction is of; None in older ones",
    )
    eval_rows: int | None = Field(None, description="held-out rows that `end` and the untuned model's values are of")
    end_on_all: CurvePoint | None = Field(
        None, description="the evaluation of all held-out rows, where the prediction is of the first `eval_rows` alone"
    )
    held_out_rows: int | None = Field(None, description="all there are")
    baseline_loss: Finite
    baseline_metric: Finite | None
    comparisons: tuple[Comparison, ...]
    train_s: Finite = Field(description="inside training steps, those taken over included")
    peak_bytes: int | None = Field(description="most memory held: reserved on a GPU, resident on a CPU")
    trainable_parameters: int | None
    adapter_bytes: int | None
    forgetting: Finite | None = Field(None, description="nats per token; see CandidateReport.forgetting")
    forgetting_noise: Finite | None = None
    unmet: str = Field("", description="what was required of the pick and does not hold at the end, with the reasons")
    reload_difference: Finite | None = Field(
        None, description="of held-out loss, between the trained model and the saved files on a fresh base"
    )
    device: str
    device_kind: Literal["cuda", "mps", "cpu"]
    dtype: DType
    created_at: str = Field(description="ISO 8601 time of the end of the run")
    adapter: str = Field(description="name of the folder with the adapter, beside this file")
    benchmark: str = Field("", description="of the recommendation: names data, model and planned run; '' in older ones")

    def is_of(self, result: Result) -> bool:
        """Whether this is the run that `result` recommends."""
        pick, run = result.pick, result.planned_run
        if pick is None or self.benchmark not in ("", result.benchmark):
            return False
        return (self.name, self.learning_rate, self.max_steps) == (pick.name, pick.learning_rate, run.max_steps)

    @property
    def reloads(self) -> bool:
        """Whether the saved files give back the trained model."""
        return self.reload_difference is not None and self.reload_difference <= SAME_LOSS

    @property
    def last(self) -> CurvePoint:
        """The evaluation at the end."""
        return self.end or self.curve.points[-1]

    @property
    def overtrained(self) -> str | None:
        """In words, where the held-out loss was clearly lower on the way than at the end."""
        return overtrained(self.curve, self.max_steps)


def finished_report(folder: Path, result: Result) -> TrainingReport | None:
    """What a training of `result` in that folder reached; None where none came to its end, or that of another
    recommendation did. Raises BadInput where the report cannot be read."""
    path = folder / REPORT_FILE
    if not path.is_file() or not (folder / ADAPTER_FOLDER).is_dir():
        return None
    try:
        report = TrainingReport.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(
            f"{path} cannot be read: {first_fault(error)}. Was it changed, or written by another version of advisor? "
            "Move it aside."
        ) from None
    return report if report.is_of(result) else None


def compare(
    pick: CandidateReport, last: CurvePoint, outcome: ProbeOutcome, device_kind: str, metric_name: str
) -> tuple[Comparison, ...]:
    """Predicted against reached: loss, the metric of that name, peak memory, training time. Without probes nothing was
    predicted of loss and metric: a rank in the table is no value that a run could reach."""
    predictions = {p.metric: p for p in (pick.predicted_loss, pick.predicted) if p}
    reached = {EVAL_LOSS: last.eval_loss, metric_name: last.metric}
    names = [name for name, value in reached.items() if value is not None or name in predictions]
    raced = pick.curve.last_step >= last.step
    return (
        *(
            _quality(name, predictions.get(name), reached[name], raced=raced, was_own=pick.rests_on_own_runs)
            for name in names
        ),
        _peak_memory(pick, outcome, device_kind),
        _training_time(pick, outcome),
    )


def _quality(name: str, made: Prediction | None, reached: float | None, *, raced: bool, was_own: bool) -> Comparison:
    if made is None:
        return Comparison(quantity=name, kind="quality", reached=reached)
    note = "the prediction lies outside of the evidence" if made.extrapolated else ""
    if raced and was_own:
        note = "it had been trained to its end before: that end was told and not predicted"
    elif raced:
        note = "the race had trained this run to its end: it was measured before and not predicted"
    return Comparison(
        quantity=name,
        kind="quality",
        predicted=made.value,
        low=made.low,
        high=made.high,
        reached=reached,
        note=note,
    )


def _peak_memory(pick: CandidateReport, outcome: ProbeOutcome, device_kind: str) -> Comparison:
    memory, interval = pick.memory, {}
    if memory is not None and memory.noise_bytes is not None:
        interval = {"low": memory.peak_bytes - memory.noise_bytes, "high": memory.peak_bytes + memory.noise_bytes}
    is_like_predicted = device_kind == "cuda"
    place = "an Apple GPU" if device_kind == "mps" else "a processor"
    return Comparison(
        quantity="peak memory",
        kind="bytes",
        predicted=memory.peak_bytes if memory else None,
        reached=outcome.peak_bytes if is_like_predicted else None,
        note="" if is_like_predicted else f"the prediction is for an NVIDIA GPU, this run was on {place}",
        **interval,
    )


def _training_time(pick: CandidateReport, outcome: ProbeOutcome) -> Comparison:
    low, high = pick.planned_run_range_s or (None, None)
    return Comparison(
        quantity="training time",
        kind="seconds",
        predicted=pick.planned_run_s,
        low=low,
        high=high,
        reached=outcome.train_s or None,
    )
