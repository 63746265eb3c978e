"""The records everything else speaks in: small, frozen, validated, with units in the names.

Nothing here imports torch, transformers or peft, so a record can be read anywhere at no cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from knowledge.intervals import DRY_RUN_ERROR

Task = Literal["causal-lm", "sequence-classification", "seq2seq-lm", "text-to-image"]
DType = Literal["float32", "bfloat16", "float16"]
Quantization = Literal["none", "nf4", "int8"]
Finite = Annotated[float, Field(allow_inf_nan=False)]

# Of planned runs, as in Stanford Alpaca (2023) and QLoRA (Dettmers et al. 2023). With a tenth of the run in its place
# runs end alike, and short probes tell less (examples/study/README.md).
WARMUP_FRACTION = 0.03

# The class of transformers that loads a model for a task; pictures are made by models of diffusers.
AUTO_CLASSES: Mapping[Task, str] = {
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "sequence-classification": "AutoModelForSequenceClassification",
}


class Record(BaseModel):
    """Base of all records: immutable, and a misspelt field is an error instead of a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Scheduler = Literal["cosine", "linear", "constant"]


class PlannedRun(Record):
    """The fine-tune that the user will do; every prediction is about the end of this run."""

    task: Task = "causal-lm"
    max_steps: int = Field(gt=0, description="optimizer steps until the end of the run")
    epochs: Finite | None = Field(None, description="passes over the training rows, if that was how it was given")
    batch_size: int = Field(8, gt=0, description="sequences per forward pass")
    gradient_accumulation_steps: int = Field(1, gt=0, description="forward passes per optimizer step")
    max_length_tokens: int = Field(512, gt=0, description="longer sequences are cut or left out")
    scheduler: Scheduler = "cosine"
    warmup_fraction: Finite = Field(WARMUP_FRACTION, ge=0, le=1, description="share of max_steps with a rising rate")
    weight_decay: Finite = Field(
        0.0, ge=0, description="of published runs of image generators; any other run has that of its method"
    )
    max_grad_norm: Finite = Field(1.0, gt=0)
    dtype: DType = "bfloat16"
    quantization: Quantization = "none"
    gradient_checkpointing: bool = False
    seed: int = 0

    @property
    def rows_per_step(self) -> int:
        """Rows that one optimizer step trains on."""
        return self.batch_size * self.gradient_accumulation_steps

    @property
    def warmup_steps(self) -> int:
        """Steps of rising rate."""
        return round(self.warmup_fraction * self.max_steps)


class CurvePoint(Record):
    """One evaluation of a run. A value that was not measured is None, never zero."""

    step: int = Field(ge=0, description="optimizer steps done")
    train_loss: Finite | None = Field(None, description="mean training loss since the previous point, nats per token")
    eval_loss: Finite | None = Field(None, description="held-out loss, nats per label token")
    metric: Finite | None = Field(None, description="the task's metric on held-out rows; see Curve.metric_name")
    token_accuracy: Finite | None = Field(
        None, description="where `metric` is exact match, the share of single label tokens that are right"
    )
    elapsed_s: Finite | None = Field(None, description="training time so far, without loading and evaluation")


class Curve(Record):
    """What a run records over its steps, in order of steps."""

    points: tuple[CurvePoint, ...] = ()
    metric_name: str | None = None

    @property
    def last_step(self) -> int:
        return self.points[-1].step if self.points else 0

    def until(self, step: int) -> Curve:
        """The part of the curve up to and including `step`: what a probe of that length would have seen."""
        return self.model_copy(update={"points": tuple(p for p in self.points if p.step <= step)})


OWN = "own"  # the source of a run that a user finished


OWN_FORGETTING = "forgetting, own texts"  # what an own run tells as `drift`


def held_out(metric_name: str) -> str:
    """What the metric of an own run is called, beside those on the test sets of published ones."""
    return f"held-out {metric_name}"


class RunRecord(Record):
    """One finished run of the benchmark table: published, from a study, or the user's own."""

    benchmark: str = Field(description="runs are comparable within one benchmark only, e.g. 'metamathqa/llama-3.2-3b'")
    experiment: str = Field(description="name of the run at its source, e.g. 'lora/llama-3.2-3B-rank32'")
    method: str | None = Field(description="name in the catalogue, None where the catalogue has no such method")
    task: Task
    model: str = Field(description="hub id of the base model")
    peft_type: str | None = Field(description="PEFT's type, e.g. 'LORA'; None for full fine-tuning")
    peft_config: Mapping[str, Any] = Field(description="the settings of the run that are not empty, as PEFT wrote them")
    learning_rate: Finite
    optimizer: str = "AdamW"
    weight_decay: Finite = 0.0
    scheduler: str | None = None
    batch_size: int
    max_steps: int
    max_length_tokens: int | None = None
    label_mean_tokens: Finite | None = Field(
        None, description="tokens of a row that the loss is taken of, on average; 1 for a class, None where unknown"
    )
    dtype: str
    seed: int = 0
    quantization: Quantization = "none"
    gradient_checkpointing: bool = False

    curve: Curve
    metric_name: str = Field(description="name of `metric`, e.g. 'test accuracy'")
    metric: Finite | None = Field(description="the final value of the task's metric, higher is better")
    drift: Finite | None = Field(None, description="damage elsewhere: forgetting in nats per token, or image drift")
    drift_name: str | None = None

    peak_bytes: int | None = Field(None, description="largest memory reserved on the device during the run")
    mean_reserved_bytes: int | None = None
    train_s: Finite | None = Field(None, description="training time without loading and evaluation")
    adapter_bytes: int | None = Field(None, description="size of the saved adapter")
    trainable_parameters: int | None = None
    total_parameters: int | None = None

    device: str
    versions: Mapping[str, str] = Field(description="library versions, e.g. {'peft': '0.19.2'}")
    created_at: str = Field(description="ISO 8601 time of the run")
    source: str = Field(description="where the facts come from; see knowledge/data/SOURCES.md")
    is_compared: bool = Field(True, description="whether its benchmark ranks methods, or only shows how losses fall")


class MemoryEstimate(Record):
    """Peak device memory of a training run, in bytes as reserved by the allocator (what nvidia-smi would show
    without the CUDA context). `high_bytes` is that of the worst order in which batches may come, `low_bytes` what the
    run can do with after PyTorch has emptied its cache."""

    peak_bytes: int
    low_bytes: int
    high_bytes: int
    breakdown: Mapping[str, int] = Field(
        default_factory=dict,
        description="bytes at the peak by kind: weights, adapter, gradients, optimizer, activations, logits, overhead",
    )
    basis: Literal["dry run", "dry run, corrected by the probe", "measured", "published"] = "dry run"
    note: str = Field("", description="what the reader must know, e.g. which fallback was used")

    @property
    def noise_bytes(self) -> int | None:
        """80 % half-width of the peak, by how far dry runs of published runs were off; None of what was measured."""
        return round(DRY_RUN_ERROR * self.peak_bytes) if self.basis.startswith("dry run") else None

    def surely_fits(self, limit_bytes: int) -> bool:
        """In whatever order the batches come."""
        return self.high_bytes <= limit_bytes

    def is_likely_to_fit(self, limit_bytes: int) -> bool:
        """As expected: an unlucky order needs more, and PyTorch then goes on by giving back what it had cached."""
        return self.peak_bytes <= limit_bytes

    def may_fit(self, limit_bytes: int) -> bool:
        """With luck at least; where this is False, there is no use in trying."""
        return self.low_bytes <= limit_bytes
