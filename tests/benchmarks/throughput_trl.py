"""The other side of tests.benchmarks.throughput: the same fine-tune by TRL's SFTTrainer, in processes that stay.

SFTTrainer is used as its documentation shows, with its own collator and loss on the completions alone. Three of its
defaults are changed, each in its favour or for equal losses: no gradient checkpointing (which would cost it another
forward pass), float32 instead of bfloat16, and the rows in the order that the probes see.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probes.schema import ProbeContext


@dataclass(frozen=True)
class Task:
    """What both sides train: LoRA of `peft_config` at `learning_rate`, `steps` steps at a constant rate."""

    context: ProbeContext
    peft_config: dict[str, Any]
    learning_rate: float
    weight_decay: float
    steps: int


@dataclass
class Trace:
    """The training loss of each step, and when each ended (time.monotonic, which all processes share)."""

    losses: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)


class TrlSide:
    """Races two candidates with TRL: at once with one thread each, or after one another with two threads."""

    def __init__(self, workers: int, threads: int) -> None:
        self.workers = workers
        processes = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, processes, _start, (threads, processes.Barrier(workers)))

    def race(self, tasks: Sequence[Task]) -> list[Trace]:
        """One trace for each of the tasks; as many at a time as there are workers."""
        return list(self._pool.map(_train, tasks))

    def close(self) -> None:
        self._pool.shutdown()


_ready: Any = None  # of a pool's process: all of them wait here, so that timed steps run beside timed steps


def _start(threads: int, ready: Any) -> None:
    import torch

    global _ready
    _ready = ready
    torch.set_num_threads(threads)


def _train(task: Task) -> Trace:
    import tempfile

    import peft
    from trl import SFTConfig, SFTTrainer

    from probes.source import load_model, load_tokenizer, resolve_model

    context = task.context
    source = resolve_model(context.model_reference)
    trace = Trace()

    class Watched(SFTTrainer):
        def training_step(self, *arguments: Any, **options: Any) -> Any:
            loss = super().training_step(*arguments, **options)
            trace.losses.append(float(loss))
            return loss

    with tempfile.TemporaryDirectory() as folder:
        trainer = Watched(
            model=load_model(source, task=context.task, dtype="float32"),
            args=SFTConfig(
                folder,
                max_steps=task.steps,
                per_device_train_batch_size=context.batch_size,
                learning_rate=task.learning_rate,
                lr_scheduler_type="constant",
                weight_decay=task.weight_decay,
                max_grad_norm=context.max_grad_norm,
                seed=context.seed,
                bf16=False,
                gradient_checkpointing=False,
                train_sampling_strategy="sequential",
                dataset_kwargs={"skip_prepare_dataset": True},  # tokenised already, and not part of what is timed
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=_rows(task),
            processing_class=load_tokenizer(source),
            peft_config=peft.PeftConfig.from_peft_type(**task.peft_config),
            callbacks=[_clock(trace)],
        )
        _ready.wait()
        trainer.train()
    return trace


def _clock(trace: Trace) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            trace.ended_s.append(time.monotonic())

    return Clock()


def _rows(task: Task) -> Any:
    """The probes' training rows in the order in which the probes see them, with labels on the completions."""
    import numpy as np
    from datasets import Dataset

    from probes.data.dataset import PreparedData

    data = PreparedData.load(Path(task.context.data_folder))
    order = data.batch_order(task.context.batch_size, task.steps, task.context.seed)
    picked = [data.train.row(int(i)) for i in np.concatenate(order)]
    return Dataset.from_dict(
        {
            "input_ids": [ids.tolist() for ids, _ in picked],
            "labels": [np.where(trained, ids, -100).tolist() for ids, trained in picked],
        }
    )
