"""Tokenised rows as flat arrays: compact, and shared between processes by mapping the files into memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_ARRAYS = ("tokens", "label_mask", "offsets", "class_labels")


@dataclass(frozen=True)
class TokenRows:
    """All rows end to end.

    tokens        int32 [total tokens]
    label_mask    bool [total tokens]; True where the token is trained. Of an encoder-decoder's row the False part is
                  the source, the True part the target
    offsets       int64 [rows + 1]; row i is tokens[offsets[i]:offsets[i + 1]]
    class_labels  int64 [rows] for classification, else None
    """

    tokens: np.ndarray
    label_mask: np.ndarray
    offsets: np.ndarray
    class_labels: np.ndarray | None = None

    @classmethod
    def build(
        cls, rows: Iterable[tuple[Sequence[int], Sequence[bool]]], class_labels: list[int] | None = None
    ) -> TokenRows:
        """From (ids, trained) pairs."""
        rows = list(rows)
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(ids) for ids, _ in rows], out=offsets[1:])
        tokens = np.empty(offsets[-1], dtype=np.int32)
        label_mask = np.empty(offsets[-1], dtype=bool)
        for i, (ids, trained) in enumerate(rows):
            tokens[offsets[i] : offsets[i + 1]] = ids
            label_mask[offsets[i] : offsets[i + 1]] = trained
        labels = None if class_labels is None else np.asarray(class_labels, dtype=np.int64)
        return cls(tokens, label_mask, offsets, labels)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, label_mask) of row i, views."""
        part = slice(self.offsets[i], self.offsets[i + 1])
        return self.tokens[part], self.label_mask[part]

    def first(self, count: int) -> TokenRows:
        """The first `count` rows, as views."""
        offsets = self.offsets[: count + 1]
        labels = None if self.class_labels is None else self.class_labels[:count]
        return TokenRows(self.tokens[: offsets[-1]], self.label_mask[: offsets[-1]], offsets, labels)

    @property
    def lengths_tokens(self) -> np.ndarray:
        """int64 [rows]: tokens of each row."""
        return np.diff(self.offsets)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Those that are there, by their names, in an order that names of tasks and races depend on."""
        found = {name: getattr(self, name) for name in _ARRAYS}
        return {name: array for name, array in found.items() if array is not None}

    def save(self, folder: Path) -> None:
        """One .npy file an array."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in self.arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> TokenRows:
        """Maps the arrays into memory, read-only: processes that load the same folder share the pages."""
        files = {name: folder / f"{name}.npy" for name in _ARRAYS}
        saved = {name: file for name, file in files.items() if file.exists()}
        return cls(**{name: np.load(file, mmap_mode="r", allow_pickle=False) for name, file in saved.items()})
