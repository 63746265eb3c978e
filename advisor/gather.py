"""The third station: evidence. Starts the workers, races the planned probes on them and keeps what was measured."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.forecast.held_out import EVAL_ROWS
from advisor.planning import Costs, Lineup
from advisor.requirements.effects import asks_for_latency, objection_to
from advisor.requirements.scope import Scope
from advisor.survey import Survey
from knowledge.errors import BadInput
from knowledge.schema import DType, PlannedRun
from probes.data.dataset import PreparedData
from probes.device import asked_threads, cpu_cores, free_host_bytes, idle_cores, training_devices
from probes.executors.base import Executor
from probes.executors.process import ProcessExecutor
from probes.metrics import code_fingerprint, own_place
from probes.racing.conduct import Conductor, Contestant
from probes.racing.evidence import Evidence
from probes.racing.journal import Journal
from probes.racing.observer import Observer
from probes.racing.race import Race
from probes.schema import ProbeContext, Schedule

JOURNAL_FILE = "journal.jsonl"
MAX_CPU_WORKERS = 4
BYTES_PER_PARAMETER = 6  # a base in float32, and half as much again for training beside it


@dataclass(frozen=True)
class ProbePlace:
    """Where probes run. `speed_up_alone`: at most so many times faster is a run that has the device to itself."""

    executor: Executor
    device: str
    threads: int = 1  # of each worker
    speed_up_alone: float = 1.0


@contextmanager
def open_executor(survey: Survey, folder: Path) -> Iterator[ProbePlace]:
    """The place that the request names. Its workers are started: they load the base while the memory is estimated."""
    assert survey.data is not None
    survey.data.save(folder / "data")
    place = _on_a_cluster(survey) if survey.request.executor == "ray" else _on_this_machine(survey)
    with place.executor as executor:
        executor.start(_context(survey, folder, place))
        yield place


def _on_this_machine(survey: Survey) -> ProbePlace:
    device, gpus = training_devices()
    workers = survey.request.workers or (len(gpus) if gpus else _workers_without_cuda(survey, device))
    executor = ProcessExecutor(workers, gpus)
    if device != "cpu":
        return ProbePlace(executor, device, speed_up_alone=float(math.ceil(workers / len(gpus or ["the only one"]))))
    cores = asked_threads() or cpu_cores()
    could_have_several = cores > 1 and cpu_cores() >= 2 * workers  # else nothing need be looked for
    threads = max(1, min(cores, idle_cores() // workers)) if could_have_several else 1
    return ProbePlace(executor, device, threads, cores / threads)


def _workers_without_cuda(survey: Survey, device: str) -> int:
    """One on the GPU of a Mac; on a processor as many as there are cores for, and memory: each holds a base."""
    if device == "mps":
        return 1
    needed_bytes = BYTES_PER_PARAMETER * survey.model.parameters
    have_room = int(free_host_bytes() // needed_bytes) if needed_bytes else MAX_CPU_WORKERS
    return max(1, min(MAX_CPU_WORKERS, cpu_cores(), have_room))


def _on_a_cluster(survey: Survey) -> ProbePlace:
    """Candidates that need more than the planned card has do not enter the race, so that several probes may share a
    card that is larger."""
    from probes.executors.ray import RayExecutor

    device = survey.device
    executor = RayExecutor(
        survey.request.ray_address,
        workers=survey.request.workers,
        memory_bytes=device.limit_bytes if device.planned else None,
    )
    if executor.device == "cuda" and device.kind == "cpu":
        executor.close()
        raise BadInput(
            "The Ray cluster trains on GPUs, and there is none here to plan for. Name the card of the cluster with "
            "--gpu, e.g. --gpu A100, or give the memory that one probe may use with --vram."
        )
    return ProbePlace(executor, executor.device)


def _context(survey: Survey, folder: Path, place: ProbePlace) -> ProbeContext:
    assert survey.data is not None
    return context_of(
        survey.planned_run,
        folder,
        model_reference=survey.request.model,
        device=place.device,
        dtype=probe_dtype(place.device, survey.planned_run),
        eval_rows=min(EVAL_ROWS, len(survey.data.eval)),
        metric_name=survey.data.profile.metric_name,
        own_metric=own_place(survey.request.metric),
        measures_latency=asks_for_latency(survey.request.require),
        threads=place.threads,
        trust_remote_code=survey.request.trust_remote_code,
    )


def probe_dtype(device: str, run: PlannedRun) -> DType:
    """What the planned run trains in; on a processor float32, for bfloat16 is three times slower on most of them."""
    return "float32" if device == "cpu" else run.dtype


def context_of(run: PlannedRun, folder: Path, **settings: Any) -> ProbeContext:
    """What workers in `folder` are told of the planned run, with the further fields of a context as `settings`."""
    return ProbeContext(
        task=run.task,
        data_folder=str(folder / "data"),
        work_folder=str(folder),
        quantization=run.quantization,
        batch_size=run.batch_size,
        gradient_accumulation_steps=run.gradient_accumulation_steps,
        gradient_checkpointing=run.gradient_checkpointing,
        max_grad_norm=run.max_grad_norm,
        seed=run.seed,
        **settings,
    )


def schedule_of(run: PlannedRun) -> Schedule:
    """The planned run's schedule: probes are prefixes of it, so a survivor's probe goes on as the run itself."""
    return Schedule(shape=run.scheduler, total_steps=run.max_steps, warmup_steps=run.warmup_steps)


def open_journal(survey: Survey, folder: Path, *, resume: bool, dry_run: bool = False) -> Journal:
    """The journal of this request's race in `folder`, which a dry run only reads; entering it raises BadInput where
    another race is there."""
    assert survey.data is not None
    identity = fingerprint(survey.data, survey.model.location, survey.planned_run, survey.request.metric)
    return Journal(folder / JOURNAL_FILE, identity, resume=resume, read_only=dry_run)


def gather(
    survey: Survey,
    lineup: Lineup,
    executor: Executor,
    journal: Journal,
    observer: Observer,
    deadline: float,
    costs: Costs,
) -> tuple[Evidence, Race]:
    """Runs the planned race; see probes.racing.conduct for what happens when it cannot come to its end."""
    assert survey.data is not None
    race = Race(lineup.plan)
    contestants = [
        Contestant(c.id, c.method.title, c.method.name, c.learning_rate, c.peft_config) for c in lineup.entering
    ]
    metric_name = survey.data.profile.metric_name
    conductor = Conductor(
        race,
        contestants,
        schedule_of(survey.planned_run),
        executor,
        journal,
        observer,
        deadline,
        metric_name,
        batch_size=survey.planned_run.batch_size,
        silence_limit_s=costs.silence_limit_s,
        grace_s=60 * survey.request.budget_minutes,
        probed_before_s=lineup.probed_before_s,
        end_s=costs.end_s,
        objection_to=lambda outcome: objection_to(outcome, survey.request.require, Scope.of(survey)),
    )
    return conductor.run(), race


def fingerprint(data: PreparedData, model_location: str, run: PlannedRun, metric: str | None) -> str:
    """Names what measurements depend on, beside the candidate itself. `metric` is the one that was asked for."""
    content = hashlib.sha256()
    for rows in (data.train, data.eval):
        for array in rows.arrays.values():
            content.update(array.tobytes())
    content.update(f"{model_location}\n{data.profile.metric_name}\n".encode())
    content.update(json.dumps(run.model_dump(mode="json"), sort_keys=True).encode())
    content.update(code_fingerprint(metric).encode())
    return content.hexdigest()[:16]
