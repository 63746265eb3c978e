"""Metrics of held-out answers: those built in, and a function of the user's."""

from __future__ import annotations

import pytest

from knowledge.errors import BadInput
from probes.metrics import MetricFailed, OwnMetric, check_metric, own_place, title

LETTERS = "abcdefghij"


def write(folder, code, name="own.py"):
    (folder / name).write_text(code, encoding="utf-8")
    return f"{folder / name}:score"


def decode(ids):
    return "".join(LETTERS[i] for i in ids)


def test_it_gets_the_texts_of_all_rows_in_their_order(tmp_path):
    place = write(tmp_path, "def score(predictions, references):\n    assert predictions == ['ab', 'c'], predictions\n"
                            "    assert references == ['ad', 'c']\n    return 0.25\n")  # fmt: skip
    assert OwnMetric(place, decode)([[0, 1], [2]], [[0, 3], [2]]) == 0.25


@pytest.mark.parametrize("body", ["return float('nan')", "return None", "raise ZeroDivisionError('oh')", "return 'a'"])
def test_what_is_no_number_is_told_with_its_place(tmp_path, body):
    place = write(tmp_path, f"def score(predictions, references):\n    {body}\n")
    with pytest.raises(MetricFailed, match=r"own\.py:score"):
        OwnMetric(place, decode)([[0]], [[0]])


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("exact mach", "no metric 'exact mach'"),
        ("accuracy", "no metric 'accuracy' for causal-lm"),
        ("missing.py:score", "no file"),
        ("{folder}/own.py:other", "no function 'other'"),
        ("{folder}/broken.py:score", "cannot be run: NameError"),
        ("{folder}/script.py:score", "cannot be run: SystemExit: 2"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_can(tmp_path, metric, words):
    write(tmp_path, "def score(predictions, references):\n    return 1\n")
    write(tmp_path, "nonsense\n", "broken.py")
    write(tmp_path, "raise SystemExit(2)\n", "script.py")
    with pytest.raises(BadInput, match=words):
        check_metric(metric.format(folder=tmp_path), "causal-lm")


def test_what_can_be_used_is_not_refused(tmp_path):
    check_metric("exact match", "seq2seq-lm")
    check_metric("accuracy", "sequence-classification")
    check_metric(write(tmp_path, "def score(predictions, references):\n    return 1\n"), "causal-lm")


def test_its_file_may_hold_dataclasses_and_import_its_neighbours(tmp_path):
    write(tmp_path, "WEIGHT = 0.5\n", "neighbour_of_metric.py")
    place = write(tmp_path, "from __future__ import annotations\nfrom dataclasses import dataclass\n"
                            "from neighbour_of_metric import WEIGHT\n@dataclass\nclass Row:\n    text: str\n"
                            "def score(predictions, references):\n    return WEIGHT\n")  # fmt: skip
    assert OwnMetric(place, decode)([[0]], [[0]]) == 0.5


def test_its_name_is_the_functions_and_its_place_holds_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert title("metrics.py:letter_overlap") == "letter overlap"
    assert [title(f"metrics.py:{name}") for name in ("eval_loss", "exact_match")] == [
        "own eval loss",
        "own exact match",
    ]
    assert own_place("metrics.py:letter_overlap") == f"{tmp_path / 'metrics.py'}:letter_overlap"
    assert (title("exact match"), own_place("exact match"), own_place(None)) == ("exact match", None, None)


def test_what_the_file_prints_is_no_part_of_the_result(tmp_path, capsys):
    """On stdout `--json` has the result alone."""
    check_metric(write(tmp_path, "print('loading')\ndef score(predicted, right): return 0.0\n"), "causal-lm")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "loading\n")
