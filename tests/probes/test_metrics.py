"""Metrics of held-out answers: those built in, and a function of the user's."""

from __future__ import annotations

import numpy as np
import pytest

from knowledge.errors import BadInput
from probes.metrics import (
    BUILT_IN,
    MACRO_F1,
    MetricFailed,
    OwnMetric,
    canonical_name,
    check_metric,
    counts_rows_alike,
    independent_rows,
    is_share,
    macro_f1,
    own_place,
    title,
)

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
    with pytest.raises(MetricFailed, match=r"own\.py:score (failed in line 2: ZeroDivisionError|returned|failed: )"):
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
    assert [title(f"metrics.py:{name}") for name in ("eval_loss", "exact_match", "macro_f1")] == [
        "own eval loss",
        "own exact match",
        "own macro f1",
    ]
    assert own_place("metrics.py:letter_overlap") == f"{tmp_path / 'metrics.py'}:letter_overlap"
    assert (title("exact match"), own_place("exact match"), own_place(None)) == ("exact match", None, None)


def test_what_the_file_prints_is_no_part_of_the_result(tmp_path, capsys):
    """On stdout `--json` has the result alone."""
    check_metric(write(tmp_path, "print('loading')\ndef score(predicted, right): return 0.0\n"), "causal-lm")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "loading\n")


def drawn(shares, right_share, rows, seed=0):
    """Numbers of classes, predicted and right: some rows are known, the others guessed by how frequent classes are."""
    random = np.random.default_rng(seed)
    right, guessed = (random.choice(len(shares), rows, p=shares) for _ in range(2))
    return np.where(random.random(rows) < right_share, right, guessed), right


def test_the_macro_f1_is_the_mean_over_the_classes_that_the_rows_have():
    from sklearn.metrics import f1_score

    predicted, right = drawn([0.6, 0.3, 0.1], 0.7, 300)
    rows = [[[int(id)] for id in ids] for ids in (predicted, right)]
    assert macro_f1(*rows) == pytest.approx(f1_score(right, predicted, average="macro"))
    assert macro_f1([0, 0, 0, 1], [0, 0, 1, 1]) == pytest.approx((0.8 + 2 / 3) / 2)
    assert macro_f1([0, 2], [0, 0]) == pytest.approx(2 / 3), "no row is of class 1 or 2"


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.1], [0.5, 0.2, 0.1, 0.1, 0.05, 0.05]])
def test_a_macro_f1_varies_as_a_share_of_its_independent_rows_does(shares):
    predicted, right = drawn(shares, 0.8, 100_000)
    random, told, seen = np.random.default_rng(1), [], []
    whole = macro_f1(predicted, right)
    for _ in range(400):
        rows = random.choice(len(right), 64)
        seen.append(macro_f1(predicted[rows], right[rows]))
        told.append((whole * (1 - whole) / independent_rows(MACRO_F1, right[rows], 64)) ** 0.5)
    assert np.mean(told) == pytest.approx(np.std(seen), rel=0.12)


def test_other_metrics_are_told_by_every_row_alike():
    labels = np.array([0] * 9 + [1])
    assert independent_rows("accuracy", labels, 10) == 10
    assert independent_rows("exact match", None, 7) == 7
    assert independent_rows(MACRO_F1, labels, 10) == pytest.approx(2 * 2 / (1 + 1 / 9))
    assert independent_rows(MACRO_F1, labels, 5) == 5, "the first rows are of one class"
    assert [name for name in BUILT_IN if not counts_rows_alike(name)] == [MACRO_F1]
    assert is_share("held-out macro F1") and not counts_rows_alike("held-out macro F1")


@pytest.mark.parametrize("spelling", ["macro F1", "macro-f1", "MACRO_F1", " Macro  F1 "])
def test_a_built_in_metric_is_known_in_any_spelling(spelling):
    assert canonical_name(spelling) == MACRO_F1
    assert canonical_name("metrics.py:macro_f1") == "metrics.py:macro_f1"
    assert canonical_name("f1") == "f1"
