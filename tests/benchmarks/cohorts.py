"""Cohorts: the runs of one suite that were published together, one folder of result files each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from advisor.forecast.end_model import loss_of
from knowledge.importers import import_files
from knowledge.prior import REFERENCE, suite_of
from knowledge.schema import RunRecord

PROBE_FRACTIONS = (0.05, 0.10, 0.20)
LENGTHS = (*PROBE_FRACTIONS, 1.0)
FEWEST_RUNS = 12


@dataclass(frozen=True)
class Cohort:
    """Finished runs of one suite and length from one folder. `rejected`: what else lay there, with the reasons."""

    name: str
    runs: tuple[RunRecord, ...]
    rejected: dict[str, str]


def load_cohorts(results: Path) -> tuple[list[Cohort], dict[str, str]]:
    """The cohorts of a folder and of those below it, and what was left out whole with the reason."""
    cohorts: list[Cohort] = []
    left_out: dict[str, str] = {}
    for folder in sorted({path.parent for path in results.rglob("*.json")}):
        place = str(folder.relative_to(results))
        report = import_files(sorted(folder.glob("*.json")), folder)
        if not report.records:
            left_out[place] = f"no run in it: {_in_words(report.rejected.values())}"
        groups: dict[tuple[str, int], list[RunRecord]] = {}
        for run in report.records:
            groups.setdefault((suite_of(run), run.max_steps), []).append(run)
        lengths = Counter(suite for suite, _ in groups)
        for (suite, max_steps), runs in groups.items():
            name = f"{place}: {suite}" + (f", {max_steps} steps" if lengths[suite] > 1 else "")
            usable, unusable = _usable(runs)
            if runs[0].task == "text-to-image":
                left_out[name] = "the loss of a diffusion step says nearly nothing about the images"
            elif len(usable) < FEWEST_RUNS:
                reasons = [*unusable.values(), *report.rejected.values()]
                why = f" ({_in_words(reasons)})" if reasons else ""
                left_out[name] = f"{len(usable)} of its {len(runs)} runs can be used, {FEWEST_RUNS} are needed{why}"
            else:
                # One name for the whole cohort: it was published as one table, whatever stacks it was made with.
                named = tuple(run.model_copy(update={"benchmark": f"{suite}/published"}) for run in usable)
                cohorts.append(Cohort(name, named, report.rejected | unusable))
    return cohorts, left_out


def _usable(runs: Iterable[RunRecord]) -> tuple[list[RunRecord], dict[str, str]]:
    """One run of each experiment and each candidate, in order of their names, and why not the others."""
    usable: dict[str, RunRecord] = {}
    rejected = {}
    for run in sorted(runs, key=lambda run: run.created_at, reverse=True):
        reason = _reason_against(run)
        if reason is None and run.experiment in usable:
            reason = "an older run of the same experiment"
        if reason is None:
            usable[run.experiment] = run
        else:
            rejected[f"{run.experiment} of {run.created_at}"] = reason
    kept = sorted(of_one_seed(usable.values()), key=lambda run: run.experiment)
    for experiment in usable.keys() - {run.experiment for run in kept}:
        rejected[experiment] = "another seed of a candidate"
    return kept, rejected


def _reason_against(run: RunRecord) -> str | None:
    """Why a run cannot take part, as far as it alone tells."""
    if run.metric is None:
        return "no final metric"
    if run.peak_bytes is None:
        return "no peak memory"
    for fraction in LENGTHS:
        points = run.curve.until(round(fraction * run.max_steps)).points
        if not points or loss_of(points[-1]) is None or points[-1].metric is None:
            return f"no loss or no validation metric at {fraction:.0%} of the run"
    return None


def _in_words(reasons: Iterable[str]) -> str:
    """'2 times no peak memory, ...'"""
    return ", ".join(f"{count} times {reason}" for reason, count in Counter(reasons).most_common(3))


def of_one_seed(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Each candidate once, with the lowest seed that it was run with: a decision names a method and a rate."""
    first: dict[tuple, RunRecord] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        training = run.learning_rate, run.optimizer, run.weight_decay, run.scheduler, run.batch_size
        first.setdefault((settings_key(run), *training), run)
    return list(first.values())


def settings_key(run: RunRecord) -> str:
    """Runs of one key differ in the learning rate only (the plain LoRA of rank 32 is the race's reference)."""
    if run.method == REFERENCE and run.peft_config.get("r") == 32:
        return REFERENCE
    return f"{run.method} {json.dumps(run.peft_config, sort_keys=True, default=str)}"


def group_of(run: RunRecord) -> str:
    """What "a method" means when it is held out: PEFT's type, so that no close relative stays behind."""
    return run.peft_type or "full"
