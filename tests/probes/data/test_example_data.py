"""The shipped example data: readable, distinct, and right."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from probes.data.dataset import prepare
from tests.probes.tokenizers import byte_tokenizer

DATA = Path(__file__).parents[3] / "examples" / "data"


def rows(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "format", "task"),
    [
        ("demo.jsonl", "prompt-completion", "causal-lm"),
        ("chat.jsonl", "messages", "causal-lm"),
        ("relations.jsonl", "text-label", "sequence-classification"),
    ],
)
def test_every_row_can_be_used_and_none_comes_twice(name, format, task):
    profile = prepare(DATA / name, byte_tokenizer(), task=task, max_length_tokens=512).profile
    assert profile.format == format
    assert profile.usable_rows == profile.rows == len(rows(name)) and profile.duplicate_rows == 0


def test_the_sums_are_right():
    for row in rows("demo.jsonl"):
        a, sign, b = re.search(r"(\d+) ([+-]) (\d+) =$", row["prompt"]).groups()
        assert int(row["completion"]) == (int(a) + int(b) if sign == "+" else int(a) - int(b))


def test_the_words_are_backward():
    for row in rows("chat.jsonl"):
        question, answer = (message["content"] for message in row["messages"])
        assert question.rpartition(" ")[2] == answer[::-1]


def test_no_relation_is_more_frequent_than_another():
    assert set(Counter(row["label"] for row in rows("relations.jsonl")).values()) == {50}
