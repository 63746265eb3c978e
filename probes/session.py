"""Runs probes one after the other on one loaded base model: the inside of a worker.

A session loads the base once and keeps it from probe to probe, because loading costs more than a rung. After each
probe the adapter is taken off again and the base's loss on one held-out batch must be what it was, bit for bit;
where it is not, the base is loaded anew.
"""

from __future__ import annotations

import gc
import logging
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge.methods import get_method
from knowledge.schema import CurvePoint
from probes import adapters, checkpoint
from probes.evaluation import evaluate
from probes.forgetting import ForgettingMeter
from probes.job_run import JobRun, OnPoint, OnStep, classify
from probes.latency import latency_overhead
from probes.memory_use import MemoryUse
from probes.metrics import MACRO_F1, OwnMetric, macro_f1
from probes.schema import Baseline, ProbeContext, ProbeJob, ProbeOutcome
from probes.training import Progress, train

if TYPE_CHECKING:
    from knowledge.methods.base import Method
    from probes.data.dataset import TokenRows
    from probes.evaluation import Evaluation

logger = logging.getLogger(__name__)


class Session:
    """The state of one worker: the data, the base model, and the base's loss to check it against."""

    def __init__(self, context: ProbeContext) -> None:
        import torch

        from probes.data.dataset import PreparedData
        from probes.source import load_tokenizer, resolve_model

        self.context = context
        if context.device == "cpu":
            torch.set_num_threads(context.threads)
        if context.memory_share < 1:  # the probe that needs more runs out of memory, and not its neighbour
            torch.cuda.set_per_process_memory_fraction(context.memory_share)
        self.data = PreparedData.load(Path(context.data_folder))
        self.held_out = self.data.eval.first(context.eval_rows)
        self.source = resolve_model(context.model_reference, trust_remote_code=context.trust_remote_code)
        tokenizer = load_tokenizer(self.source)
        self.pad_token_id = tokenizer.pad_token_id
        self._metric_of_rows = self._load_metric_of_rows(tokenizer)
        self.memory = MemoryUse(context.device)
        self._base: Any = None
        self._base_loss: float | None = None
        self._untuned: Evaluation | None = None
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
            token_accuracy=held_out.token_accuracy,
            load_s=load_s,
            eval_s=eval_s,
            eval_tokens=held_out.tokens,
            row_labels=held_out.row_labels,
            texts_s=self._forgetting.evaluation_s,
        )

    def run(self, job: ProbeJob, on_step: OnStep, on_point: OnPoint) -> ProbeOutcome:
        """Trains one candidate to `job.stop_step`. Failures are outcomes, not exceptions."""
        started = time.perf_counter()
        run = JobRun(job, on_step, on_point)
        try:
            self._train(run)
            if job.save_to:
                run.reload_difference = self._reload_difference(run, Path(job.save_to))
        except Exception as error:  # the boundary of a probe: whatever a method raises is a result
            self._base = None
            run.status, run.reason = classify(error)
        if run.status != "finished":
            run.note_peak(self.memory.peak_bytes())
        return run.outcome(time.perf_counter() - started)

    def _train(self, run: JobRun) -> None:
        job, context = run.job, _in_parts(self.context, run.job.micro_batches)
        method = get_method(job.method)
        model = self._model_to_train(job, method)
        optimizer = adapters.make_optimizer(model, method, job.learning_rate)
        run.trainable_parameters = adapters.trainable_parameters(model)
        run.adapter_bytes = adapters.adapter_bytes(model, method)
        folder = Path(context.work_folder) / job.id
        run.progress = checkpoint.load(folder, model, optimizer, job.start_step) or Progress()
        run.peak_bytes = run.progress.peak_bytes
        on_the_way = checkpoint.Periodic(folder, model, optimizer, lambda: run.note_peak(self.memory.peak_bytes()))
        run.first_step = run.progress.step
        order = self._order(job, job.stop_step)  # of a run of millions of steps all of it would take seconds
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
            evaluate=lambda: run.remember(self._evaluate(model, batch_size=context.batch_size)),
            after_step=lambda step: adapters.after_optimizer_step(model, step),
            through_model_loss=method.trains_through_model_loss,
            pad_token_id=self.pad_token_id,
        ):
            run.take(item)
            # Where a point of the curve is due, the step alone is not all of it: what follows would be lost.
            if job.save_to and (isinstance(item, CurvePoint) or run.progress.step not in job.eval_steps):
                on_the_way.save_if_due(run.progress)
        self._measure_end(run, model, method, context)
        # After all measurements: a probe that dies between its checkpoint and its outcome would have to start over.
        if checkpoint.supported(model, optimizer, any_size=job.save_to is not None):
            self._save_checkpoint(folder, model, optimizer, run)
        if job.save_to:
            run.saved_loss = self._first_loss(model)
            adapters.save_adapter(model, Path(job.save_to))
        self._give_back(model, method)

    def _model_to_train(self, job: ProbeJob, method: Method) -> Any:
        """The base with the job's adapter. What is measured of the base alone is measured before, and its memory is
        none of the job's."""
        assert job.schedule
        base = self._take_base()
        self._forgetting.prepare(base)
        if job.stop_step == job.schedule.total_steps and self._untuned is None:
            self._untuned = self._evaluate_all(base)
        self.memory.reset_peak()
        seed_everything(self.context.seed)
        config = dict(job.peft_config) if job.peft_config else None
        model = adapters.apply_method(base, method, config, batches=lambda: self._calibration_batches(job))
        if self.context.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return model

    def _measure_end(self, run: JobRun, model: Any, method: Method, context: ProbeContext) -> None:
        """What is measured once, where a job stops: the most memory held first, for the rest holds some too."""
        if run.has_trained:
            run.note_peak(self.memory.peak_bytes())
        if self._untuned and run.progress.step == run.job.schedule.total_steps:
            run.remember_all(self._evaluate_all(model, context.batch_size), self._untuned)
        run.forgetting, run.forgetting_note = self._forgetting.measure(model)
        try:
            run.latency_overhead = latency_overhead(model, method, context, self.held_out.row(0)[0])
        except Exception as error:  # what cannot write a text, or be turned off, has been trained all the same
            logger.warning("the time of a request was not measured: %s", error)

    def _save_checkpoint(self, folder: Path, model: Any, optimizer: Any, run: JobRun) -> None:
        """On a full disk a probe goes without: it loses time if it is continued, but no result."""
        try:
            checkpoint.save(folder, model, optimizer, run.progress)
            run.left_checkpoint = True
        except OSError:
            if run.job.save_to:
                raise

    def _order(self, job: ProbeJob, steps: int) -> list[np.ndarray]:
        """The rows of every forward pass of `steps` optimizer steps."""
        context = self.context
        batches = self.data.batch_order(context.batch_size, steps * context.gradient_accumulation_steps, context.seed)
        if job.micro_batches == 1:
            return batches
        return [part for batch in batches for part in np.array_split(batch, job.micro_batches)]

    def _evaluate_all(self, model: Any, batch_size: int | None = None) -> Evaluation | None:
        """Of all rows that are held out; None where every evaluation is of all of them."""
        return self._evaluate(model, self.data.eval, batch_size) if len(self.data.eval) > len(self.held_out) else None

    def _evaluate(self, model: Any, rows: TokenRows | None = None, batch_size: int | None = None) -> Evaluation:
        """Of `rows`, or of the first of the held-out ones."""
        is_judged = rows is None or rows is self.data.eval
        return evaluate(
            model,
            self.held_out if rows is None else rows,
            task=self.context.task,
            metric_name=self.context.metric_name,
            batch_size=batch_size or self.context.batch_size,
            pad_token_id=self.pad_token_id,
            device=self.context.device,
            metric_of_rows=self._metric_of_rows if is_judged else None,
        )

    def _load_metric_of_rows(self, tokenizer: Any) -> Callable[..., float] | None:
        names = self.data.label_names
        if self.context.own_metric is None:
            return macro_f1 if self.context.metric_name == MACRO_F1 else None
        if names:
            return OwnMetric(self.context.own_metric, lambda ids: names[ids[0]])
        return OwnMetric(self.context.own_metric, lambda ids: tokenizer.decode(ids, skip_special_tokens=True))

    def _calibration_batches(self, job: ProbeJob, count: int = 8) -> list[dict[str, Any]]:
        """The first training batches, for methods that initialise themselves from data; in parts as in training, for
        their gradients may be what ran out of memory."""
        from probes.batching import collate
        from probes.evaluation import to_device

        order = self._order(job, count)[: count * job.micro_batches]
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

    def _reload_difference(self, run: JobRun, folder: Path) -> float:
        """How far the loss of what lies in `folder` on a freshly loaded base is from that of the model it was saved
        from. A head that is not in the files would be drawn otherwise there than in training."""
        self._base = None
        model = adapters.load_adapter(self._load_base(self.context.seed ^ 1), folder)  # another seed, within the bounds
        return abs(self._first_loss(model) - run.saved_loss)

    def _give_back(self, model: Any, method: Method) -> None:
        if not method.capabilities.restores_base:
            return
        try:
            base = adapters.remove_method(model)
            is_as_before = self._first_loss(base) == self._base_loss
        except Exception:  # PEFT takes IA3 off no quantised base; whatever else it is, the probe is done
            return
        if is_as_before:
            self._base = base

    def _first_loss(self, model: Any) -> float:
        """On the first held-out batch."""
        return self._evaluate(model, self.data.eval.first(min(len(self.data.eval), self.context.batch_size))).loss


def _in_parts(context: ProbeContext, parts: int) -> ProbeContext:
    """The same rows per optimizer step, in `parts` times as many forward passes."""
    return context.model_copy(
        update={
            "batch_size": math.ceil(context.batch_size / parts),
            "gradient_accumulation_steps": context.gradient_accumulation_steps * parts,
        }
    )


def seed_everything(seed: int) -> None:
    """Seeds every generator that a method's initialisation may draw from."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
