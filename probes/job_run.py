"""What is known of a job while it runs, and what becomes of it when it fails: the makings of its outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from knowledge.schema import CurvePoint
from probes import adapters
from probes.evaluation import NotFinite
from probes.schema import AllRows, ProbeJob, ProbeOutcome
from probes.training import Diverged, Progress

if TYPE_CHECKING:
    from probes.evaluation import Evaluation
    from probes.forgetting import Forgetting

# Called with the job's id, the step just done and its training loss, and with each new point of the curve.
OnStep = Callable[[str, int, float], None]
OnPoint = Callable[[str, CurvePoint], None]

# How PyTorch's CPU allocator, the C++ library, cuBLAS, Apple's GPUs and the CUDA driver tell that there is no memory:
# not by exceptions of their own.
OUT_OF_MEMORY_SIGNS = (
    "can't allocate memory",
    "bad_alloc",
    "cannot allocate memory",
    "status_alloc_failed",
    "out of memory",
)


class JobRun:
    """What is known of a job so far, so that a failure keeps the points that came before it."""

    def __init__(self, job: ProbeJob, on_step: OnStep, on_point: OnPoint) -> None:
        self.job, self.on_step, self.on_point = job, on_step, on_point
        self.status, self.reason = "finished", ""
        self.points: list[CurvePoint] = []
        self.all_rows: AllRows | None = None
        self.row_losses: tuple[float, ...] = ()
        self.row_right: tuple[int, ...] = ()
        self.progress = Progress()
        self.first_step = 0
        self.left_checkpoint = False
        self.peak_bytes: int | None = None
        self.trainable_parameters: int | None = None
        self.adapter_bytes: int | None = None
        self.forgetting: Forgetting | None = None
        self.forgetting_note = ""
        self.latency_overhead: float | None = None
        self.saved_loss = 0.0
        self.reload_difference: float | None = None

    @property
    def has_trained(self) -> bool:
        """Whether it did a step: what was through before holds less than a step does."""
        return self.progress.step > self.first_step

    def note_peak(self, peak_bytes: int | None) -> None:
        """Of this process; where another one trained the beginning, its own counts too."""
        self.peak_bytes = max(filter(None, (self.peak_bytes, peak_bytes)), default=None)
        self.progress.peak_bytes = self.peak_bytes

    def remember(self, held_out: Evaluation) -> Evaluation:
        """Passes the evaluation on; its rows are the outcome's until the next one."""
        self.row_losses, self.row_right = held_out.row_losses, held_out.row_right
        return held_out

    def remember_all(self, held_out: Evaluation, untuned: Evaluation) -> None:
        """Keeps what was found on all held-out rows, at the end of the planned run and of the untuned model."""
        end = self.remember(held_out).point(self.progress.step)
        self.all_rows = AllRows(end=end, untuned=untuned.point(0), row_labels=held_out.row_labels)

    def take(self, item: CurvePoint | float) -> None:
        if self.progress.step == self.job.start_step:
            self.progress.recent_losses.clear()  # a probe that starts over: these belong to the point before
        if isinstance(item, CurvePoint):
            self.points.append(item)
            self.on_point(self.job.id, item)
        else:
            self.on_step(self.job.id, self.progress.step, item)

    def outcome(self, duration_s: float) -> ProbeOutcome:
        return ProbeOutcome(
            id=self.job.id,
            status=self.status,
            reason=self.reason,
            points=tuple(self.points),
            all_rows=self.all_rows,
            row_losses=self.row_losses,
            row_right=self.row_right,
            first_step=self.first_step,
            last_step=self.progress.step,
            left_checkpoint=self.left_checkpoint,
            duration_s=duration_s,
            train_s=self.progress.train_s,
            trained_tokens=self.progress.trained_tokens,
            peak_bytes=self.peak_bytes,
            trainable_parameters=self.trainable_parameters,
            adapter_bytes=self.adapter_bytes,
            micro_batches=self.job.micro_batches,
            forgetting=self.forgetting.value if self.forgetting else None,
            forgetting_noise=self.forgetting.noise if self.forgetting else None,
            forgetting_note=self.forgetting_note,
            latency_overhead=self.latency_overhead,
            reload_difference=self.reload_difference,
        )


def classify(error: Exception) -> tuple[str, str]:
    """Status and words for what went wrong in a probe."""
    import torch

    words = f"{type(error).__name__}: {error}".replace("\n", " ")[:500]
    has_sign = any(sign in words.lower() for sign in OUT_OF_MEMORY_SIGNS)
    if has_sign or isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "out of memory", words
    if isinstance(error, (Diverged, NotFinite)):
        return "diverged", str(error)
    if isinstance(error, adapters.Ineffective):
        return "ineffective", str(error)
    return "failed", words
