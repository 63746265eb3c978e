"""Runs probes one after the other on one loaded base model: the inside of a worker.

A session loads the base once and keeps it from probe to probe, because loading costs more than a rung. After each
probe the adapter is taken off again and the base's loss on one held-out batch must be what it was, bit for bit;
where it is not, the base is loaded anew.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge.methods import get_method
from knowledge.schema import CurvePoint
from probes import adapters, checkpoint
from probes.evaluation import NotFinite, evaluate
from probes.forgetting import ForgettingMeter
from probes.memory_use import MemoryUse
from probes.schema import Baseline, ProbeContext, ProbeJob, ProbeOutcome
from probes.training import Diverged, Progress, train

if TYPE_CHECKING:
    from knowledge.methods.base import Method
    from probes.dataset import TokenRows
    from probes.evaluation import Evaluation
    from probes.forgetting import Forgetting

# Called with the job's id, the step just done and its training loss, and with each new point of the curve.
OnStep = Callable[[str, int, float], None]
OnPoint = Callable[[str, CurvePoint], None]


class Session:
    """The state of one worker: the data, the base model, and the base's loss to check it against."""

    def __init__(self, context: ProbeContext) -> None:
        import torch

        from probes.dataset import PreparedData
        from probes.source import load_tokenizer, resolve_model

        self.context = context
        if context.device == "cpu":
            torch.set_num_threads(context.threads)
        self.data = PreparedData.load(Path(context.data_folder))
        self.held_out = self.data.eval.first(context.eval_rows)
        self.source = resolve_model(context.model_reference, trust_remote_code=context.trust_remote_code)
        tokenizer = load_tokenizer(self.source)
        self.pad_token_id = tokenizer.pad_token_id
        self.memory = MemoryUse(context.device)
        self._base: Any = None
        self._base_loss: float | None = None
        self._forgetting = ForgettingMeter(context, tokenizer, self._evaluate)

    def baseline(self) -> Baseline:
        """Loads the base and evaluates it untuned."""
        started = time.perf_counter()
        base = self._take_base()
        load_s = time.perf_counter() - started
        started = time.perf_counter()
        held_out = self._evaluate(base)
        eval_s = time.perf_counter() - started
        self._forgetting.prepare(base)
        self._base = base
        return Baseline(
            eval_loss=held_out.loss,
            metric=held_out.metric,
            load_s=load_s,
            eval_s=eval_s,
            eval_tokens=held_out.tokens,
            row_labels=held_out.row_labels,
            texts_s=self._forgetting.evaluation_s,
        )

    def run(self, job: ProbeJob, on_step: OnStep, on_point: OnPoint) -> ProbeOutcome:
        """Trains one candidate to `job.stop_step`. Failures are outcomes, not exceptions."""
        started = time.perf_counter()
        run = _Run(job, on_step, on_point)
        try:
            self._train(run)
            if job.save_to:
                run.reload_difference = self._reload_difference(run, Path(job.save_to))
        except Exception as error:  # the boundary of a probe: whatever a method raises is a result
            self._base = None
            run.status, run.reason = _classify(error)
        if run.peak_bytes is None:
            run.peak_bytes = self.memory.peak_bytes()
        return run.outcome(time.perf_counter() - started)

    def _train(self, run: _Run) -> None:
        job, context = run.job, self.context
        assert job.method and job.schedule
        method = get_method(job.method)
        base = self._take_base()
        self._forgetting.prepare(base)
        self.memory.reset_peak()
        seed_everything(context.seed)
        model = adapters.apply_method(
            base, method, dict(job.peft_config) if job.peft_config else None, batches=self._calibration_batches
        )
        if context.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        optimizer = adapters.make_optimizer(model, method, job.learning_rate)
        run.trainable_parameters = adapters.trainable_parameters(model)
        run.adapter_bytes = adapters.adapter_bytes(model)
        folder = Path(context.work_folder) / job.id
        run.progress = checkpoint.load(folder, model, optimizer) or Progress()
        on_the_way = checkpoint.Periodic(folder, model, optimizer)
        run.first_step = run.progress.step
        order = self.data.batch_order(
            context.batch_size, job.schedule.total_steps * context.gradient_accumulation_steps, context.seed
        )
        for item in train(
            model,
            optimizer,
            job.schedule,
            self.data.train,
            order,
            context,
            progress=run.progress,
            stop_step=job.stop_step,
            eval_steps=job.eval_steps,
            evaluate=lambda: run.remember(self._evaluate(model)),
            after_step=lambda step: adapters.after_optimizer_step(model, step),
            through_model_loss=method.trains_through_model_loss,
            pad_token_id=self.pad_token_id,
        ):
            run.take(item)
            # Where a point of the curve is due, the step alone is not all of it: what follows would be lost.
            if job.save_to and (isinstance(item, CurvePoint) or run.progress.step not in job.eval_steps):
                on_the_way.save_if_due(run.progress)
        run.peak_bytes = self.memory.peak_bytes()
        if checkpoint.supported(model, optimizer, any_size=job.save_to is not None):
            checkpoint.save(folder, model, optimizer, run.progress)
        if job.save_to:
            run.saved_loss = self._first_loss(model)
            adapters.save_adapter(model, Path(job.save_to))
        run.forgetting, run.forgetting_note = self._forgetting.measure(model)
        self._give_back(model, method)

    def _evaluate(self, model: Any, rows: TokenRows | None = None) -> Evaluation:
        """Of `rows`, or of the held-out ones."""
        return evaluate(
            model,
            self.held_out if rows is None else rows,
            task=self.context.task,
            metric_name=self.context.metric_name,
            batch_size=self.context.batch_size,
            pad_token_id=self.pad_token_id,
            device=self.context.device,
        )

    def _calibration_batches(self, count: int = 8) -> list[dict[str, Any]]:
        """The first training batches, for methods that initialise themselves from data."""
        from probes.batching import collate
        from probes.evaluation import to_device

        order = self.data.batch_order(self.context.batch_size, count, self.context.seed)
        return [
            to_device(collate(self.data.train, rows, self.pad_token_id, self.context.task), self.context.device)
            for rows in order
        ]

    def _take_base(self) -> Any:
        """The untouched base model. The session forgets it until `_give_back`, so a failure cannot leave a
        half-adapted base behind."""
        base, self._base = self._base, None
        if base is None:
            base = self._load_base(self.context.seed)
            if self._base_loss is None:
                self._base_loss = self._first_loss(base)
        return base

    def _load_base(self, seed: int) -> Any:
        """A classification head that the model does not bring is drawn anew: the same for all workers of a seed."""
        from probes.source import load_model

        gc.collect()
        seed_everything(seed)
        base = load_model(
            self.source,
            task=self.context.task,
            dtype=self.context.dtype,
            quantization=self.context.quantization,
            device=self.context.device,
            num_labels=len(self.data.label_names) or None,
        )
        adapters.keep_differentiable(base)
        return base

    def _reload_difference(self, run: _Run, folder: Path) -> float:
        """How far the loss of what lies in `folder` on a freshly loaded base is from that of the model it was saved
        from. A head that is not in the files would be drawn otherwise there than in training."""
        self._base = None
        model = adapters.load_adapter(self._load_base(self.context.seed + 1), folder)
        return abs(self._first_loss(model) - run.saved_loss)

    def _give_back(self, model: Any, method: Method) -> None:
        if not adapters.restores_base(method):
            return
        base = adapters.remove_method(model)
        if self._first_loss(base) == self._base_loss:
            self._base = base

    def _first_loss(self, model: Any) -> float:
        """On the first held-out batch."""
        return self._evaluate(model, self.data.eval.first(min(len(self.data.eval), self.context.batch_size))).loss


class _Run:
    """What is known of a job so far, so that a failure keeps the points that came before it."""

    def __init__(self, job: ProbeJob, on_step: OnStep, on_point: OnPoint) -> None:
        self.job, self.on_step, self.on_point = job, on_step, on_point
        self.status, self.reason = "finished", ""
        self.points: list[CurvePoint] = []
        self.row_losses: tuple[float, ...] = ()
        self.progress = Progress()
        self.first_step = 0
        self.peak_bytes: int | None = None
        self.trainable_parameters: int | None = None
        self.adapter_bytes: int | None = None
        self.forgetting: Forgetting | None = None
        self.forgetting_note = ""
        self.saved_loss = 0.0
        self.reload_difference: float | None = None

    def remember(self, held_out: Evaluation) -> Evaluation:
        """Passes the evaluation on; its rows are the outcome's until the next one."""
        self.row_losses = held_out.row_losses
        return held_out

    def take(self, item: CurvePoint | float) -> None:
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
            row_losses=self.row_losses,
            first_step=self.first_step,
            last_step=self.progress.step,
            duration_s=duration_s,
            train_s=self.progress.train_s,
            trained_tokens=self.progress.trained_tokens,
            peak_bytes=self.peak_bytes,
            trainable_parameters=self.trainable_parameters,
            adapter_bytes=self.adapter_bytes,
            forgetting=self.forgetting.value if self.forgetting else None,
            forgetting_noise=self.forgetting.noise if self.forgetting else None,
            forgetting_note=self.forgetting_note,
            reload_difference=self.reload_difference,
        )


def seed_everything(seed: int) -> None:
    """Seeds every generator that a method's initialisation may draw from."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _classify(error: Exception) -> tuple[str, str]:
    """Status and words for what went wrong in a probe."""
    import torch

    words = f"{type(error).__name__}: {error}".replace("\n", " ")[:500]
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
        return "out of memory", words
    if isinstance(error, (Diverged, NotFinite)):
        return "diverged", str(error)
    if isinstance(error, adapters.Ineffective):
        return "ineffective", str(error)
    return "failed", words
