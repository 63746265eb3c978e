"""The held-out rows: of the data itself those with the smallest keys (split.py), or a file of the user's own.

Either way no row is trained on that has the prompt of one that is held out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from knowledge.errors import BadInput
from probes.data.encoder import Encoded, Encoder
from probes.data.scan import Scan
from probes.data.split import MAX_HELD_SHARE, MIN_EVAL_ROWS

SAME_PROMPT = "same prompt as a held-out row"
KeyedBy = Literal["prompt", "text"]


@dataclass(frozen=True)
class HeldOut:
    """What is evaluated, and which rows of the data are not trained on for its sake."""

    encoded: Encoded
    """The rows, by ascending key, one of each."""
    not_trained: np.ndarray
    """bool [rows of the scan]: rows that are held out, cannot be used, or share a key with those."""
    keyed_by: KeyedBy
    last_key: int = -1
    """Rows of the data at or below it are held out; -1 where they come from another file."""
    own_file: bool = False

    @property
    def rows_of_data(self) -> int:
        """How many of the held-out rows are rows of the data itself."""
        return 0 if self.own_file else len(self.encoded.kept)

    @property
    def dropped_of_data(self) -> Mapping[str, int]:
        """Rows of the data that would be held out and cannot be used, by the reason."""
        return {} if self.own_file else self.encoded.dropped


def hold_out(found: Scan, encoder: Encoder, wanted: int) -> HeldOut:
    """One row of each prompt, by ascending key. Where few prompts make up most of the file, so that holding them out
    would leave too little, rows are told apart by their whole text instead."""
    most = max(wanted, int(MAX_HELD_SHARE * found.rows))
    by_prompt = _hold_out_by("prompt", found, encoder, wanted, most)
    if len(by_prompt.encoded.kept) >= min(MIN_EVAL_ROWS, wanted):
        return by_prompt
    by_text = _hold_out_by("text", found, encoder, wanted, most)
    if by_text.encoded.kept:
        return by_text
    return _hold_out_by("text", found, encoder, wanted, found.rows - 1)


def hold_out_file(found: Scan, own: Scan, encoder: Encoder, wanted: int, path: str) -> HeldOut:
    """Rows of the user's own file `path`, of which `own` is the scan, one of each prompt, by ascending key.

    Rows of the data that have the prompt of any row of that file are not trained on; rows with the same text alone,
    where few prompts make up much of either file. Raises BadInput where none of the file's rows can be used, and where
    nothing is left to train on.
    """
    held_out = _of_file("prompt", found, own, encoder, wanted)
    too_few = len(held_out.encoded.kept) < min(MIN_EVAL_ROWS, wanted)
    if too_few or held_out.not_trained.mean() > MAX_HELD_SHARE:
        held_out = _of_file("text", found, own, encoder, wanted)
    if not held_out.encoded.kept:
        reasons = ", ".join(f"{count}: {reason}" for reason, count in held_out.encoded.dropped.items())
        raise BadInput(
            f"None of the rows of {path} can be evaluated ({reasons}). Give rows in the format of the data, with "
            "answers."
        )
    if held_out.not_trained.all():
        raise BadInput(f"All rows of the data are in {path} too, so that none is left to train on: give other rows.")
    return held_out


def _hold_out_by(keyed_by: KeyedBy, found: Scan, encoder: Encoder, wanted: int, most: int) -> HeldOut:
    """Up to `wanted` usable rows, as long as no more than `most` rows are thereby kept from training."""
    keys = found.keys(keyed_by)
    ordered = np.sort(keys)
    encoded, last_key = encoder.encode([]), -1
    unusable: Counter[str] = Counter()  # since the last usable one: these are not held out
    for key, row in found.first_by(keyed_by):
        if len(encoded.kept) == wanted or np.searchsorted(ordered, key, side="right") > most:
            break
        one = encoder.encode([row])
        unusable += one.dropped
        if one.kept:
            encoded.extend(one)
            encoded.dropped += unusable
            unusable.clear()
            last_key = key
    return HeldOut(encoded, keys <= last_key, keyed_by, last_key)


def _of_file(keyed_by: KeyedBy, found: Scan, own: Scan, encoder: Encoder, wanted: int) -> HeldOut:
    encoded = encoder.encode([])
    for _, row in own.first_by(keyed_by):
        if len(encoded.kept) == wanted:
            break
        one = encoder.encode([row])
        encoded.extend(one)
        encoded.dropped += one.dropped
    return HeldOut(encoded, np.isin(found.keys(keyed_by), own.keys(keyed_by)), keyed_by, own_file=True)
