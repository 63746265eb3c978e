"""Trains a candidate under all protocols: the planned run, complete short runs, and branches of a constant-rate trunk.

Everything is the product's own code: its data pipeline, its training loop, its checkpoints.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from examples.study.candidates import Candidate
from examples.study.records import Protocol, StudyResult, StudyRun
from examples.study.schedules import (
    FRACTIONS,
    branch_schedule,
    full_eval_steps,
    full_schedule,
    rung,
    short_schedule,
    trunk_schedule,
    trunk_steps,
)
from examples.study.tasks import StudyTask
from knowledge.errors import AdvisorError
from knowledge.methods import get_method
from knowledge.schema import CurvePoint
from probes.schema import Baseline, ProbeContext, ProbeJob, ProbeOutcome, Schedule

if TYPE_CHECKING:
    from knowledge.shape import ModelShape
    from probes.session import Session

VERSIONS_OF = ("torch", "transformers", "peft", "reasoning-gym")


class ProbeFailed(AdvisorError):
    """A training failed for a reason that says nothing of the candidate; it is done again at the next start."""


class Workbench:
    """A task with its data, and the loaded model that its candidates are trained on."""

    def __init__(self, task: StudyTask, seed: int, out: Path) -> None:
        from probes.session import Session, seed_everything

        self.task, self.seed = task, seed
        self.work_folder = out / task.name / "work"
        self.context = _context(task, seed, _prepared(task, out), self.work_folder)
        seed_everything(seed)  # a new classification head is drawn when the model is loaded
        self.session: Session = Session(self.context)
        self.baseline: Baseline = self.session.baseline()

    def measure(self, candidate: Candidate) -> StudyResult:
        """Trains a candidate under all protocols. Raises ProbeFailed where a training broke down."""
        shutil.rmtree(self.work_folder / candidate.name, ignore_errors=True)  # left over by a killed worker
        training = Training(self, candidate)
        steps = self.task.max_steps
        full = training.run("full", 1.0, full_schedule(steps), full_eval_steps(steps))
        runs = [full]
        if self.task.is_compared:
            for fraction in FRACTIONS:
                length = rung(fraction, steps)
                runs.append(training.run("short", fraction, short_schedule(length), (length,)))
            runs += training.branches()
        shutil.rmtree(self.work_folder / candidate.name, ignore_errors=True)
        return self._result(candidate, training, runs)

    def _result(self, candidate: Candidate, training: Training, runs: list[StudyRun]) -> StudyResult:
        task, data, method = self.task, self.session.data, get_method(candidate.method)
        return StudyResult(
            task=task.name,
            benchmark=task.benchmark,
            kind=task.task,
            model=task.model,
            method=candidate.method,
            learning_rate=candidate.learning_rate,
            seed=candidate.seed,
            peft_config=training.peft_config,
            weight_decay=method.weight_decay,
            optimizer=method.optimizer,
            batch_size=task.batch_size,
            max_steps=task.max_steps,
            max_length_tokens=task.max_length_tokens,
            label_mean_tokens=round(data.profile.label_mean_tokens, 2),
            train_rows=len(data.train),
            eval_rows=len(self.session.held_out),
            metric_name=self.context.metric_name,
            baseline_loss=self.baseline.eval_loss,
            baseline_metric=self.baseline.metric,
            trainable_parameters=training.first.trainable_parameters,
            adapter_bytes=training.first.adapter_bytes,
            peak_bytes=training.first.peak_bytes,
            runs=tuple(runs),
            device=_processor(),
            threads=self.context.threads,
            versions={name: version(name) for name in VERSIONS_OF},
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            is_compared=task.is_compared,
        )


class Training:
    """The trainings of one candidate."""

    def __init__(self, bench: Workbench, candidate: Candidate) -> None:
        self.bench, self.candidate = bench, candidate
        self.peft_config = get_method(candidate.method).peft_config(_shape(bench), bench.task.max_steps)
        self.first: ProbeOutcome

    def run(
        self,
        protocol: Protocol,
        fraction: float,
        schedule: Schedule,
        eval_steps: Sequence[int],
        earlier_train_s: float = 0.0,
    ) -> StudyRun:
        """One training from its start, or from a checkpoint in its folder that took `earlier_train_s` to train."""
        started = time.process_time()
        outcome = self.outcome(f"{protocol}-{fraction:g}", schedule, schedule.total_steps, eval_steps)
        if protocol == "full":
            self.first = outcome
        return StudyRun(
            protocol=protocol,
            fraction=fraction,
            schedule=schedule,
            status=outcome.status,
            reason=outcome.reason,
            points=tuple(_rounded(point) for point in outcome.points),
            trained_steps=outcome.last_step - outcome.first_step,
            duration_s=round(outcome.duration_s, 3),
            cpu_s=round(time.process_time() - started, 3),
            train_share=round((outcome.train_s - earlier_train_s) / outcome.duration_s, 4),
        )

    def branches(self) -> list[StudyRun]:
        """A trunk at constant rate, and at each rung a branch from its checkpoint that decays to zero."""
        steps, runs = self.bench.task.max_steps, []
        folder = self.bench.work_folder / self.candidate.name
        for fraction in FRACTIONS:
            length = rung(fraction, steps)
            trunk = self.outcome("trunk", trunk_schedule(steps), trunk_steps(length), ())
            if trunk.status != "finished":
                runs.append(
                    StudyRun(
                        protocol="branch",
                        fraction=fraction,
                        schedule=branch_schedule(length, steps),
                        status=trunk.status,
                        reason=trunk.reason,
                    )
                )
                continue
            if (folder / "trunk").exists():  # where a method's state cannot be stored the branch starts over
                shutil.copytree(folder / "trunk", folder / f"branch-{fraction:g}")
            runs.append(self.run("branch", fraction, branch_schedule(length, steps), (length,), trunk.train_s))
        return runs

    def outcome(self, name: str, schedule: Schedule, stop_step: int, eval_steps: Sequence[int]) -> ProbeOutcome:
        from probes.session import seed_everything

        seed_everything(self.bench.seed)
        outcome = self.bench.session.run(
            ProbeJob(
                id=f"{self.candidate.name}/{name}",
                method=self.candidate.method,
                learning_rate=self.candidate.learning_rate,
                peft_config=self.peft_config,
                schedule=schedule,
                stop_step=stop_step,
                eval_steps=tuple(eval_steps),
            ),
            on_step=lambda id, step, loss: None,
            on_point=lambda id, point: None,
        )
        if outcome.status in ("failed", "out of memory"):
            raise ProbeFailed(f"{name} {outcome.status}: {outcome.reason}")
        return outcome


def _rounded(point: CurvePoint) -> CurvePoint:
    """Six digits after the point are beyond every difference that could matter."""
    return CurvePoint(**{k: round(v, 6) for k, v in point.model_dump(exclude_none=True).items()})


def _shape(bench: Workbench) -> ModelShape:
    from probes.shape import model_shape
    from probes.source import empty_model, load_config

    source = bench.session.source
    labels = len(bench.session.data.label_names) or None
    return model_shape(empty_model(source, load_config(source), bench.task.task, labels), bench.task.task)


def _prepared(task: StudyTask, out: Path) -> Path:
    """The folder with the task's tokenised rows; made by the worker that comes first."""
    from probes.data.dataset import prepare
    from probes.source import load_tokenizer, resolve_model

    folder = out / task.name / "data"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "prepared.json").exists():
            rows = folder / "rows.jsonl"
            rows.write_text("".join(json.dumps(row) + "\n" for row in task.rows()), encoding="utf-8")
            tokenizer = load_tokenizer(resolve_model(task.model_reference()))
            data = prepare(
                rows,
                tokenizer,
                task=task.task,
                max_length_tokens=task.max_length_tokens,
                eval_fraction=task.eval_fraction,
                max_eval_rows=task.eval_rows,
            )
            data.save(folder)
    return folder


def _context(task: StudyTask, seed: int, data_folder: Path, work_folder: Path) -> ProbeContext:
    from probes.data.dataset import PreparedData

    return ProbeContext(
        model_reference=task.model_reference(),
        task=task.task,
        data_folder=str(data_folder),
        work_folder=str(work_folder),
        batch_size=task.batch_size,
        eval_rows=task.eval_rows,
        metric_name=task.metric_name or PreparedData.load(data_folder).profile.metric_name,
        seed=seed,
        measures_forgetting=False,
    )


def _processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
