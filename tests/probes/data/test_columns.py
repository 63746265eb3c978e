"""The user's columns under the keys of a format: what is read is what the same file with other names would give."""

import json

import numpy as np
import pytest

from knowledge.errors import BadInput
from probes.data.columns import columns_of
from probes.data.dataset import prepare
from probes.data.scan import format_of
from tests.probes.tokenizers import byte_tokenizer

WORDS = byte_tokenizer()
ROWS = [{"id": i, "question": f"what is {i}", "answer": f" it is {i % 7}", "label": True} for i in range(60)]
COLUMNS = {"prompt": "question", "completion": "answer"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "given", [COLUMNS, ["prompt=question", "completion=answer"], "prompt=question, completion=answer"]
)
def test_they_are_given_as_a_mapping_or_in_words(given):
    assert columns_of(given) == COLUMNS


def test_none_are_given_by_nothing():
    assert columns_of(None) == columns_of(()) == columns_of({}) == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["text"], "'text' names no column"),
        (["text="], "'text=' names no column"),
        (["text=a", "text=b"], "text is to be both 'a' and 'b'"),
        (3, "a mapping of the format's keys to yours"),
        ([3], "a mapping of the format's keys to yours"),
    ],
)
def test_what_names_no_columns_is_told(given, words):
    with pytest.raises(BadInput, match=words):
        columns_of(given)


def test_rows_are_read_as_from_a_file_with_the_names_of_the_format(tmp_path):
    """Other columns, of which `label` would speak against the format, count for nothing."""
    mine = write(tmp_path / "mine.jsonl", ROWS)
    theirs = write(tmp_path / "theirs.jsonl", [{"prompt": r["question"], "completion": r["answer"]} for r in ROWS])
    options = {"task": "causal-lm", "max_length_tokens": 32}
    named, plain = prepare(mine, WORDS, columns=COLUMNS, **options), prepare(theirs, WORDS, **options)
    assert named.profile.format == "prompt-completion" and named.profile.columns == COLUMNS
    assert named.held_out_key == plain.held_out_key
    for one, other in ((named.train, plain.train), (named.eval, plain.eval)):
        assert len(one) == len(other) > 0
        assert all(np.array_equal(a, b) for a, b in zip(one.row(0), other.row(0), strict=True))


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    path = write(tmp_path / "mine.jsonl", ROWS)
    with pytest.raises(BadInput, match=r"no column 'anser'\. Did you mean 'answer'"):
        format_of(path, columns={"prompt": "question", "completion": "anser"})
    with pytest.raises(BadInput, match=r"Keys seen: 'promt' \(str\)"):
        format_of(path, columns={"promt": "question"})


def test_a_row_without_an_optional_column_is_read_without_it(tmp_path):
    path = write(tmp_path / "mine.jsonl", [*ROWS, {"question": "a", "answer": "b", "about": "c"}])
    columns = {"instruction": "question", "output": "answer", "input": "id"}
    with pytest.raises(BadInput, match="fits no known data format"):
        format_of(path, columns=columns)  # a number is no input
    assert format_of(path, columns={"instruction": "question", "output": "answer"}).name == "alpaca"
