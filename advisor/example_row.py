"""A training row as the model sees it, so that a person can tell whether the data is read as they mean it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge.schema import Record

if TYPE_CHECKING:
    from probes.data.dataset import PreparedData

LONGEST_SHOWN = 320  # characters of a text: about five lines of a terminal


class ExampleRow(Record):
    """The first row that is trained on, from its token ids back to text: with template, special tokens and cuts."""

    text: str
    trained: tuple[str, ...] = ()
    """The parts that the loss is taken of, in their order; of an encoder-decoder the target. Empty for classes."""
    label: str = ""
    """The class, for classification."""


def example_row(data: PreparedData, tokenizer: Any) -> ExampleRow:
    """Of what the probes would be given."""
    ids, trained = data.train.row(0)
    label = "" if data.train.class_labels is None else data.label_names[data.train.class_labels[0]]
    borders = [0, *(np.flatnonzero(np.diff(trained)) + 1).tolist(), len(ids)]
    # Of some tokenizers a text that begins in the middle of a row would lose its first space.
    ends = [tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False) for end in borders]
    parts = [ends[i + 1][len(ends[i]) :] for i in range(len(borders) - 1) if trained[borders[i]]]
    return ExampleRow(text=ends[-1], trained=tuple(parts), label=label)


def quoted(text: str) -> str:
    """In quotes, with spaces at its ends and line breaks to be seen; of a long one the beginning and the end."""
    if len(text) > LONGEST_SHOWN:
        half = LONGEST_SHOWN // 2
        return f"{quoted(text[:half])} ... {quoted(text[-half:])}"
    return json.dumps(text, ensure_ascii=False)
