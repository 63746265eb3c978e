"""Cohorts: the runs of one suite that were published together, one folder of result files each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advisor.end_model import features, probe_of
from knowledge.importers import import_folder
from knowledge.prior import suite_of
from knowledge.schema import RunRecord

PROBE_FRACTIONS = (0.05, 0.10, 0.20)
FEWEST_RUNS = 12


@dataclass(frozen=True)
class Cohort:
    """Finished runs of one suite from one folder. `rejected` files could not be read, with their reasons."""

    name: str
    runs: tuple[RunRecord, ...]
    rejected: dict[str, str]


def load_cohorts(results: Path) -> tuple[list[Cohort], dict[str, str]]:
    """The cohorts below a folder, and those left out with the reason. Several runs of one experiment: the latest."""
    cohorts, left_out = [], {}
    folders = sorted({path.parent for path in results.rglob("*.json")})
    for folder in folders:
        report = import_folder(folder)
        suites: dict[str, dict[str, RunRecord]] = {}
        for run in sorted(report.records, key=lambda r: r.created_at):
            if run.metric is not None:
                suites.setdefault(suite_of(run), {})[run.experiment] = run
        for suite, by_experiment in suites.items():
            name = f"{folder.relative_to(results)}: {suite}"
            runs = [by_experiment[e] for e in sorted(by_experiment)]
            usable = [r for r in runs if all(features(probe_of(r, f)) is not None for f in PROBE_FRACTIONS)]
            if runs[0].task == "text-to-image":
                left_out[name] = "the loss of a diffusion step says nearly nothing about the images"
            elif len(usable) < FEWEST_RUNS:
                left_out[name] = f"only {len(usable)} runs with losses at 5, 10 and 20 % (at least {FEWEST_RUNS})"
            else:
                # One name for the whole cohort: it was published as one table, whatever stacks it was made with.
                named = tuple(r.model_copy(update={"benchmark": f"{suite}/published"}) for r in usable)
                cohorts.append(Cohort(name, named, report.rejected))
    return cohorts, left_out


def group_of(run: RunRecord) -> str:
    """What "a method" means when it is held out: PEFT's type, so that no close relative stays behind."""
    return run.peft_type or "full"
