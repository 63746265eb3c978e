"""Finished runs of the user as records of the benchmark table: what was trained to its end, and nothing else.

A probe that stopped on its way is no truth about the end. What counts is the run that `advisor train` brought to its
end, and those candidates of a race that went to the last step of the planned run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advisor.recommendation import CandidateReport, Result
from advisor.save import load
from advisor.training.training_report import TrainingReport, finished_report
from knowledge import table
from knowledge.era import software_era
from knowledge.errors import BadInput
from knowledge.methods import get_method
from knowledge.schema import OWN, OWN_FORGETTING, RunRecord, held_out
from knowledge.table_merge import MergeReport
from probes.schema import FAILURES

CONFIG_KEYS_APART = frozenset({"peft_type", "task_type"})  # of a PEFT config, kept beside it or implied


def record_outcomes(folder: Path) -> MergeReport:
    """Puts the finished runs of a recommendation's folder into the user's own table; twice changes nothing."""
    return table.user_store().add(finished_runs(folder), replace=True)


def finished_runs(folder: Path) -> list[RunRecord]:
    """The finished runs in the folder of a recommendation. Raises BadInput where there is none."""
    result = load(folder)
    report = finished_report(folder, result)
    if not result.benchmark:
        raise BadInput(
            f"{folder} holds no runs to record: nothing was probed or trained on data there. "
            "`advisor train` runs a recommendation to its end."
        )
    found = [] if report is None else [_trained(result, report)]
    found += [
        _raced(result, c)
        for c in result.candidates
        if _went_to_the_end(c, result) and (report is None or c.identity != _identity(report))
    ]
    if not found:
        raise BadInput(
            f"{folder} holds no finished run: no candidate of the race went to step {result.planned_run.max_steps}. "
            f"`advisor train {folder}` makes one."
        )
    return found


def _went_to_the_end(candidate: CandidateReport, result: Result) -> bool:
    """On a device that the result tells of: for a card that is not here, the probes ran elsewhere."""
    finished = candidate.curve.last_step >= result.planned_run.max_steps and not candidate.rests_on_own_runs
    return finished and candidate.status not in FAILURES and not result.device.planned


def _identity(report: TrainingReport) -> tuple[str, float]:
    return report.name, report.learning_rate


def _trained(result: Result, report: TrainingReport) -> RunRecord:
    return _record(
        result,
        result.pick,
        curve=report.curve,
        dtype=report.dtype,
        drift=report.forgetting,
        peak_bytes=report.peak_bytes if report.device_kind == "cuda" else None,
        adapter_bytes=report.adapter_bytes,
        trainable_parameters=report.trainable_parameters,
        train_s=report.train_s,
        device=report.device,
        versions=report.versions,
    )


def _raced(result: Result, candidate: CandidateReport) -> RunRecord:
    return _record(
        result,
        candidate,
        curve=candidate.curve,
        dtype="float32" if result.device.kind == "cpu" else result.planned_run.dtype,
        drift=candidate.forgetting,
        peak_bytes=candidate.probe_peak_bytes if result.device.kind == "cuda" else None,
        adapter_bytes=candidate.adapter_bytes,
        trainable_parameters=candidate.trainable_parameters,
        train_s=candidate.curve.points[-1].elapsed_s,
        device=result.device.name,
        versions=result.versions,
    )


def _record(result: Result, candidate: CandidateReport, *, versions: Mapping[str, str], **reached: Any) -> RunRecord:
    run, method = result.planned_run, get_method(candidate.name)
    config = dict(candidate.peft_config or {})
    metric_name = reached["curve"].metric_name
    return RunRecord(
        benchmark=f"{result.benchmark}/{software_era(versions)}",
        experiment=f"{candidate.name}/lr{candidate.learning_rate:g}-seed{run.seed}",
        method=candidate.name,
        task=run.task,
        model=result.model.location if result.model.source == "hub" else Path(result.model.location).name,
        peft_type=candidate.peft_type,
        peft_config={k: v for k, v in config.items() if k not in CONFIG_KEYS_APART},
        learning_rate=candidate.learning_rate,
        optimizer=method.optimizer.rpartition(":")[2],
        weight_decay=method.weight_decay,
        scheduler=run.scheduler,
        batch_size=run.rows_per_step,
        max_steps=run.max_steps,
        max_length_tokens=run.max_length_tokens,
        label_mean_tokens=round(result.data.label_mean_tokens, 2) if result.data else None,
        seed=run.seed,
        quantization=run.quantization,
        gradient_checkpointing=run.gradient_checkpointing,
        metric_name=held_out(metric_name),
        metric=reached["curve"].points[-1].metric,
        drift_name=None if reached["drift"] is None else OWN_FORGETTING,
        total_parameters=result.model.parameters,
        versions=versions,
        created_at=result.created_at,  # of the recommendation: a run that is recorded again replaces itself
        source=OWN,
        **reached,
    )
