"""Rows that are given from Python in place of a file: written beside the results, for workers, `advisor train` and
train.py read files."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from advisor.files import write_text
from knowledge.errors import BadInput
from knowledge.places import at_home
from probes.data.reader import with_class_names

FILE, EVAL_FILE = "rows.jsonl", "eval-rows.jsonl"
AS_TEXT = (datetime.date, datetime.time, Decimal, PurePath, UUID)


def as_file(data: Any, out: str | Path | None, name: str = FILE) -> Any:
    """The path of a file of that name with the rows of `data`: dicts, a pandas.DataFrame or a datasets.Dataset.
    Whatever is no rows is given back, for the request says what is wrong with it.

    Raises BadInput without a folder `out` to write to, where other rows lie there, and for rows that are no dicts.
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
    rows = data.to_dict("records") if hasattr(data, "to_dict") and hasattr(data, "iloc") else with_class_names(data)
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
    line = json.dumps(_json_value(row), ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half a surrogate pair: the row is told of like one of a file
        line = json.dumps(_json_value(row))
    return line + "\n"


def _json_value(value: Any) -> Any:
    """What JSON can hold of a value: of numbers and arrays of NumPy and pandas Python's own, of a time its text; null
    for what is missing, as in an empty cell of a table, and for what is no text, such as an image beside it."""
    if isinstance(value, Mapping):
        return {str(key): _json_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "tolist"):
        return _json_value(value.tolist())
    text = str(value) if isinstance(value, AS_TEXT) else ""
    return text if text != "NaT" and text else None
