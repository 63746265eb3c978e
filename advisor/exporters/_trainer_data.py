"""Where a trainer's rows lie, and which files it would read otherwise than the probes did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.exporters.base import NotExpressible
from knowledge.places import at_home
from probes.reader import hub_place

UNWRAP = "Take the rows out of it, e.g. `jq -c '.[][]'`, or use the training script (--to script)."
SCRIPT = "Use the training script instead (--to script)."
FORMS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True)
class DataPlace:
    """A data file, or a dataset on the hub."""

    path: str
    """Absolute, of a file; the id of a hub dataset."""
    form: str | None
    """json, csv or parquet; None for a dataset on the hub."""
    subset: str | None = None
    split: str = "train"

    def part(self, name_of_subset: str) -> dict[str, str]:
        """Which split is read, and of a hub dataset which subset, under the trainer's name for it."""
        return {"split": self.split} | ({name_of_subset: self.subset} if self.subset else {})

    @property
    def is_here(self) -> bool:
        return self.form is not None and Path(self.path).is_file()

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """The rows of a file that is here; of others none."""
        from probes.reader import read_rows
        from probes.skipped import SkipLedger

        if self.is_here:
            yield from (row for _, row in read_rows(self.path, SkipLedger(self.path, budget=1.0)))


def data_place(given: str, target: str) -> DataPlace:
    """Where the rows lie. Raises NotExpressible for files that the trainer would read as other rows, or not at all."""
    path, ending = Path(given), Path(given).suffix.lower()
    if ending in (".gz", ".bz2", ".zst", ".xz", ".tsv"):
        raise NotExpressible(f"{target} is not sure to read {ending} files.", "Decompress the data, or use the script.")
    if _has_other_separator(path):
        raise NotExpressible(f"{target} reads {path.name} as separated by commas, which it is not.", SCRIPT)
    if _is_around_the_rows(path):
        raise NotExpressible(f"{target} would read {path.name}, an object around its rows, as a single row.", UNWRAP)
    if ending in FORMS:
        return DataPlace(str(at_home(given).resolve()), FORMS[ending])
    name, subset, split = hub_place(given)
    return DataPlace(name, None, subset, split)


def _is_around_the_rows(path: Path) -> bool:
    """Whether a JSON file, where it is here, is one object that holds the array of rows, as `{"data": [...]}`."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    from probes.reader import is_json_lines

    with path.open("rb") as file:
        head = file.read(2**16)
    return head.lstrip().startswith(b"{") and not is_json_lines(head)


def _has_other_separator(path: Path) -> bool:
    """Whether the values of a CSV file, where it is here, are separated by something else than commas."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    from probes.tables import separator_of

    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return separator_of(file.readline()) != ","
