"""Runs the study: every method at its learning rates, on every task, under three probe protocols.

    python -m examples.study.run --out DIR [--workers 2] [--task NAME ...]

It can be stopped and started again at any time, with any number of workers: a candidate that is done is known by its
result in DIR or in `results/`, one that is being worked on by a lock that ends with its process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from examples.study.records import (
    RESULTS,
    Protocol,
    StudyResult,
    StudyRun,
    candidate_name,
    collect,
    read_collected,
    write,
)
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
from examples.study.tasks import TASKS, StudyTask
from knowledge.errors import AdvisorError
from knowledge.methods import get_method
from knowledge.schema import CurvePoint
from probes.schema import Baseline, ProbeContext, ProbeJob, ProbeOutcome, Schedule

if TYPE_CHECKING:
    from probes.session import Session

# Spread over the families, so that a study that stops early has seen different kinds.
METHODS = (
    *("lora", "ln-tuning", "oft", "prompt-tuning", "miss", "ia3"),
    *("lora-all-linear", "shira", "vera", "hira", "dora", "lora-fa"),
)
BEYOND = 3
"""Besides the catalogue's rates this multiple of the highest is run: a bias to high rates can only be seen where the
best rate is not the highest one."""
NOISE_METHODS, NOISE_SEEDS = ("lora", "oft", "ia3"), (1, 2)
VERSIONS_OF = ("torch", "transformers", "peft", "reasoning-gym")


@dataclass(frozen=True)
class Candidate:
    task: StudyTask
    method: str
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        return candidate_name(self.method, self.learning_rate, self.seed)


class ProbeFailed(AdvisorError):
    """A training failed for a reason that says nothing of the candidate; it is done again at the next start."""


def candidates(tasks: Sequence[StudyTask]) -> Iterator[Candidate]:
    """In the order in which they are run: one task after the other, the lowest rates and other seeds last."""
    for task in tasks:
        for method in METHODS:
            for rate in learning_rates(method)[1:]:
                yield Candidate(task, method, rate, seed=0)
        for seed in NOISE_SEEDS:
            for method in NOISE_METHODS:
                yield Candidate(task, method, get_method(method).learning_rates[-1], seed)
        for method in METHODS:
            yield Candidate(task, method, learning_rates(method)[0], seed=0)


def learning_rates(method: str) -> tuple[float, ...]:
    """The catalogue's rates and one beyond, ascending."""
    rates = get_method(method).learning_rates
    return (*rates, float(f"{BEYOND * rates[-1]:.3g}"))


def work(out: Path, task_names: Sequence[str], kept: Path = RESULTS) -> None:
    """One worker: takes the next candidate that is neither done nor being worked on, until there is none."""
    done = {(r.task, r.candidate) for r in read_collected(kept)}
    bench: Workbench | None = None
    failed = []
    for candidate in candidates([TASKS[name] for name in task_names]):
        task, name = candidate.task, candidate.name
        file = out / task.name / f"{name}.json"
        if (task.name, name) in done or file.exists():
            continue
        lock = FileLock(out / "locks" / f"{task.name}.{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        with lock:
            if file.exists():  # done by another worker between the look and the lock
                continue
            if bench is None or bench.task != task or bench.seed != candidate.seed:
                bench = Workbench(task, candidate.seed, out)
            started = time.monotonic()
            try:
                write(bench.measure(candidate), out)
            except ProbeFailed as error:
                failed.append(f"{task.name} {name}: {error}")
            _log(f"{task.name} {name}: {time.monotonic() - started:.0f} s")
    if failed:
        raise SystemExit("\n".join(failed))


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
        training = _Training(self, candidate)
        steps = self.task.max_steps
        full = training.run("full", 1.0, full_schedule(steps), full_eval_steps(steps))
        runs = [full]
        for fraction in FRACTIONS:
            length = rung(fraction, steps)
            runs.append(training.run("short", fraction, short_schedule(length), (length,)))
        runs += training.branches()
        shutil.rmtree(self.work_folder / candidate.name, ignore_errors=True)
        return self._result(candidate, training, runs)

    def _result(self, candidate: Candidate, training: _Training, runs: list[StudyRun]) -> StudyResult:
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
        )


class _Training:
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


def _shape(bench: Workbench) -> Any:
    from probes.adapters import model_shape
    from probes.source import empty_model, load_config

    source = bench.session.source
    labels = len(bench.session.data.label_names) or None
    return model_shape(empty_model(source, load_config(source), bench.task.task, labels), bench.task.task)


def _prepared(task: StudyTask, out: Path) -> Path:
    """The folder with the task's tokenised rows; made by the worker that comes first."""
    import json

    from probes.dataset import prepare
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
                max_eval_rows=task.eval_rows,
            )
            data.save(folder)
    return folder


def _context(task: StudyTask, seed: int, data_folder: Path, work_folder: Path) -> ProbeContext:
    from probes.dataset import PreparedData

    return ProbeContext(
        model_reference=task.model_reference(),
        task=task.task,
        data_folder=str(data_folder),
        work_folder=str(work_folder),
        batch_size=task.batch_size,
        eval_rows=task.eval_rows,
        metric_name=PreparedData.load(data_folder).profile.metric_name,
        seed=seed,
    )


def _processor() -> str:
    """The processor's name, where the system tells it."""
    import platform

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _log(message: str) -> None:
    print(f"{datetime.now():%H:%M:%S} [{os.getpid()}] {message}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the running study")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this task; repeatable")
    parser.add_argument("--collect", action="store_true", help="only join what is done into examples/study/results")
    arguments = parser.parse_args()
    if arguments.collect:
        print(f"{collect(arguments.out)} new results")
        return 0
    (arguments.out / "locks").mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    names = arguments.task or list(TASKS)
    workers = [context.Process(target=work, args=(arguments.out, names)) for _ in range(arguments.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return int(any(worker.exitcode for worker in workers))


if __name__ == "__main__":
    sys.exit(main())
