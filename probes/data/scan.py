"""One pass over the data in bounded memory: what is in the file, and which rows are worth tokenising.

Of every row two hashes are kept (16 bytes); of a large file a uniform random sample of rows for training and the rows
with the smallest hashes, which are the ones to hold out. Nothing is tokenised here.
"""

from __future__ import annotations

import heapq
import math
import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np

from knowledge.errors import BadInput
from probes.data.chats import chat_segments
from probes.data.columns import Columns, check_columns, renamed
from probes.data.reader import NumberedRow, form_of, read_rows
from probes.data.skipped import SkipLedger
from probes.data.split import group_key, split_texts
from probes.formats import DataFormat, Row, describe_keys, detect_format, get_format, known_formats

DETECT_ROWS = 50
MAX_SAMPLE_BYTES = 16 * 2**20  # of text held in the sample, so that a file of huge rows stays within memory too
# All rows that may be held out are held in memory: of each text no more than a run trains on (a token has about four
# characters), and of all together no more than so much.
MAX_EVAL_ROW_CHARACTERS = 2**18
MAX_EVAL_CHARACTERS = 2**26
MAX_CLASSES = 1000
CANDIDATES_PER_ROW = 2  # that may be held out, for one that is: some cannot be used


@dataclass
class Scan:
    """What one pass found. Rows are numbered from 0 in the order of the file, without the skipped ones."""

    format: DataFormat
    rows: int
    prompt_keys: np.ndarray
    """int64 [rows]: group_key of the prompt (of the whole text where there is no prompt)."""
    text_keys: np.ndarray
    """int64 [rows]: group_key of the whole text."""
    sample: list[tuple[int, Row]]
    """(index, row) of a uniform sample without repetition, in the order of the file; all rows where they are few."""
    first_by_prompt: list[tuple[int, Row]]
    """(key, row): the first rows of the distinct prompts with the smallest keys, ascending."""
    first_by_text: list[tuple[int, Row]]
    labels: frozenset[str] = frozenset()
    content_key: str = ""

    def keys(self, of: Literal["prompt", "text"]) -> np.ndarray:
        """int64 [rows]"""
        return self.prompt_keys if of == "prompt" else self.text_keys

    def first_by(self, of: Literal["prompt", "text"]) -> list[tuple[int, Row]]:
        """(key, row): the first rows with the smallest of these keys, one of each, ascending."""
        return self.first_by_prompt if of == "prompt" else self.first_by_text

    @property
    def duplicate_rows(self) -> int:
        """Rows whose normalised text occurred before."""
        return self.rows - len(np.unique(self.text_keys))


def scan(
    path: str | Path,
    ledger: SkipLedger,
    *,
    format: str | None,
    seed: int,
    max_sample_rows: int,
    max_sample_bytes: float,
    max_eval_rows: int,
    columns: Columns | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Pass over `path` once. Rows that do not fit the format go to `ledger`. Raises BadInput, see reader.py."""
    rows, data_format = open_rows(path, ledger, format, columns, on_progress)
    prompt_keys, text_keys = array("q"), array("q")
    sample = _UniformSample(max_sample_rows, max_sample_bytes, seed, data_format.of_use)
    by_prompt, by_text = (_SmallestKeys(CANDIDATES_PER_ROW * max_eval_rows, data_format.of_use) for _ in range(2))
    labels: set[str] = set()
    content = 0
    for line, row in rows:
        try:
            prompt, whole, label = _texts_of(row, data_format)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            ledger.reject(line, _misfit(data_format), str(error))
            continue
        if label is not None:
            labels.add(label)
            if len(labels) > MAX_CLASSES:
                raise BadInput(
                    f"{path} has more than {MAX_CLASSES} different labels. Are these classes? If not: --format text."
                )
        prompt_key = group_key(prompt, seed)
        text_key = prompt_key if prompt is whole else group_key(whole, seed)
        prompt_keys.append(prompt_key)
        text_keys.append(text_key)
        # In any order of the rows the same, but not where two of them swap their labels.
        content += (2 * text_key + 1) * (2 * group_key(label or "", seed) + 1)
        sample.offer(row, len(whole))
        by_prompt.offer(prompt_key, row, len(whole))
        by_text.offer(text_key, row, len(whole))
    ledger.check()
    return Scan(
        format=data_format,
        rows=len(text_keys),
        prompt_keys=np.frombuffer(prompt_keys, dtype=np.int64),
        text_keys=np.frombuffer(text_keys, dtype=np.int64),
        sample=sample.in_order(),
        first_by_prompt=by_prompt.ascending(),
        first_by_text=by_text.ascending(),
        labels=frozenset(labels),
        content_key=f"{content % 2**64:016x}",
    )


def _texts_of(row: Row, data_format: DataFormat) -> tuple[str, str, str | None]:
    """Prompt, whole text and class of a row. Raises what the format raises where the row is not of it."""
    if not data_format.matches(row):
        raise ValueError(describe_keys(row))
    # The plain form of a conversation is enough for the hashes, and far cheaper than the chat template.
    prompt, whole = split_texts(data_format.to_segments(row, partial(chat_segments, None)))
    label = None if data_format.label_of is None else str(data_format.label_of(row))
    f"{whole}{label}".encode()  # half a surrogate pair, which JSON can spell, is no text
    return prompt, whole, label


def open_rows(
    path: str | Path,
    ledger: SkipLedger,
    format: str | None = None,
    columns: Columns | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Iterator[NumberedRow], DataFormat]:
    """The rows of `path`, of `columns` alone where these are given, and their format: the one named, or the one that
    the first rows have."""
    rows = read_rows(path, ledger, on_progress=on_progress)
    first = list(islice(rows, DETECT_ROWS))
    if not first:
        raise BadInput(f"{path} holds no rows. {known_formats()}")
    if columns:
        check_columns(columns, [row for _, row in first], str(path))
        rows = ((line, renamed(row, columns)) for line, row in rows)
        first = [(line, renamed(row, columns)) for line, row in first]
    data_format = get_format(format) if format else _detected(path, first)
    needed = f"The format {data_format.name} needs {data_format.summary}."
    ledger.advice[_misfit(data_format)] = f"{needed}\n{known_formats()}"
    return chain(first, rows), data_format


def _misfit(data_format: DataFormat) -> str:
    return f"does not fit the format {data_format.name}"


def _detected(path: str | Path, first: list[NumberedRow]) -> DataFormat:
    try:
        return detect_format(first)
    except BadInput as error:
        header = " The first line of a table names its columns." if form_of(Path(path))[0] in ("csv", "tsv") else ""
        raise BadInput(f"{path}: {error}{header}") from None


def format_of(path: str | Path, format: str | None = None, columns: Columns | None = None) -> DataFormat:
    """The format of a file or hub dataset, from its first rows alone: enough to tell a classification."""
    return open_rows(path, SkipLedger(str(path), budget=1.0), format, columns)[1]


class _UniformSample:
    """A uniform sample of a stream: every row draws a random number, the rows with the smallest are kept."""

    def __init__(self, max_rows: int, max_bytes: float, seed: int, of_use: Callable[[Row], Row]) -> None:
        self._max_rows, self._max_bytes, self._random = max_rows, max_bytes, random.Random(seed)
        self._of_use = of_use
        self._held_bytes = self._offered = 0
        self._heap: list[tuple[float, int, int]] = []
        self._rows: dict[int, Row] = {}

    def offer(self, row: Row, size_bytes: int) -> None:
        index, is_kept = self._offered, True
        self._offered += 1
        heapq.heappush(self._heap, (-self._random.random(), index, size_bytes))
        self._held_bytes += size_bytes
        while len(self._heap) > self._max_rows or (self._held_bytes > self._max_bytes and len(self._heap) > 1):
            _, gone, freed = heapq.heappop(self._heap)
            self._held_bytes -= freed
            self._rows.pop(gone, None)
            is_kept = is_kept and gone != index
        if is_kept:
            self._rows[index] = self._of_use(row)

    def in_order(self) -> list[tuple[int, Row]]:
        return sorted(self._rows.items())


class _SmallestKeys:
    """The rows with the smallest distinct keys of a stream, of each key the first row, cut where it is very long."""

    def __init__(self, max_rows: int, of_use: Callable[[Row], Row]) -> None:
        self._max_rows, self._characters, self._lowest_left_out = max_rows, 0, math.inf
        self._of_use = of_use
        self._heap: list[tuple[int, int]] = []
        self._rows: dict[int, Row] = {}

    def offer(self, key: int, row: Row, characters: int) -> None:
        if key in self._rows or key >= self._lowest_left_out:
            return
        row = self._of_use(row)
        if characters > MAX_EVAL_ROW_CHARACTERS:
            row, characters = _cut(row, characters)
        heapq.heappush(self._heap, (-key, characters))
        self._rows[key] = row
        self._characters += characters
        while len(self._heap) > self._max_rows or (self._characters > MAX_EVAL_CHARACTERS and len(self._heap) > 1):
            negative, freed = heapq.heappop(self._heap)
            self._lowest_left_out, self._characters = -negative, self._characters - freed
            del self._rows[-negative]

    def ascending(self) -> list[tuple[int, Row]]:
        return sorted(self._rows.items())


def _cut(row: Row, characters: int) -> tuple[Row, int]:
    """The row without what is too much of its texts, and how many characters it has then."""
    cut = {k: v[:MAX_EVAL_ROW_CHARACTERS] if isinstance(v, str) else v for k, v in row.items()}
    return cut, characters - sum(len(row[k]) - len(v) for k, v in cut.items() if isinstance(v, str))
