"""From a file to tokenised rows, split without leaks, and a profile of what is in it.

The rows held out are those with the smallest seeded hashes (see probes.split): the choice depends neither on the order
of the file nor on which rows were sampled for training.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from knowledge.errors import BadInput
from knowledge.schema import Task
from probes.batching import batch_order
from probes.columns import Columns
from probes.encoder import Encoded, Encoder
from probes.formats import Row
from probes.profile import check_task, funnel, label_names_of, make_profile
from probes.rows import TokenRows
from probes.scan import MAX_SAMPLE_BYTES, Scan, scan
from probes.schema import DatasetProfile
from probes.skipped import SKIP_BUDGET, SkipLedger
from probes.split import MAX_HELD_SHARE, MIN_EVAL_ROWS, eval_rows_wanted

MAX_TRAIN_ROWS = 10_000  # more than a probe can see; of a larger file this many are tokenised
MAX_EVAL_ROWS = 200


@dataclass(frozen=True)
class PreparedData:
    """What the probes work on: held-out rows, training rows (of a large file a sample) and the profile of both."""

    profile: DatasetProfile
    train: TokenRows
    eval: TokenRows
    label_names: tuple[str, ...] = ()
    """Of a classification: the name of each class; TokenRows.class_labels are indices into it."""
    held_out_key: int = -1
    """Rows whose `split.group_key` is at or below this are held out, in the probes and in the final run."""
    keyed_by: Literal["prompt", "text"] = "prompt"
    """What the key is of: the prompt, or the whole text; see `split.split_texts`."""

    def judged_by(self, metric_name: str, instead_of: str = "") -> PreparedData:
        """The same data with another metric. instead_of: the one whose place it takes because that told nothing."""
        named = {"metric_name": metric_name, "metric_instead_of": instead_of}
        return replace(self, profile=self.profile.model_copy(update=named))

    def batch_order(self, batch_size: int, steps: int, seed: int) -> list[np.ndarray]:
        """Row indices into `train` for each step; the same for every candidate. See probes.batching."""
        return batch_order(self.train.lengths_tokens, batch_size, steps, seed)

    def save(self, folder: str | Path) -> None:
        """Writes the arrays and, last, the profile: a folder without it is not complete."""
        folder = Path(folder)
        self.train.save(folder / "train")
        self.eval.save(folder / "eval")
        rest = {
            "profile": self.profile.model_dump(mode="json"),
            "label_names": self.label_names,
            "held_out_key": self.held_out_key,
            "keyed_by": self.keyed_by,
        }
        temporary = folder / "prepared.json.tmp"
        temporary.write_text(json.dumps(rest, allow_nan=False), encoding="utf-8")
        temporary.replace(folder / "prepared.json")

    @classmethod
    def load(cls, folder: str | Path) -> PreparedData:
        """Maps what `save` wrote into memory, read-only."""
        folder = Path(folder)
        rest = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
        return cls(
            profile=DatasetProfile(**rest["profile"]),
            train=TokenRows.load(folder / "train"),
            eval=TokenRows.load(folder / "eval"),
            label_names=tuple(rest["label_names"]),
            held_out_key=rest["held_out_key"],
            keyed_by=rest["keyed_by"],
        )


def prepare(
    path: str | Path,
    tokenizer: Any,
    *,
    task: Task,
    max_length_tokens: int,
    format: str | None = None,
    columns: Columns | None = None,
    seed: int = 0,
    eval_fraction: float = 0.1,
    max_eval_rows: int = MAX_EVAL_ROWS,
    max_train_rows: int = MAX_TRAIN_ROWS,
    max_train_bytes: float = MAX_SAMPLE_BYTES,
    skip_budget: float = SKIP_BUDGET,
    on_progress: Callable[[int, int], None] | None = None,
) -> PreparedData:
    """Read, split, tokenise and profile the rows of `path` (a file or a hub dataset id).

    Of a file with more than `max_train_rows` rows, or than `max_train_bytes` characters of text, a uniform sample is
    tokenised. `format` is the name of a data format, detected where None; `columns` tells which of the user's stand for
    its keys. A row longer than `max_length_tokens` is cut at its end; a row left without labels is left out; both are
    counted. `on_progress(bytes_done, bytes_total)` is called while a local file is read. Raises BadInput, with the
    counts of every filter, where too little is left.
    """
    ledger = SkipLedger(str(path), budget=skip_budget)
    found = scan(
        path,
        ledger,
        format=format,
        columns=columns,
        seed=seed,
        max_sample_rows=max_train_rows,
        max_sample_bytes=max_train_bytes,
        max_eval_rows=max_eval_rows,
        on_progress=on_progress,
    )
    check_task(path, found.format, task)
    label_names = label_names_of(path, found) if task == "sequence-classification" else ()
    encoder = Encoder(found.format, tokenizer, task, max_length_tokens, label_names)
    held_out = _hold_out(found, encoder, eval_rows_wanted(found.rows, eval_fraction, max_eval_rows))
    train = encoder.encode([row for index, row in found.sample if held_out.keys[index] > held_out.last_key])
    profile = make_profile(str(path), found, ledger.skipped, held_out.encoded, held_out.rows, train, task)
    profile = profile.model_copy(update={"columns": dict(columns or {})})
    if not train.kept or profile.train_rows <= 0 or not profile.eval_rows:
        raise BadInput(funnel(profile, max_length_tokens))
    return PreparedData(
        profile=profile,
        train=train.rows(),
        eval=held_out.encoded.rows(),
        label_names=label_names,
        held_out_key=held_out.last_key,
        keyed_by="prompt" if held_out.keys is found.prompt_keys else "text",
    )


@dataclass(frozen=True)
class _HeldOut:
    encoded: Encoded
    keys: np.ndarray
    """int64 [rows of the scan]: the keys that decide; rows at or below `last_key` are not trained on."""
    last_key: int
    rows: int
    """Rows at or below `last_key`: the ones held out and those that cannot be used or share a prompt with them."""


def _hold_out(found: Scan, encoder: Encoder, wanted: int) -> _HeldOut:
    """The rows to hold out: one of each prompt, by ascending key. Where few prompts make up most of the file, so that
    holding them out would leave too little, rows are told apart by their whole text instead."""
    most = max(wanted, int(MAX_HELD_SHARE * found.rows))
    by_prompt = _hold_out_by(found.prompt_keys, found.first_by_prompt, encoder, wanted, most)
    if len(by_prompt.encoded.kept) >= min(MIN_EVAL_ROWS, wanted):
        return by_prompt
    by_text = _hold_out_by(found.text_keys, found.first_by_text, encoder, wanted, most)
    if by_text.encoded.kept:
        return by_text
    return _hold_out_by(found.text_keys, found.first_by_text, encoder, wanted, found.rows - 1)


def _hold_out_by(
    keys: np.ndarray, candidates: list[tuple[int, Row]], encoder: Encoder, wanted: int, most: int
) -> _HeldOut:
    """Up to `wanted` usable candidates, as long as no more than `most` rows are thereby kept from training."""
    ordered = np.sort(keys)
    encoded, last_key, rows = encoder.encode([]), -1, 0
    unusable: Counter[str] = Counter()  # since the last usable one: these are not held out
    for key, row in candidates:
        rows_with_key = int(np.searchsorted(ordered, key, side="right"))
        if len(encoded.kept) == wanted or rows_with_key > most:
            break
        one = encoder.encode([row])
        unusable += one.dropped
        if one.kept:
            encoded.extend(one)
            encoded.dropped += unusable
            unusable.clear()
            last_key, rows = key, rows_with_key
    return _HeldOut(encoded, keys, last_key, rows)
