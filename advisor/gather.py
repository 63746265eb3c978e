"""The third station: evidence. Plans the probes within the budget, races them and keeps what was measured."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advisor.candidates import Candidate
from advisor.planned_memory import with_memory
from advisor.recommendation import CandidateReport
from advisor.requirements import objection_to
from advisor.survey import Survey
from advisor.text import bytes_text
from knowledge.errors import NothingFits
from knowledge.prior import NEUTRAL, MethodPrior
from knowledge.schema import PlannedRun
from probes.conduct import Conductor, Contestant, Evidence
from probes.dataset import PreparedData
from probes.executors.base import Executor
from probes.executors.process import ProcessExecutor
from probes.journal import Journal
from probes.observer import Observer
from probes.race import Entry, Race, RacePlan, plan_race
from probes.schema import Baseline, DeviceReport, ProbeContext, Schedule

JOURNAL_FILE = "journal.jsonl"
MAX_CPU_WORKERS = 4
FEWEST_STEPS = 8  # of the first rung: before that a loss tells how large a learning rate is and little else
EVAL_ROWS = 64  # standard error of a mean loss below a tenth of a nat; more rows cost more than they tell in a rung
# A training step costs this many forward passes: forward, backward through the frozen base and the adapter
# (measured on SmolLM2-135M with LoRA: 2.3; full fine-tuning adds the gradients of all weights).
STEP_PER_FORWARD = 2.4
FULL_STEP_PER_FORWARD = 3.2
PROBE_OVERHEAD_S = 1.5  # taking the adapter on and off, checking the base, writing the checkpoint


@dataclass(frozen=True)
class Costs:
    """What probing costs on this machine, in seconds of one worker."""

    step_s: Mapping[str, float]  # candidate id -> one optimizer step
    evaluation_s: float  # one of the held-out rows, and one of the texts on which forgetting is measured


def probe_device() -> tuple[str, list[int] | None]:
    """Where probes train: the torch device and the CUDA indices to spread workers over."""
    import torch

    if torch.cuda.is_available():
        return "cuda", list(range(torch.cuda.device_count()))
    return ("mps", None) if torch.backends.mps.is_available() else ("cpu", None)


def open_executor(survey: Survey, folder: Path) -> Executor:
    """An executor for this machine, started: its workers load the base while the memory is estimated."""
    assert survey.data is not None
    device, indices = probe_device()
    run = survey.planned_run
    survey.data.save(folder / "data")
    context = ProbeContext(
        model_reference=survey.request.model,
        task=run.task,
        data_folder=str(folder / "data"),
        work_folder=str(folder),
        device=device,
        # Probes train in the precision that this device is made for; bfloat16 is three times slower on most CPUs.
        dtype="float32" if device == "cpu" else "bfloat16",
        quantization=run.quantization,
        batch_size=run.batch_size,
        gradient_accumulation_steps=run.gradient_accumulation_steps,
        gradient_checkpointing=run.gradient_checkpointing,
        max_grad_norm=run.max_grad_norm,
        eval_rows=min(EVAL_ROWS, len(survey.data.eval)),
        metric_name=survey.data.profile.metric_name,
        seed=run.seed,
        trust_remote_code=survey.request.trust_remote_code,
    )
    default_workers = len(indices) if indices else min(MAX_CPU_WORKERS, os.cpu_count() or 1)
    executor = ProcessExecutor(survey.request.workers or default_workers, indices)
    executor.start(context)
    return executor


def schedule_of(run: PlannedRun) -> Schedule:
    """The planned run's schedule: probes are prefixes of it, so a survivor's probe goes on as the run itself."""
    return Schedule(shape=run.scheduler, total_steps=run.max_steps, warmup_steps=run.warmup_steps)


def measure_costs(
    survey: Survey, baseline: Baseline, candidates: Sequence[Candidate], priors: Mapping[str, MethodPrior]
) -> Costs:
    """Seconds per step of each candidate, from the speed of the baseline's evaluation and the table's relative
    times. The race replaces them by measured times as soon as there are some."""
    assert survey.data is not None
    run = survey.planned_run
    micro_batches = min(run.max_steps, 100) * run.gradient_accumulation_steps
    order = survey.data.batch_order(run.batch_size, micro_batches, run.seed)
    lengths = survey.data.train.lengths_tokens
    padded_tokens = sum(len(rows) * int(lengths[rows].max()) for rows in order) / len(order)
    forward_s = baseline.eval_s / baseline.eval_tokens * padded_tokens * run.gradient_accumulation_steps
    step_s = {}
    for candidate in candidates:
        prior = priors.get(candidate.method.name)
        slower = max(1.0, prior.relative_time) if prior and prior.relative_time else 1.0
        passes = STEP_PER_FORWARD if candidate.method.peft_type else FULL_STEP_PER_FORWARD
        step_s[candidate.id] = forward_s * passes * slower
    return Costs(step_s, baseline.eval_s + baseline.texts_s)


def plan_probes(
    survey: Survey,
    candidates: Sequence[Candidate],
    costs: Costs,
    priors: Mapping[str, MethodPrior],
    budget_s: float,
    workers: int,
) -> RacePlan:
    """Which candidates enter and how far the rungs go, so that the race ends within the budget."""
    entries = [
        Entry(
            id=c.id,
            method=c.method.name,
            family=c.method.family,
            learning_rate=c.learning_rate,
            predicted_peak_bytes=c.memory.peak_bytes if c.memory else None,
            prior=priors[c.method.name].score if c.method.name in priors else NEUTRAL,
            title=c.method.title,
        )
        for c in candidates
    ]
    steps = survey.planned_run.max_steps
    run_s = {c.id: costs.step_s[c.id] * steps for c in candidates}
    overhead_s = PROBE_OVERHEAD_S + costs.evaluation_s
    return plan_race(
        entries, run_s, budget_s, workers, overhead_s, shortest_fraction=FEWEST_STEPS / survey.planned_run.max_steps
    )


def plan_what_fits(
    survey: Survey,
    candidates: Sequence[Candidate],
    costs: Costs,
    priors: Mapping[str, MethodPrior],
    workers: int,
    deadline: float,
    say: Callable[[str], None],
) -> tuple[RacePlan, list[Candidate], list[CandidateReport]]:
    """The plan, the candidates that enter with their memory, and reports of those that do not fit the device.

    Memory is estimated only for who would enter, a few seconds per method; what does not fit makes room for the next
    in line. Raises NothingFits where no candidate is left.
    """
    waiting, sized, too_large = list(candidates), {}, []
    while True:
        if not waiting:
            raise NothingFits(does_not_fit(too_large, survey.device))
        plan = plan_probes(survey, waiting, costs, priors, deadline - time.monotonic(), workers)
        entering = {entry.id for entry in plan.entries}
        unsized = [c for c in waiting if c.id in entering and c.id not in sized]
        if not unsized:
            return plan, [sized[id] for id in (entry.id for entry in plan.entries)], too_large
        fitting, dropped = with_memory(unsized, survey, say)
        sized.update({c.id: c for c in fitting})
        too_large += dropped
        lost = {report.name for report in dropped}
        waiting = [sized.get(c.id, c) for c in waiting if c.method.name not in lost]


def does_not_fit(too_large: Sequence[CandidateReport], device: DeviceReport) -> str:
    """The message for a device that is too small for everything, with what would help."""
    smallest = min(too_large, key=lambda report: report.memory.peak_bytes if report.memory else math.inf)
    need = bytes_text(smallest.memory.peak_bytes) if smallest.memory else "more"
    return (
        f"Nothing fits {bytes_text(device.limit_bytes)} ({device.name}): the smallest candidate, {smallest.title}, "
        f"needs {need}. Try a smaller --batch-size or --max-length, --gradient-checkpointing, or --quantize nf4."
    )


def open_journal(survey: Survey, folder: Path, resume: bool) -> Journal:
    """The journal of this request's race in `folder`; entering it raises BadInput where another race is there."""
    assert survey.data is not None
    identity = fingerprint(survey.data, survey.model.location, survey.planned_run)
    return Journal(folder / JOURNAL_FILE, identity, resume=resume)


def gather(
    survey: Survey,
    plan: RacePlan,
    candidates: Sequence[Candidate],
    executor: Executor,
    journal: Journal,
    observer: Observer,
    deadline: float,
) -> tuple[Evidence, Race]:
    """Runs the planned race; see probes.conduct for what happens when it cannot come to its end."""
    assert survey.data is not None
    race = Race(plan)
    contestants = [Contestant(c.id, c.method.title, c.method.name, c.learning_rate, c.peft_config) for c in candidates]
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
        objection_to=lambda outcome: objection_to(outcome, survey.request.require),
    )
    return conductor.run(), race


def fingerprint(data: PreparedData, model_location: str, run: PlannedRun) -> str:
    """Names what measurements depend on, beside the candidate itself."""
    content = hashlib.sha256()
    for rows in (data.train, data.eval):
        for array in (rows.tokens, rows.label_mask, rows.offsets, rows.class_labels):
            if array is not None:
                content.update(array.tobytes())
    content.update(model_location.encode())
    content.update(json.dumps(run.model_dump(mode="json"), sort_keys=True).encode())
    return content.hexdigest()[:16]
