"""Held-out rows of the user's own file, in place of some of the data."""

import json

import numpy as np
import pytest

from knowledge.errors import BadInput
from probes.data.dataset import PreparedData, prepare
from probes.data.hold_out import SAME_PROMPT
from tests.probes.tokenizers import byte_tokenizer

PLAIN = byte_tokenizer()


def sums(numbers):
    return [{"prompt": f"{a}+1=", "completion": f"{a + 1}"} for a in numbers]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prepared(data, own, **options):
    settings = {"task": "causal-lm", "max_length_tokens": 64, **options}
    return prepare(data, PLAIN, eval_path=own, **settings)


def texts(rows):
    return sorted(PLAIN.decode(rows.row(i)[0], skip_special_tokens=True) for i in range(len(rows)))


def test_all_of_the_data_is_trained_and_the_own_rows_are_evaluated(tmp_path):
    data, own = write(tmp_path / "a.jsonl", sums(range(90))), write(tmp_path / "own.jsonl", sums(range(900, 930)))
    found = prepared(data, own)
    assert texts(found.train) == sorted(f"{a}+1={a + 1}" for a in range(90))
    assert texts(found.eval) == sorted(f"{a}+1={a + 1}" for a in range(900, 930))
    profile = found.profile
    assert (profile.rows, profile.usable_rows, profile.train_rows, profile.eval_rows) == (90, 90, 90, 30)
    assert (profile.tokenised_rows, profile.sample_rows, profile.eval_path) == (90, 90, str(own))
    assert profile.eval_path_rows == 30
    assert found.held_out_key == -1 and not profile.dropped
    found.save(tmp_path / "saved")
    assert PreparedData.load(tmp_path / "saved").profile == profile


def test_of_many_own_rows_some_are_evaluated_each_once_whatever_their_order(tmp_path):
    data, many = write(tmp_path / "a.jsonl", sums(range(50))), sums(range(100, 400))
    found = prepared(data, write(tmp_path / "own.jsonl", many), max_eval_rows=20)
    again = prepared(data, write(tmp_path / "other.jsonl", many[::-1] + many), max_eval_rows=20)
    assert len(set(texts(found.eval))) == 20 and texts(found.eval) == texts(again.eval)


def test_what_is_tested_is_not_trained(tmp_path):
    """Neither rows that are evaluated nor the other own rows, whatever the answer; and it is counted."""
    data = write(tmp_path / "a.jsonl", [*sums(range(90)), {"prompt": "5+1=", "completion": "seven"}])
    own = write(tmp_path / "own.jsonl", sums([3, 5, *range(200, 240)]))
    found = prepared(data, own, max_eval_rows=10)
    assert found.keyed_by == "prompt" and not {"3+1=4", "5+1=6", "5+1=seven"} & set(texts(found.train))
    assert found.profile.dropped == {SAME_PROMPT: 3}
    assert found.profile.train_rows == len(found.train) == found.profile.rows - 3


def test_one_prompt_for_all_rows_does_not_leave_them_all_out(tmp_path):
    def jokes(numbers):
        return [{"prompt": "Tell a joke.", "completion": f" number {i}"} for i in numbers]

    data = write(tmp_path / "a.jsonl", jokes(range(60)))
    found = prepared(data, write(tmp_path / "own.jsonl", jokes(range(58, 90))))
    assert found.keyed_by == "text" and len(found.train) == 58 and len(found.eval) == 32


def test_a_sample_of_a_large_file_is_drawn_from_what_may_be_trained(tmp_path):
    data = write(tmp_path / "a.jsonl", sums(range(1000)))
    found = prepared(data, write(tmp_path / "own.jsonl", sums(range(100))), max_train_rows=200)
    assert found.profile.train_rows == 900 and 150 < len(found.train) < 200
    assert found.profile.sample_rows == len(found.train) < found.profile.usable_rows
    assert not set(texts(found.train)) & {f"{a}+1={a + 1}" for a in range(100)}


def test_both_files_are_read_by_the_users_columns_in_any_form(tmp_path):
    data = write(tmp_path / "a.jsonl", [{"q": f"{a}?", "a": f"{a}!", "text": "x"} for a in range(40)])
    own = tmp_path / "own.csv"
    own.write_text("q;a;more\n" + "".join(f"{a}?;{a}!;\n" for a in range(50, 60)))
    found = prepared(data, own, columns={"prompt": "q", "completion": "a"})
    assert texts(found.eval) == sorted(f"{a}?{a}!" for a in range(50, 60)) and len(found.train) == 40


def test_classes_are_those_of_both(tmp_path):
    def rows(numbers, *labels):
        return [{"text": f"row {i}", "label": labels[i % len(labels)]} for i in numbers]

    data = write(tmp_path / "a.jsonl", rows(range(40), "no", "yes"))
    own = write(tmp_path / "own.jsonl", rows(range(100, 130), "yes", "maybe", "no"))
    found = prepared(data, own, task="sequence-classification")
    assert found.label_names == ("maybe", "no", "yes")
    assert np.bincount(found.eval.class_labels).tolist() == [10, 10, 10]
    assert (found.profile.unseen_class_rows, found.profile.held_out_classes) == (10, 3)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (sums(range(60)), "All rows of the data are in .*own.jsonl too"),
        (
            [{"prompt": "9" * 90, "completion": "x"}],
            r"None of the rows of .*own.jsonl can be evaluated \(1: the prompt",
        ),
        ([{"text": "plain"}] * 9, "own.jsonl.*does not fit the format prompt-completion"),
        ([], "own.jsonl"),
    ],
)
def test_own_rows_that_test_nothing_are_refused(rows, words, tmp_path):
    data, own = write(tmp_path / "a.jsonl", sums(range(60))), write(tmp_path / "own.jsonl", rows)
    with pytest.raises(BadInput, match=f"(?s){words}"):
        prepared(data, own)
