"""Columns of the user's under the names that a data format has for them: `--columns text=review,label=stars`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from knowledge.errors import BadInput, did_you_mean
from probes.formats import Row

Columns = Mapping[str, str]
"""The key of a format -> the column that stands for it."""


def columns_of(given: Any) -> dict[str, str]:
    """Columns of a mapping, of texts like 'text=review', or of one text with commas; None is none. Raises BadInput for
    anything else, and for a key that is named twice."""
    if given is None or isinstance(given, Mapping):
        return {str(key): str(column) for key, column in (given or {}).items()}
    texts = given.split(",") if isinstance(given, str) else given
    if not (isinstance(texts, Iterable) and all(isinstance(text, str) for text in texts)):
        raise BadInput(f"Columns are a mapping of the format's keys to yours, as {{'text': 'review'}}; not {given!r}.")
    columns: dict[str, str] = {}
    for text in texts:
        key, _, column = (part.strip() for part in text.partition("="))
        if not (key and column):
            raise BadInput(f"{text!r} names no column: write the format's key and yours, as in text=review.")
        if columns.setdefault(key, column) != column:
            raise BadInput(f"{key} is to be both {columns[key]!r} and {column!r}: name one column for it.")
    return columns


def check_columns(columns: Columns, rows: Sequence[Row], source: str) -> None:
    """Raises BadInput where none of the `rows`, the first of the data, has one of the columns."""
    seen = dict.fromkeys(str(name) for row in rows for name in row)
    for column in columns.values():
        if column not in seen:
            raise BadInput(f"{source} has no column {column!r}. {did_you_mean(column, list(seen))}")


def renamed(row, columns):
    """The named columns of a row and nothing else, under the keys of the format."""
    return {key: row[column] for key, column in columns.items() if column in row}
