"""What is in the data, in numbers; and what is wrong with it, where nothing can be made of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from knowledge.errors import BadInput
from knowledge.schema import Task
from probes.data.encoder import Encoded
from probes.data.hold_out import SAME_PROMPT, HeldOut
from probes.data.scan import Scan
from probes.formats import NO_REGRESSION, DataFormat
from probes.schema import DatasetProfile

# What may help against a filter, by how its reason begins.
_ADVICE = {
    "the prompt alone is longer": "Raise --max-length.",
    "nothing to train on": "Check the fields that hold the answers; of conversations the turns of the role 'assistant' "
    "(in ShareGPT 'gpt') are trained.",
    "the chat template refuses": "Check the roles and contents of the conversations. Where tools are left out, take a "
    "model whose chat template writes them, or tell of tools and calls in the texts, without the keys 'tools' and "
    "'tool_calls'.",
}
MANY_NUMBERS = 20  # labels with fractions, from a CSV file: up to so many may be classes, as stars in halves
EXACT_MATCH_TOKENS = 16  # answers up to this median length are judged as a whole


def check_task(path: str | Path, data_format: DataFormat, task: Task) -> None:
    if (task == "sequence-classification") != data_format.classification:
        needs = "rows of text and label" if task == "sequence-classification" else "a text to learn, not a label"
        advice = (
            "choose the task sequence-classification or --format text"
            if data_format.classification
            else "choose another task, or name the keys text and label"
        )
        raise BadInput(f"The task {task} needs {needs}; {path} is in the format {data_format.name}: {advice}.")


def label_names_of(path: str | Path, labels: frozenset[str]) -> tuple[str, ...]:
    """Names of the classes: numbers in their order, others by the alphabet."""
    numeric = all(re.fullmatch(r"-?\d{1,18}", name) for name in labels)
    names = tuple(sorted(sorted(labels), key=int if numeric else str))  # "01" and "1" are equal as numbers
    if len(names) > MANY_NUMBERS and all(map(_is_number, names)) and not numeric:
        raise BadInput(
            f"{path} has {len(names)} labels that are numbers, as {names[0]} and {names[1]}. {NO_REGRESSION}"
        )
    if len(names) == 1:
        raise BadInput(
            f"{path} has one label only ({names[0]!r}); a classification needs at least two. "
            "Give data with more, or train on the texts alone with --format text."
        )
    return names


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", name.strip(), re.IGNORECASE) is not None


def make_profile(
    path: str, found: Scan, skipped: Counter[str], held_out: HeldOut, train: Encoded, task: Task
) -> DatasetProfile:
    """Counts of the whole file. Where it was sampled, those of training rows are scaled up from the sample.

    `skipped`: rows that could not be read, by reason.
    """
    evaluated, not_trained = held_out.encoded, int(held_out.not_trained.sum())
    tokenised = len(train.kept) + train.dropped.total()
    scale = (found.rows - not_trained) / max(1, tokenised)
    dropped = Counter(skipped)
    dropped.update({reason: round(count * scale) for reason, count in train.dropped.items()})
    dropped.update(held_out.dropped_of_data)
    same_prompt = not_trained - held_out.rows_of_data - sum(held_out.dropped_of_data.values())
    dropped[SAME_PROMPT] += same_prompt
    rows = found.rows + skipped.total()
    train_rows = rows - held_out.rows_of_data - dropped.total()
    lengths = np.asarray(train.lengths_tokens + evaluated.lengths_tokens or [0])
    label_lengths = np.asarray([mask.sum() for _, mask in train.kept], dtype=np.int64)
    short = len(label_lengths) > 0 and np.median(label_lengths) <= EXACT_MATCH_TOKENS and found.format.name != "text"
    return DatasetProfile(
        path=path,
        format=found.format.name,
        rows=rows,
        usable_rows=train_rows + held_out.rows_of_data,
        train_rows=train_rows,
        eval_rows=len(evaluated.kept),
        duplicate_rows=found.duplicate_rows,
        content_key=found.content_key,
        length_p50_tokens=int(np.percentile(lengths, 50)),
        length_p95_tokens=int(np.percentile(lengths, 95)),
        length_max_tokens=int(lengths.max()),
        label_p50_tokens=int(np.median(label_lengths)) if len(label_lengths) else 0,
        label_total_tokens=round(int(label_lengths.sum()) * scale),
        tokenised_rows=tokenised + held_out.rows_of_data,
        cut_rows=round(train.cut_rows * scale) + (0 if held_out.own_file else evaluated.cut_rows),
        dropped={reason: count for reason, count in dropped.items() if count},
        largest_class_share=_largest_share(evaluated.class_labels),
        held_out_classes=len(set(evaluated.class_labels or ())),
        unknown_share=(train.unknown_tokens + evaluated.unknown_tokens) / max(1, int(lengths.sum())),
        unseen_class_rows=_of_unseen_classes(evaluated, train) if scale == 1 else 0,
        metric_name="accuracy" if task == "sequence-classification" else "exact match" if short else "token accuracy",
    )


def _largest_share(labels: list[int] | None) -> float | None:
    """Of the most frequent one; None without labels."""
    return max(Counter(labels).values()) / len(labels) if labels else None


def _of_unseen_classes(held_out: Encoded, train: Encoded) -> int:
    """How many of the held-out rows, where `train` holds all rows that are trained on."""
    seen = set(train.class_labels or ())
    return sum(label not in seen for label in held_out.class_labels or ())


def funnel(profile: DatasetProfile, max_length_tokens: int) -> str:
    """Why nothing is left, filter by filter."""
    steps = "\n".join(f"  - {count:>8}  {reason}" for reason, count in profile.dropped.items())
    advice = [advice for reason, advice in _ADVICE.items() if any(r.startswith(reason) for r in profile.dropped)]
    return (
        f"{profile.path}: {profile.train_rows} rows are left to train on and {profile.eval_rows} to hold out, of:\n"
        f"    {profile.rows:>8}  rows in the format {profile.format}\n{steps}\n"
        f"At least two rows with different prompts, with labels within {max_length_tokens} tokens, are needed. "
        + " ".join(advice)
    ).rstrip()
