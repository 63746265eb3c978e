"""From a file to tokenised rows, split without leaks, and a profile of what is in it.

The rows held out are those with the smallest seeded hashes (hold_out.py): the choice depends neither on the
order of the file nor on which rows were sampled for training.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from knowledge.errors import BadInput
from knowledge.schema import Task
from probes.batching import batch_order
from probes.data.columns import Columns
from probes.data.encoder import Encoder
from probes.data.hold_out import hold_out, hold_out_file
from probes.data.profile import check_task, funnel, label_names_of, make_profile
from probes.data.rows import TokenRows
from probes.data.scan import MAX_SAMPLE_BYTES, Scan, scan
from probes.data.skipped import SKIP_BUDGET, SkipLedger
from probes.data.split import eval_rows_wanted
from probes.schema import DatasetProfile

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
    """Rows whose `split.group_key` is at or below this are held out, in the probes and in the final run; -1 where the
    held-out rows come from another file (`profile.eval_path`), and rows with the key of one of these are left out."""
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
    eval_path: str | Path | None = None,
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
    its keys. `eval_path` names rows of the user's own to hold out, of the same format; without it some of the data are.
    A row longer than `max_length_tokens` is cut at its end; a row left without labels is left out; both are
    counted. `on_progress(bytes_done, bytes_total)` is called while a local file is read. Raises BadInput, with the
    counts of every filter, where too little is left.
    """
    read = partial(_read, columns=columns, seed=seed, max_eval_rows=max_eval_rows, skip_budget=skip_budget)
    found, skipped = read(
        path, format, max_sample_rows=max_train_rows, max_sample_bytes=max_train_bytes, on_progress=on_progress
    )
    check_task(path, found.format, task)
    own = None if eval_path is None else read(eval_path, found.format.name, max_sample_rows=0, max_sample_bytes=0)[0]
    labels = found.labels if own is None else found.labels | own.labels
    label_names = label_names_of(path, labels) if task == "sequence-classification" else ()
    encoder = Encoder(found.format, tokenizer, task, max_length_tokens, label_names)
    if own is None:
        held_out = hold_out(found, encoder, eval_rows_wanted(found.rows, eval_fraction, max_eval_rows))
    else:
        held_out = hold_out_file(found, own, encoder, max_eval_rows, str(eval_path))
    train = encoder.encode([row for index, row in found.sample if not held_out.not_trained[index]])
    profile = make_profile(str(path), found, skipped, held_out, train, task)
    given: dict[str, Any] = {"columns": dict(columns or {})}
    if own is not None:
        given |= {"eval_path": str(eval_path), "eval_path_rows": own.rows}
    profile = profile.model_copy(update=given)
    if not train.kept or profile.train_rows <= 0 or not profile.eval_rows:
        raise BadInput(funnel(profile, max_length_tokens))
    return PreparedData(
        profile=profile,
        train=train.rows(),
        eval=held_out.encoded.rows(),
        label_names=label_names,
        held_out_key=held_out.last_key,
        keyed_by=held_out.keyed_by,
    )


def _read(path: str | Path, format: str | None, *, skip_budget: float, **options: Any) -> tuple[Scan, Counter[str]]:
    """What one pass over the file found, and the rows that could not be read, by reason."""
    ledger = SkipLedger(str(path), budget=skip_budget)
    return scan(path, ledger, format=format, **options), ledger.skipped
