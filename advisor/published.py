"""Image generators: the answer from published runs of the same model, for probing them is not offered.

What a published run measured is taken as it is: quality, drift, memory, time. Quality and drift are about the images of
that benchmark, which the answer says; memory and time hold for its settings and its card.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from advisor.candidates import left_out_by
from advisor.recommendation import CandidateReport, Prediction
from advisor.request import Request
from advisor.requirements.effects import parse_checkable, violations_of, without_violators
from advisor.requirements.scope import Scope
from knowledge import table
from knowledge.diffusion_models import known_image_generator
from knowledge.errors import BadInput, NothingFits, did_you_mean
from knowledge.intervals import Z_80
from knowledge.methods import all_methods
from knowledge.methods.base import Method
from knowledge.schema import MemoryEstimate, PlannedRun, RunRecord
from probes.schema import DeviceReport, ModelReport

TASK = "text-to-image"
SCOPE = Scope(task=TASK, probe=False, model_type="image generator")
# Evaluations late in a run over which its quality is as good as settled: what still moves there is noise.
SETTLED_POINTS = 4
# What the user may not choose, for the published runs have chosen it.
FIXED = (
    "data",
    "epochs",
    "max_steps",
    "batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "scheduler",
    "warmup_fraction",
    "max_length_tokens",
    "format",
    "metric",
)


@dataclass(frozen=True)
class PublishedAnswer:
    """What a survey and a race find out elsewhere, here from published runs alone."""

    request: Request
    model: ModelReport
    device: DeviceReport
    planned_run: PlannedRun
    reports: list[CandidateReport]
    data: None = None


def asks_for_images(request: Request) -> bool:
    """Whether the request is about an image generator, in words or by its model."""
    return request.task == TASK or (request.task is None and known_image_generator(request.model) is not None)


def published_answer(request: Request, say: Callable[[str], None]) -> PublishedAnswer:
    """A report for each method of which there is a published run on this model.

    Raises BadInput where the request asks for what the published runs cannot answer or there is no card to judge for,
    NothingFits where the device is too small for all of them.
    """
    from probes.device import detect

    _check(request)
    runs = _runs_of(request.model)
    say(f"nothing is probed: {len(runs)} published runs of {runs[0].model} on {runs[0].device} give the answer")
    device = detect(request.vram, request.gpu)
    chosen, reports = _chosen(runs, request, device.limit_bytes)
    if device.kind != "cuda":
        raise BadInput(
            f"The published runs of {request.model} held memory of a card, and no GPU is here: name one with "
            "--gpu 'RTX 4090', or give --vram 24GB."
        )
    noise, planned_run = evaluation_noise(runs), _planned_run(runs)
    told = [_report(run, noise, planned_run) for run in chosen.values()]
    measured = without_violators(told, request.require, SCOPE)
    reports = [*measured, *reports]
    if not any(run.peak_bytes <= device.limit_bytes for run in chosen.values()):
        raise NothingFits(_too_small(chosen.values(), device))
    return PublishedAnswer(request, _model(request, runs), device, planned_run, reports)


def evaluation_noise(runs: Sequence[RunRecord]) -> float:
    """Standard deviation of one evaluation, over all runs: neighbouring ones late in a run differ by noise alone, and
    the difference of two has twice the variance of one. 0 where no run was evaluated twice."""
    late = [[p.metric for p in run.curve.points if p.metric is not None][-SETTLED_POINTS:] for run in runs]
    squares = [(b - a) ** 2 for values in late for a, b in pairwise(values)]
    return math.sqrt(fmean(squares) / 2) if squares else 0.0


def _check(request: Request) -> None:
    if request.probe:
        raise BadInput(
            f"{request.model} generates images, and image generators are not probed. Add --no-probe (from Python: "
            "probe=False) for the answer from published runs."
        )
    given = [name for name in FIXED if getattr(request, name) != Request.model_fields[name].default]
    given += ["quantize"] if request.quantize not in ("none", "auto") else []
    if given:
        names = ", ".join(given)
        raise BadInput(
            f"The answer for image generators is that of published runs, whose settings are fixed: leave out {names}. "
            "`advisor estimate` knows the memory of other settings of language models only."
        )


def _runs_of(model: str) -> list[RunRecord]:
    runs = [r for r in table.load() if r.task == TASK and r.metric is not None and r.peak_bytes]
    hub_id = known_image_generator(model) or model
    found = [r for r in runs if r.model.lower() == hub_id.lower()]
    if not found:
        known = sorted({r.model for r in runs})
        raise BadInput(f"There is no published run of {model!r}. {did_you_mean(hub_id, known)}")
    return found


def _chosen(
    runs: Sequence[RunRecord], request: Request, limit_bytes: int
) -> tuple[dict[tuple[str, float], RunRecord], list[CandidateReport]]:
    """The run that stands for each method and rate: one that fits before one that does not, then by quality. And a
    report for each method that the request leaves out."""
    catalogue = all_methods()
    requirements = parse_checkable(request.require, SCOPE)
    chosen: dict[tuple[str, float], RunRecord] = {}
    left_out: dict[str, CandidateReport] = {}
    for run in sorted(runs, key=lambda r: (r.peak_bytes > limit_bytes, -r.metric, r.experiment)):
        if run.method not in catalogue:
            continue
        method = catalogue[run.method]
        reason = left_out_by(request, method)
        violations = {} if reason else violations_of(method, requirements)
        if reason or violations:
            why = {
                "status": "excluded",
                "reason": reason or "; ".join(violations.values()),
                "violates": tuple(violations),
            }
            left_out.setdefault(method.name, CandidateReport(**_basics(method, run), **why))
        else:
            chosen.setdefault((method.name, run.learning_rate), run)
    if not chosen:
        reasons = "\n".join(f"  - {report.title}: {report.reason}" for report in left_out.values())
        raise NothingFits(
            f"No published run is left to choose from; leave out one of --require, --methods and --exclude.\n{reasons}"
        )
    return chosen, list(left_out.values())


def _basics(method: Method, run: RunRecord) -> dict:
    return {
        "name": method.name,
        "title": method.title,
        "peft_type": method.peft_type,
        "learning_rate": run.learning_rate,
        # vLLM serves language models, so what the catalogue says of it does not count here.
        "capabilities": method.capabilities.model_dump(exclude={"vllm"}),
    }


def _report(run: RunRecord, noise: float, planned_run: PlannedRun) -> CandidateReport:
    half, method = Z_80 * noise, all_methods()[run.method]
    return CandidateReport(
        **_basics(method, run),
        status="reference" if method.reference_only else "from table",
        predicted=Prediction(
            metric=run.metric_name.removeprefix("test ").replace("_", " "),
            value=run.metric,
            low=run.metric - half,
            high=run.metric + half,
            noise=half,
            extrapolated=True,
        ),
        memory=MemoryEstimate(
            peak_bytes=run.peak_bytes,
            low_bytes=run.peak_bytes,
            high_bytes=run.peak_bytes,
            basis="published",
            note=f"on {run.device}, batch size {run.batch_size}",
        ),
        planned_run_s=run.train_s if run.max_steps == planned_run.max_steps else None,
        drift=run.drift,
        trainable_parameters=run.trainable_parameters,
        adapter_bytes=run.adapter_bytes,
        peft_config={"peft_type": run.peft_type, **run.peft_config} if run.peft_type else None,
    )


def _planned_run(runs: Sequence[RunRecord]) -> PlannedRun:
    """The published runs' own settings; of their lengths the most common, i.e. that of all but a few short ones."""
    steps = [run.max_steps for run in runs]
    run = runs[0]
    return PlannedRun(
        task=TASK,
        max_steps=max(set(steps), key=steps.count),
        batch_size=run.batch_size,
        max_length_tokens=run.max_length_tokens or 512,
        scheduler="constant",
        warmup_fraction=0.0,
        weight_decay=run.weight_decay,
        dtype=run.dtype,
        gradient_checkpointing=run.gradient_checkpointing,
        seed=run.seed,
    )


def _model(request: Request, runs: Sequence[RunRecord]) -> ModelReport:
    without_adapter = [r.total_parameters - (r.trainable_parameters or 0) for r in runs if r.total_parameters]
    return ModelReport(
        reference=request.model,
        source="known architecture",
        location=runs[0].model,
        model_type="image generator",
        parameters=max(without_adapter, default=0),
        task=TASK,
    )


def _too_small(runs: Sequence[RunRecord], device: DeviceReport) -> str:
    least = min(runs, key=lambda r: r.peak_bytes)
    return (
        f"No published run fits {device.limit_bytes / 1e9:.1f} GB: the smallest, {least.experiment}, held "
        f"{least.peak_bytes / 1e9:.1f} GB with batch size {least.batch_size}. Plan for a larger card (--vram, --gpu)."
    )
