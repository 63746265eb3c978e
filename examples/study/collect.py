"""Keeps what a running study has found: adds it to `results/`, and to the benchmark table on request.

    python -m examples.study.collect --out DIR [--table FILE]

`--table knowledge/data/study.jsonl` is the part of the shipped table that comes from this study. Only tasks in which
every method is done at its upper rates enter it: half a task would make the methods that came first look like the
field.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from examples.study.candidates import candidates
from examples.study.records import RESULTS, StudyResult, collect, read_collected
from examples.study.tasks import TASKS
from knowledge.importers import NotARun, study
from knowledge.schema import RunRecord
from knowledge.table import merge


def finished_tasks(results: Sequence[StudyResult]) -> list[str]:
    """The tasks of which every candidate with seed 0 has a result, but for the lowest rates, which come last."""
    done = {(r.task, r.candidate) for r in results}
    return [
        name
        for name, task in TASKS.items()
        if all((name, c.name) in done for c in candidates([task]) if c.seed == 0 and not c.is_lowest_rate)
    ]


def run_records(results: Sequence[StudyResult]) -> list[RunRecord]:
    """The full runs of the finished tasks; a candidate that diverged has none."""
    tasks, records = finished_tasks(results), []
    for result in results:
        if result.task in tasks:
            try:
                records.append(study.read(result.model_dump(mode="json")))
            except NotARun:
                continue
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the running study")
    parser.add_argument("--table", type=Path, help="file of run records to update, e.g. knowledge/data/study.jsonl")
    arguments = parser.parse_args()
    print(f"{collect(arguments.out)} new results in {RESULTS}")
    if arguments.table:
        report = merge(arguments.table, run_records(read_collected()), replace=True)
        print(f"{report.added} new records in {arguments.table}, {report.unchanged} already there")


if __name__ == "__main__":
    main()
