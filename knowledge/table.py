"""The benchmark table: finished runs, shipped with the package and added by the user.

The shipped part lies in knowledge/data/*.jsonl (origin: SOURCES.md beside it), and JSON lines are what tables are
shared as. The user's part is a store in the user's data folder (knowledge/store.py). Runs are comparable within one
benchmark only, so every query keeps benchmarks apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

from knowledge.errors import BadInput, first_fault
from knowledge.new_files import replace_file
from knowledge.places import own_folder_of
from knowledge.schema import RunRecord
from knowledge.store import STORE_FILE, RunStore
from knowledge.table_merge import MergeReport, merged, record_id


def user_data_folder() -> Path:
    """Where the user's own files lie: $ADVISOR_DATA_DIR, else the platform's convention. It need not exist yet."""
    return own_folder_of("ADVISOR_DATA_DIR", on_mac="Application Support", xdg=("XDG_DATA_HOME", ".local/share"))


def user_store() -> RunStore:
    """The user's own runs."""
    return RunStore(user_data_folder() / STORE_FILE)


def load(include_user: bool = True) -> tuple[RunRecord, ...]:
    """All runs, best metric first within their benchmark. A run in both parts is taken as the user has it."""
    records = {record_id(record): record for record in shipped()}
    if include_user:
        records |= {record_id(record): record for record in user_store().runs()}
    return in_order(records.values())


def in_order(records: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    """By benchmark, best metric first."""
    return tuple(sorted(records, key=_order))


@cache
def shipped() -> tuple[RunRecord, ...]:
    """The runs that travel with the package."""
    records: list[RunRecord] = []
    for entry in sorted(resources.files("knowledge").joinpath("data").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".jsonl"):
            records += _parse(entry.read_text(encoding="utf-8"), entry.name)
    return tuple(records)


def read(path: Path) -> tuple[RunRecord, ...]:
    """The runs of one file of JSON lines; none where the file does not exist. Raises BadInput at the first bad line."""
    if not path.exists():
        return ()
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadInput(
            f"{path} is no text in UTF-8, as files of runs are (`advisor knowledge export` writes them)."
        ) from None
    return _parse(text, str(path))


def merge(path: Path, new: Iterable[RunRecord], replace: bool = False) -> MergeReport:
    """Adds runs to a file of JSON lines, so that merging the same runs again changes nothing.

    A stored run that differs from a new one of the same id stays as it is and is reported, unless `replace`.
    The file is written whole and moved into place: an interrupted merge leaves the old one.
    """
    stored = {record_id(record): record for record in read(path)}
    changed, report = merged(stored, new, replace)
    if changed:
        write(path, (stored | {record_id(record): record for record in changed}).values())
    return report


def write(path: Path, records: Iterable[RunRecord]) -> None:
    """Writes runs as JSON lines, in the order of `load`; folders are made as needed."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder. Give the name of a file for the runs.")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [record.model_dump_json(exclude_defaults=True) + "\n" for record in in_order(records)]
    replace_file(path, "".join(lines).encode())


def by_benchmark(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs grouped by their benchmark, both in the order given."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.benchmark, []).append(record)
    return groups


def by_measure(records: Iterable[RunRecord]) -> dict[tuple[str, str], list[RunRecord]]:
    """Runs grouped by their benchmark and the name of their metric, for own runs of one task may be judged by several;
    all in the order given."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for benchmark, runs in by_benchmark(records).items():
        for run in runs:
            groups.setdefault((benchmark, run.metric_name), []).append(run)
    return groups


def _order(record: RunRecord) -> tuple[str, bool, float, str, str]:
    """By benchmark, best first, runs without a final value last; the rest only makes the order unique."""
    missing = record.metric is None
    return record.benchmark, missing, 0.0 if missing else -record.metric, record.experiment, record.created_at


def _parse(text: str, name: str) -> tuple[RunRecord, ...]:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(RunRecord.model_validate(json.loads(line)))
        except (ValueError, RecursionError) as error:  # ValidationError is a ValueError too
            raise BadInput(
                f"{name}, line {number} is no run record: {first_fault(error)}. Repair or remove that line; "
                "`advisor knowledge export` writes such files."
            ) from None
    return tuple(records)
