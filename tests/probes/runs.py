"""Short real training runs on the tiny models, for the tests of what surrounds them."""

import numpy as np
import torch

from knowledge.methods import get_method
from probes import adapters
from probes.data.rows import TokenRows
from probes.evaluation import evaluate
from probes.schema import ProbeContext, Schedule
from probes.session import seed_everything
from probes.shape import model_shape
from probes.training import Progress, train
from tests.tiny import tiny_batch, tiny_calibration, tiny_model, tiny_task


def rows_of(architecture: str, *, rows: int = 32, seed: int = 100) -> TokenRows:
    """Rows of the counting task; the second half of each sequence is trained (all labels for a classifier)."""
    batch = tiny_batch(architecture, rows=rows, seed=seed)
    if tiny_task(architecture) == "sequence-classification":
        return TokenRows.build(
            [(ids.tolist(), [False] * len(ids)) for ids in batch["input_ids"]], batch["labels"].tolist()
        )
    if tiny_task(architecture) == "seq2seq-lm":
        pairs = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)
        return TokenRows.build([(s + t, [False] * len(s) + [True] * len(t)) for s, t in pairs])
    return TokenRows.build([(ids, [False] * 8 + [True] * (len(ids) - 8)) for ids in batch["input_ids"].tolist()])


def context_of(architecture: str, tmp_path, **settings) -> ProbeContext:
    task = tiny_task(architecture)
    return ProbeContext(
        model_reference="tiny",
        task=task,
        data_folder=str(tmp_path),
        work_folder=str(tmp_path),
        batch_size=8,
        eval_rows=16,
        metric_name="accuracy" if task == "sequence-classification" else "exact match",
        **settings,
    )


class Run:
    """One candidate on a tiny model, ready to be trained for a number of steps at a time."""

    def __init__(self, architecture, method_name, tmp_path, *, steps=12, learning_rate=None, **settings):
        self.context = context_of(architecture, tmp_path, **settings)
        self.rows = rows_of(architecture)
        self.held_out = rows_of(architecture, rows=16, seed=7)
        self.schedule = Schedule(shape="cosine", total_steps=steps, warmup_steps=2)
        self.method = get_method(method_name)
        base = tiny_model(architecture).to(getattr(torch, self.context.dtype))
        config = self.method.peft_config(model_shape(base, self.context.task), steps)
        seed_everything(0)
        self.model = adapters.apply_method(base, self.method, config, batches=lambda: tiny_calibration(architecture))
        rate = learning_rate or self.method.default_learning_rate
        self.optimizer = adapters.make_optimizer(self.model, self.method, rate)
        self.progress = Progress()
        self.order = [np.arange(8) + 8 * (i % 4) for i in range(steps)]

    def evaluate(self):
        return evaluate(
            self.model,
            self.held_out,
            task=self.context.task,
            metric_name=self.context.metric_name,
            batch_size=8,
            pad_token_id=0,
            device="cpu",
        )

    def to(self, stop_step, eval_steps=()):
        """Everything that training yields until `stop_step`."""
        return list(
            train(
                self.model,
                self.optimizer,
                self.schedule,
                self.rows,
                self.order,
                self.context,
                progress=self.progress,
                stop_step=stop_step,
                eval_steps=eval_steps,
                evaluate=self.evaluate,
                after_step=lambda step: adapters.after_optimizer_step(self.model, step),
                through_model_loss=self.method.trains_through_model_loss,
                pad_token_id=0,
            )
        )
