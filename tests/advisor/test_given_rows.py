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
from probes.data.scan import format_of

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


def test_what_json_does_not_know_is_text_or_nothing(tmp_path):
    """Of a table most columns are not looked at, and an empty cell is none."""
    table = pandas.DataFrame(
        {
            "instruction": ["a", "b"],
            "input": ["x", float("nan")],
            "output": ["c", "d"],
            "score": pandas.array([1, None], dtype="Int64"),
            "day": [pandas.Timestamp("2026-01-02"), pandas.NaT],
            "image": [b"\xff", object()],
        }
    )
    path = as_file(table, tmp_path / "out")
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    assert [row["input"] for row in rows] == ["x", None] and [row["score"] for row in rows] == [1, None]
    assert [row["day"] for row in rows] == ["2026-01-02 00:00:00", None] and {row["image"] for row in rows} == {None}
    assert format_of(path).name == "alpaca"
    dates = as_file([{"text": "a", "day": datetime.date(2026, 1, 2)}, {"text": "\ud83d"}], tmp_path / "dates")
    assert '"2026-01-02"' in Path(dates).read_text() and "ud83d" in Path(dates).read_text()


def test_classes_of_a_dataset_have_their_names(tmp_path):
    classes = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}, {"text": "c", "label": -1}]
    path = as_file(datasets.Dataset.from_list(rows, features=classes), tmp_path / "out")
    written = [json.loads(line)["label"] for line in Path(path).read_text().splitlines()]
    assert written == ["pos", "neg", None]


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
