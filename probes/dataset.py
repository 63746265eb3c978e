"""From a file to tokenised rows, split without leaks, and a profile of what is in it.

The rows held out are those with the smallest seeded hashes (see probes.split): the choice depends neither on the order
of the file nor on which rows were sampled for training.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from knowledge.errors import BadInput
from knowledge.schema import Task
from probes import tokenise
from probes.batching import batch_order
from probes.formats import DataFormat, Row, Segments
from probes.reader import SKIP_BUDGET, SkipLedger
from probes.rows import TokenRows
from probes.scan import Scan, scan
from probes.schema import DatasetProfile
from probes.split import MAX_HELD_SHARE, MIN_EVAL_ROWS, eval_rows_wanted

MAX_TRAIN_ROWS = 20_000  # more than a probe can see; of a larger file this many are tokenised
MAX_EVAL_ROWS = 200
EXACT_MATCH_TOKENS = 16  # answers up to this median length are judged as a whole
TOKENISE_ROWS = 500  # rows handed to the tokenizer at once


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
    seed: int = 0,
    eval_fraction: float = 0.1,
    max_eval_rows: int = MAX_EVAL_ROWS,
    max_train_rows: int = MAX_TRAIN_ROWS,
    skip_budget: float = SKIP_BUDGET,
    on_progress: Callable[[int, int], None] | None = None,
) -> PreparedData:
    """Read, split, tokenise and profile the rows of `path` (a file or a hub dataset id).

    `format` is the name of a data format, detected where None. A row longer than `max_length_tokens` is cut at its
    end; a row left without labels is left out; both are counted. `on_progress(bytes_done, bytes_total)` is called while
    a local file is read. Raises BadInput, with the counts of every filter, where too little is left.
    """
    ledger = SkipLedger(str(path), budget=skip_budget)
    found = scan(
        path,
        ledger,
        format=format,
        seed=seed,
        max_sample_rows=max_train_rows,
        max_eval_rows=max_eval_rows,
        on_progress=on_progress,
    )
    _check_task(path, found.format, task)
    label_names = _label_names(path, found) if task == "sequence-classification" else ()
    encoder = _Encoder(found.format, tokenizer, task, max_length_tokens, label_names)
    held_out = _hold_out(found, encoder, eval_rows_wanted(found.rows, eval_fraction, max_eval_rows))
    train = encoder.encode([row for index, row in found.sample if held_out.keys[index] > held_out.last_key])
    profile = _profile(str(path), found, ledger, held_out, train, task)
    if not profile.train_rows or not profile.eval_rows:
        raise BadInput(_funnel(profile, max_length_tokens))
    return PreparedData(
        profile=profile,
        train=train.rows(),
        eval=held_out.encoded.rows(),
        label_names=label_names,
        held_out_key=held_out.last_key,
        keyed_by="prompt" if held_out.keys is found.prompt_keys else "text",
    )


@dataclass
class _Encoded:
    """Rows after tokenising and cutting; what could not be used is counted by its reason."""

    kept: list[tuple[list[int], list[bool]]] = field(default_factory=list)
    class_labels: list[int] | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    lengths_tokens: list[int] = field(default_factory=list)
    """Before cutting, of the dropped rows too."""
    cut_rows: int = 0

    def extend(self, other: _Encoded) -> None:
        """Append the rows of another; what it dropped is not taken over."""
        self.kept += other.kept
        self.lengths_tokens += other.lengths_tokens
        self.cut_rows += other.cut_rows
        if self.class_labels is not None:
            self.class_labels += other.class_labels or []

    def rows(self) -> TokenRows:
        return TokenRows.build(self.kept, self.class_labels)


@dataclass(frozen=True)
class _Encoder:
    """Tokenises rows of one format for one task."""

    format: DataFormat
    tokenizer: Any
    task: Task
    max_length_tokens: int
    label_names: tuple[str, ...]

    def encode(self, rows: list[Row]) -> _Encoded:
        """All rows; `kept` is in their order."""
        encoded = _Encoded(class_labels=[] if self.label_names else None)
        for start in range(0, len(rows), TOKENISE_ROWS):
            self._encode_some(rows[start : start + TOKENISE_ROWS], encoded)
        return encoded

    def _encode_some(self, rows: list[Row], encoded: _Encoded) -> None:
        pairs = [(row, segments) for row in rows if (segments := self._segments(row, encoded)) is not None]
        encode, cut = {
            "causal-lm": (tokenise.encode_batch, tokenise.cut_to_length),
            "seq2seq-lm": (tokenise.encode_pairs, tokenise.cut_pair_to_length),
            "sequence-classification": (tokenise.encode_texts, tokenise.cut_text_to_length),
        }[self.task]
        ids_and_masks = encode([segments for _, segments in pairs], self.tokenizer)
        for (row, _), (ids, trained) in zip(pairs, ids_and_masks, strict=True):
            encoded.lengths_tokens.append(len(ids))
            fitted = cut(ids, trained, self.max_length_tokens)
            if fitted is None:
                labels = any(trained) or (self.task == "sequence-classification" and ids)
                encoded.dropped["the prompt alone is longer than the limit" if labels else "nothing to train on"] += 1
                continue
            encoded.kept.append(fitted)
            encoded.cut_rows += len(fitted[0]) < len(ids)
            if encoded.class_labels is not None:
                encoded.class_labels.append(self.label_names.index(str(self.format.label_of(row))))

    def _segments(self, row: Row, encoded: _Encoded) -> Segments | None:
        try:
            return self.format.to_segments(row, partial(tokenise.chat_segments, self.tokenizer))
        except Exception:  # a chat template is a program of the model's author: it may raise anything
            encoded.dropped["the chat template refuses the conversation"] += 1
            return None


@dataclass(frozen=True)
class _HeldOut:
    encoded: _Encoded
    keys: np.ndarray
    """int64 [rows of the scan]: the keys that decide; rows at or below `last_key` are not trained on."""
    last_key: int
    rows: int
    """Rows at or below `last_key`: the ones held out and those that cannot be used or share a prompt with them."""


def _hold_out(found: Scan, encoder: _Encoder, wanted: int) -> _HeldOut:
    """The rows to hold out: one of each prompt, by ascending key. Where few prompts make up most of the file, so that
    holding them out would leave too little, rows are told apart by their whole text instead."""
    most = max(wanted, int(MAX_HELD_SHARE * found.rows))
    by_prompt = _hold_out_by(found.prompt_keys, found.first_by_prompt, encoder, wanted, most)
    if len(by_prompt.encoded.kept) >= min(MIN_EVAL_ROWS, wanted):
        return by_prompt
    by_text = _hold_out_by(found.text_keys, found.first_by_text, encoder, wanted, most)
    return (
        by_text
        if by_text.encoded.kept
        else _hold_out_by(by_text.keys, found.first_by_text, encoder, wanted, found.rows - 1)
    )


def _hold_out_by(
    keys: np.ndarray, candidates: list[tuple[int, Row]], encoder: _Encoder, wanted: int, most: int
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


def _check_task(path: str | Path, data_format: DataFormat, task: Task) -> None:
    if (task == "sequence-classification") != data_format.classification:
        needs = "rows of text and label" if task == "sequence-classification" else "a text to learn, not a label"
        advice = (
            "choose the task sequence-classification or --format text"
            if data_format.classification
            else ("choose another task, or name the keys text and label")
        )
        raise BadInput(f"The task {task} needs {needs}; {path} is in the format {data_format.name}: {advice}.")


def _label_names(path: str | Path, found: Scan) -> tuple[str, ...]:
    """Names of the classes: numbers in their order, others by the alphabet."""
    numeric = all(name.lstrip("-").isdecimal() for name in found.labels)
    names = tuple(sorted(found.labels, key=int if numeric else str))
    if len(names) < 2:
        raise BadInput(f"{path} has one label only ({names[0]!r}); a classification needs at least two.")
    return names


def _profile(
    path: str, found: Scan, ledger: SkipLedger, held_out: _HeldOut, train: _Encoded, task: Task
) -> DatasetProfile:
    """Counts of the whole file. Where it was sampled, those of training rows are scaled up from the sample."""
    tokenised = len(train.kept) + train.dropped.total()
    scale = (found.rows - held_out.rows) / max(1, tokenised)
    eval_rows = len(held_out.encoded.kept)
    dropped = Counter(ledger.skipped)
    dropped.update({reason: round(count * scale) for reason, count in train.dropped.items()})
    dropped.update(held_out.encoded.dropped)
    dropped["same prompt as a held-out row"] += held_out.rows - eval_rows - held_out.encoded.dropped.total()
    rows = found.rows + ledger.skipped.total()
    train_rows = rows - eval_rows - dropped.total()
    lengths = np.asarray(train.lengths_tokens + held_out.encoded.lengths_tokens or [0])
    label_lengths = train.rows().label_lengths_tokens
    short = len(label_lengths) > 0 and np.median(label_lengths) <= EXACT_MATCH_TOKENS and found.format.name != "text"
    return DatasetProfile(
        path=path,
        format=found.format.name,
        rows=rows,
        usable_rows=train_rows + eval_rows,
        train_rows=train_rows,
        eval_rows=eval_rows,
        duplicate_rows=found.duplicate_rows,
        length_p50_tokens=int(np.percentile(lengths, 50)),
        length_p95_tokens=int(np.percentile(lengths, 95)),
        length_max_tokens=int(lengths.max()),
        label_p50_tokens=int(np.median(label_lengths)) if len(label_lengths) else 0,
        label_total_tokens=round(int(label_lengths.sum()) * scale),
        tokenised_rows=tokenised + eval_rows,
        cut_rows=round(train.cut_rows * scale) + held_out.encoded.cut_rows,
        dropped={reason: count for reason, count in dropped.items() if count},
        metric_name="accuracy" if task == "sequence-classification" else "exact match" if short else "token accuracy",
    )


def _funnel(profile: DatasetProfile, max_length_tokens: int) -> str:
    """Why nothing is left, filter by filter."""
    steps = "\n".join(f"  - {count:>8}  {reason}" for reason, count in profile.dropped.items())
    return (
        f"{profile.path}: {profile.train_rows} rows are left to train on and {profile.eval_rows} to hold out, of:\n"
        f"    {profile.rows:>8}  rows in the format {profile.format}\n{steps}\n"
        f"At least two rows with different prompts, with labels within {max_length_tokens} tokens, are needed. "
        "Raise --max-length, or check the fields that hold the answers."
    )
