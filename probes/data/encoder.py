"""Rows of a data format as token ids and label masks, with a count of what could not be used and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from knowledge.schema import Task
from probes.data import chats, tokenise
from probes.data.rows import TokenRows
from probes.formats import DataFormat, Row, Segments

ERROR_CHARACTERS = 80  # of a chat template's error, as a reason
TOKENISE_ROWS = 500  # rows handed to the tokenizer at once


@dataclass
class Encoded:
    """Rows after tokenising and cutting; what could not be used is counted by its reason."""

    kept: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """(token ids, label mask) of each row."""
    class_labels: list[int] | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    lengths_tokens: list[int] = field(default_factory=list)
    """Before cutting, of the dropped rows too."""
    cut_rows: int = 0
    unknown_tokens: int = 0
    """Before cutting, those that stand for words that the tokenizer does not know."""

    def extend(self, other: Encoded) -> None:
        """Append the rows of another; what it dropped is not taken over."""
        self.kept += other.kept
        self.lengths_tokens += other.lengths_tokens
        self.cut_rows += other.cut_rows
        self.unknown_tokens += other.unknown_tokens
        if self.class_labels is not None:
            self.class_labels += other.class_labels or []

    def rows(self) -> TokenRows:
        return TokenRows.build(self.kept, self.class_labels)


@dataclass(frozen=True)
class Encoder:
    """Tokenises rows of one format for one task."""

    format: DataFormat
    tokenizer: Any
    task: Task
    max_length_tokens: int
    label_names: tuple[str, ...]

    def encode(self, rows: list[Row]) -> Encoded:
        """All rows; `kept` is in their order."""
        encoded = Encoded(class_labels=[] if self.label_names else None)
        for start in range(0, len(rows), TOKENISE_ROWS):
            self._encode_some(rows[start : start + TOKENISE_ROWS], encoded)
        return encoded

    def _encode_some(self, rows: list[Row], encoded: Encoded) -> None:
        pairs = [(row, segments) for row in rows if (segments := self._segments(row, encoded)) is not None]
        encode, cut, *_ = tokenise.OF_TASKS[self.task]
        ids_and_masks = encode([segments for _, segments in pairs], self.tokenizer)
        unknown = _unknown_token(self.tokenizer)
        for (row, _), (ids, trained) in zip(pairs, ids_and_masks, strict=True):
            encoded.lengths_tokens.append(len(ids))
            encoded.unknown_tokens += ids.count(unknown)
            fitted = cut(ids, trained, self.max_length_tokens, self.tokenizer)
            if fitted is None:
                labels = any(trained) or (self.task == "sequence-classification" and ids)
                encoded.dropped["the prompt alone is longer than the limit" if labels else "nothing to train on"] += 1
                continue
            encoded.kept.append((np.asarray(fitted[0], dtype=np.int32), np.asarray(fitted[1], dtype=bool)))
            encoded.cut_rows += len(fitted[0]) < len(ids)
            if encoded.class_labels is not None:
                encoded.class_labels.append(self.label_names.index(str(self.format.label_of(row))))

    def _segments(self, row: Row, encoded: Encoded) -> Segments | None:
        try:
            return self.format.to_segments(row, partial(chats.chat_segments, self.tokenizer))
        except Exception as error:  # a chat template is a program of the model's author: it may raise anything
            encoded.dropped[f"the chat template refuses the conversation ({_in_short(error)})"] += 1
            return None


def _unknown_token(tokenizer: Any) -> int | None:
    """The id of what stands for unknown words; None where there is none, or it has another meaning as well."""
    id = tokenizer.unk_token_id
    return None if id in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) else id


def _in_short(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= ERROR_CHARACTERS else words[: ERROR_CHARACTERS - 3] + "..."
