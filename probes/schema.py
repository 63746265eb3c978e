"""What measuring brings to light: device, model, data, and the jobs and events of probes.

Like knowledge/schema.py, importing this costs nothing: no torch, no transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field

from knowledge.schema import CurvePoint, DType, Finite, Quantization, Record, Task


class DatasetProfile(Record):
    """What the training data looks like, after formatting and tokenising with the model's tokenizer."""

    path: str
    format: str = Field(description="detected or given format, e.g. 'prompt-completion'")
    columns: Mapping[str, str] = Field(
        default_factory=dict, description="the user's columns that stand for keys of the format, by key; empty: by name"
    )
    eval_path: str = Field("", description="the user's own rows to hold out; empty: some of the data are")
    eval_path_rows: int = Field(0, description="how many there are; `eval_rows` of them are evaluated")
    rows: int
    usable_rows: int = Field(description="rows of the data left after the filters in `dropped`")
    train_rows: int
    eval_rows: int
    duplicate_rows: int
    content_key: str = Field(
        "", description="of the texts and labels of all rows, in any order: other rows have another; '' in older ones"
    )
    tokenised_rows: int = Field(description="rows the token figures are of: all, or a uniform sample of a large file")
    cut_rows: int = Field(0, description="usable rows longer than the limit, cut at their end")
    length_p50_tokens: int = Field(description="tokens of a row before any cut")
    length_p95_tokens: int
    length_max_tokens: int
    label_p50_tokens: int
    label_total_tokens: int
    dropped: Mapping[str, int] = Field(default_factory=dict, description="why rows were left out, with counts")
    largest_class_share: Finite | None = Field(
        None, description="of the held-out rows, those of the most frequent class: what is right without looking"
    )
    held_out_classes: int = Field(0, description="classes that the held-out rows have")
    unknown_share: Finite = Field(0.0, description="of the tokens, those that stand for words unknown to the tokenizer")
    unseen_class_rows: int = Field(0, description="held-out rows of classes that no training row has")
    metric_name: str = Field(
        description="exact match, accuracy, macro F1 or token accuracy, what suits the labels; or the name of the "
        "user's own"
    )
    metric_instead_of: str = Field(
        "", description="the metric that `metric_name` replaces, for no candidate had a right answer by it; empty: none"
    )

    @property
    def sample_rows(self) -> int:
        """Rows that the training rows of probes were drawn from: all of them, or those of a sample."""
        return self.tokenised_rows - (0 if self.eval_path else self.eval_rows)

    @property
    def label_mean_tokens(self) -> float:
        """Tokens of a row that the loss is taken of, on average; 1 where that is a class."""
        return max(1.0, self.label_total_tokens / max(1, self.train_rows))


class ModelReport(Record):
    """The model as it was found."""

    reference: str = Field(description="as the user gave it")
    source: Literal["hub", "local folder", "gguf file", "known architecture"]
    location: str
    model_type: str
    parameters: int
    task: str


class ProcessReport(Record):
    pid: int
    name: str
    used_bytes: int | None


class DeviceReport(Record):
    """The device that trains, or the one that is planned for."""

    kind: Literal["cuda", "mps", "cpu"]
    name: str
    total_bytes: int = Field(description="GPU memory; on a CPU the machine's memory")
    free_bytes: int
    limit_bytes: int = Field(description="what a run may use: --vram, or total_bytes less the CUDA context")
    planned: bool = Field(False, description="True where --vram or --gpu stands for a card that is not here")
    processes: tuple[ProcessReport, ...] = ()
    taken: str = Field("", description="who holds much of its memory, in words; empty: nobody")
    driver: str | None = None
    index: int = Field(0, description="number among the GPUs that this process sees, as in cuda:0")
    dtypes: tuple[DType, ...] = Field(("float32",), description="types it trains in, the best first")
    notes: tuple[str, ...] = ()


class Schedule(Record):
    """The learning rate over the steps of a run, as a factor of the peak rate.

    Rises linearly over `warmup_steps`, then follows `shape` until `total_steps`. With `decay_steps`, a constant
    schedule falls linearly to zero over its last steps: the decayed branch of a constant-rate trunk.
    """

    shape: Literal["cosine", "linear", "constant"]
    total_steps: int = Field(gt=0)
    warmup_steps: int = Field(0, ge=0)
    decay_steps: int = Field(0, ge=0)

    def factor(self, step: int) -> float:
        """Factor for the optimizer step number `step`, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        remaining = self.total_steps - step
        if self.shape == "constant":
            return min(1.0, remaining / (self.decay_steps + 1)) if self.decay_steps else 1.0
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        if self.shape == "linear":
            return max(0.0, 1.0 - progress)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


class ProbeContext(Record):
    """What all probes of one race share. Workers receive it once, as JSON."""

    model_reference: str
    task: Task
    data_folder: str = Field(description="folder written by PreparedData.save")
    work_folder: str = Field(description="checkpoints and worker logs go here")
    device: str = Field("cpu", description="a torch device, e.g. 'cuda:0'")
    dtype: DType = "float32"
    quantization: Quantization = "none"
    batch_size: int
    gradient_accumulation_steps: int = 1
    measures_forgetting: bool = True
    measures_latency: bool = Field(False, description="of requests with the adapter against requests without it")
    gradient_checkpointing: bool = False
    max_grad_norm: Finite = 1.0
    eval_rows: int = Field(
        description="held-out rows used at each evaluation, the first of the held-out set; all of it is evaluated at "
        "the end of the planned run"
    )
    metric_name: str
    own_metric: str | None = Field(None, description="the user's own, FILE.py:FUNCTION; see probes/metrics.py")
    threads: int = 1
    memory_share: Finite = Field(1.0, gt=0, le=1, description="of a GPU that several workers share: what one may take")
    seed: int = 0
    trust_remote_code: bool = False


class ProbeJob(Record):
    """One candidate to be trained from where it stands to `stop_step`."""

    id: str
    method: str = Field(description="the method's name in the catalogue")
    learning_rate: Finite = 0.0
    peft_config: Mapping[str, Any] | None = None
    schedule: Schedule | None = None
    stop_step: int = 0
    eval_steps: tuple[int, ...] = Field((), description="steps after which held-out rows are evaluated")
    start_step: int | None = Field(
        None,
        description="the last step that is on record: a checkpoint from beyond it is not used, for what was measured "
        "on the way there is lost. None goes on from any checkpoint",
    )
    micro_batches: int = Field(1, gt=0, description="each forward pass is done in so many parts, to save memory")
    silence_limit_s: Finite | None = Field(
        None, description="a worker that says nothing for so long is taken for hung, and ended"
    )
    save_to: str | None = Field(
        None,
        description="folder for what was trained. Such a job is worth much: it is also checkpointed on its way, "
        "whatever a checkpoint's size, and what was saved is reloaded on a fresh base",
    )


ProbeStatus = Literal["finished", "diverged", "out of memory", "ineffective", "failed"]
FAILURES: frozenset[str] = frozenset(get_args(ProbeStatus)) - {"finished"}


class AllRows(Record):
    """All held-out rows, of which probes are evaluated on the first."""

    end: CurvePoint = Field(description="at the end of the planned run")
    untuned: CurvePoint
    row_labels: tuple[int, ...] = Field(description="label tokens of each row")


class ProbeOutcome(Record):
    """What one job found out: the points it added to the candidate's curve, and what it cost."""

    id: str
    status: ProbeStatus
    reason: str = ""
    points: tuple[CurvePoint, ...] = ()
    all_rows: AllRows | None = Field(
        None,
        description="where the job came to the end of the planned run and more rows are held out than `points` are of",
    )
    row_losses: tuple[Finite, ...] = Field(
        (),
        description="nats of each held-out row at the last evaluation, summed over its label tokens (their number is "
        "in Baseline.row_labels): candidates are compared row by row. Of all held-out rows where there is `all_rows`",
    )
    row_right: tuple[int, ...] = Field((), description="right label tokens of each of these rows")
    first_step: int = Field(0, description="step from which this job trained; 0 where it could not continue")
    last_step: int = 0
    left_checkpoint: bool | None = Field(
        None, description="whether another job can go on from `last_step`; None where an older version ran it"
    )
    duration_s: Finite = Field(0.0, description="wall time of the job with wrapping and evaluation")
    train_s: Finite = Field(0.0, description="wall time inside training steps")
    trained_tokens: int = Field(0, description="tokens passed forward in training, with padding")
    peak_bytes: int | None = Field(None, description="most memory held: reserved on a GPU, resident on a CPU")
    trainable_parameters: int | None = None
    adapter_bytes: int | None = None
    micro_batches: int = Field(1, description="parts in which each forward pass was done")
    worker_lost: bool = Field(
        False, description="the worker died: that tells nothing about the method, so a resumed race tries again"
    )
    forgetting: Finite | None = Field(
        None,
        description="nats per token by which the loss on texts that the base model wrote has grown when the job ended, "
        "at `last_step`",
    )
    forgetting_noise: Finite | None = Field(None, description="80 % half-width over the choice of these texts")
    forgetting_note: str = Field("", description="why `forgetting` was not measured")
    latency_overhead: Finite | None = Field(
        None, description="share of time that a request takes longer with the adapter; see probes.latency"
    )
    reload_difference: Finite | None = Field(
        None, description="of held-out loss, between the model that was saved and the same reloaded on a fresh base"
    )


class Baseline(Record):
    """The untuned model on the held-out rows, and how fast this machine evaluates it."""

    eval_loss: Finite
    metric: Finite | None
    token_accuracy: Finite | None = Field(None, description="beside an exact match")
    load_s: Finite
    eval_s: Finite
    eval_tokens: int
    row_labels: tuple[int, ...] = Field((), description="label tokens of each held-out row, the same for all probes")
    texts_s: Finite = Field(0.0, description="time to evaluate the texts on which forgetting is measured")
