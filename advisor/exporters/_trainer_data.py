"""Where a trainer's rows lie, and which files it would read otherwise than the probes did."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.exporters.base import NotExpressible
from knowledge.places import at_home
from probes.data.reader import hub_place

UNWRAP = "Take the rows out of it, e.g. `jq -c '.[][]'`, or use the training script (--to script)."
SCRIPT = "Use the training script instead (--to script)."
TABLE_ROWS = 10_000  # whose types `datasets` guesses together
TEXT_COLUMNS = {
    "prompt-completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "text": ("text",),
}
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
        from probes.data.reader import read_rows
        from probes.data.skipped import SkipLedger

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
    from probes.data.reader import is_json_lines

    with path.open("rb") as file:
        head = file.read(2**16)
    return head.lstrip().startswith(b"{") and not is_json_lines(head)


def _has_other_separator(path: Path) -> bool:
    """Whether the values of a CSV file, where it is here, are separated by something else than commas."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    from probes.data.tables import separator_of

    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return separator_of(file.readline()) != ","


def columns_among(data: DataPlace, names: Collection[str]) -> set[str] | None:
    """Those of `names` that some row has; None where the file is not here."""
    missing = set(names)
    if not data.is_here:
        return None
    for row in data.rows():
        missing -= row.keys()
        if not missing:
            break
    return set(names) - missing


def has_tools(data: DataPlace) -> bool:
    """Whether some conversation comes with tools, or calls one in a turn of ShareGPT's; False where the file is not
    here."""
    return any(row.get("tools") or _calls_a_tool(row.get("conversations")) for row in data.rows())


def _calls_a_tool(turns: Any) -> bool:
    return isinstance(turns, list) and any(
        isinstance(turn, Mapping) and turn.get("from") == "function_call" for turn in turns
    )


def has_turns_of_no_weight(data: DataPlace) -> bool:
    """Whether some turn of a conversation is not to be trained, by OpenAI's `weight`; False where the file is not
    here."""
    turns = (turn for row in data.rows() for name in ("messages", "completion") for turn in turns_of(row.get(name)))
    return any(turn.get("weight") == 0 for turn in turns)


def turns_of(value: Any) -> list[Mapping[str, Any]]:
    """The turns of a conversation, as far as it is one."""
    return [turn for turn in value if isinstance(turn, Mapping)] if isinstance(value, list) else []


def changed_in_a_table(data: DataPlace, columns: Collection[str]) -> str:
    """The first of these columns of a CSV file in which `datasets`, with which trainers read, finds other values than
    texts: it takes the types from the values, 10,000 rows at a time, and 007 for 7. '' where there is none, and where
    the file is not here."""
    if data.form != "csv" or not data.is_here or not columns:
        return ""
    import pandas

    with pandas.read_csv(data.path, usecols=list(columns), chunksize=TABLE_ROWS, on_bad_lines="skip") as parts:
        for part in parts:
            for column in columns:
                if not part[column].map(type).eq(str).all():
                    return column
    return ""
