"""Rows from Python become a file that every later step reads."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest

from advisor import recommend
from advisor.given_rows import EVAL_FILE, FILE, as_file
from knowledge.errors import BadInput

ROWS = [{"text": f"row {i} \u00e4", "label": i % 2} for i in range(3)]


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        tuple(ROWS),
        (row for row in ROWS),
        pandas.DataFrame(ROWS),
        datasets.Dataset.from_list(ROWS),
        [{"text": row["text"], "label": np.int64(row["label"])} for row in ROWS],
    ],
    ids=lambda data: type(data).__name__,
)
def test_rows_of_any_kind_are_the_same_file(data, tmp_path):
    path = as_file(data, tmp_path / "out")
    assert path == str(tmp_path / "out" / FILE)
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == ROWS


def test_rows_to_hold_out_are_given_like_the_others(tmp_path):
    """And named beside them: the request fails only for want of a model."""
    with pytest.raises(BadInput, match="No such model"):
        recommend(str(tmp_path / "no-model"), ROWS, eval_data=pandas.DataFrame(ROWS[:1]), out=tmp_path / "out")
    written = (tmp_path / "out" / EVAL_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in written] == ROWS[:1] and (tmp_path / "out" / FILE).is_file()


@pytest.mark.parametrize("data", ["my.jsonl", None, 3])
def test_what_is_no_rows_is_left_to_the_request(data, tmp_path):
    assert as_file(data, tmp_path) is data and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"train": ROWS, "test": ROWS}, r"several splits \('train', 'test'\). Give one of them, e.g. data\['train'\]"),
        (["a text"], "Row 1 of the data is a str: each must be a dict"),
        ([*ROWS, {"day": datetime.date(2026, 1, 1)}], "Row 4 of the data cannot be written as JSON: a date"),
    ],
)
def test_what_cannot_be_rows_says_why(data, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        as_file(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_need_a_place_and_replace_no_others(tmp_path):
    with pytest.raises(BadInput, match=r"give a folder with out="):
        recommend("no such model", ROWS)
    as_file(ROWS, tmp_path)
    assert as_file(ROWS, tmp_path) == str(tmp_path / FILE)
    with pytest.raises(BadInput, match="holds other rows"):
        as_file(ROWS[:2], tmp_path)
    assert len((tmp_path / FILE).read_text(encoding="utf-8").splitlines()) == len(ROWS)
