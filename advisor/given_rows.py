"""Rows that are given from Python in place of a file: written beside the results, for workers, `advisor train` and
train.py read files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from advisor.files import write_text
from knowledge.errors import BadInput
from knowledge.places import at_home

FILE, EVAL_FILE = "rows.jsonl", "eval-rows.jsonl"


def as_file(data: Any, out: str | Path | None, name: str = FILE) -> Any:
    """The path of a file of that name with the rows of `data`: dicts, a pandas.DataFrame or a datasets.Dataset.
    Whatever is no rows is given back, for the request says what is wrong with it.

    Raises BadInput without a folder `out` to write to, where other rows lie there, and for what JSON cannot hold.
    """
    if isinstance(data, Mapping) and data and all(_are_rows(part) for part in data.values()):
        names = ", ".join(repr(name) for name in data)
        raise BadInput(
            f"The data has several splits ({names}). Give one of them, e.g. data[{next(iter(data))!r}]; "
            "another may be eval_data, the rows to hold out."
        )
    if not _are_rows(data):
        return data
    if out is None:
        raise BadInput(f"Rows are written to a file ({name}), which training reads again: give a folder with out=.")
    rows = data.to_dict("records") if hasattr(data, "to_dict") and hasattr(data, "iloc") else data
    text = "".join(_line(number, row) for number, row in enumerate(rows, 1))
    path = at_home(out) / name
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise BadInput(f"{path} holds other rows. Give another folder with out=.")
    return str(write_text(path, text))


def _are_rows(data: Any) -> bool:
    return isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping | Path)


def _line(number: int, row: Any) -> str:
    if not isinstance(row, Mapping):
        raise BadInput(f"Row {number} of the data is a {type(row).__name__}: each must be a dict of its columns.")
    try:
        return json.dumps(dict(row), ensure_ascii=False, default=_plain) + "\n"
    except (TypeError, ValueError) as error:
        raise BadInput(f"Row {number} of the data cannot be written as JSON: {error}.") from None


def _plain(value: Any) -> Any:
    """Numbers and arrays of NumPy and pandas as Python's own."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no text, number, list or dict")
