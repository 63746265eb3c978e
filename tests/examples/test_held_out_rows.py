"""What held-out rows tell of others: drawn, where it is known."""

import numpy as np
import pytest

from examples.study.held_out_rows import KEPT
from examples.study.held_out_scores import (
    CANDIDATES,
    LOOKED_AT,
    ROWS,
    Ends,
    finalists_table,
    inside_of,
    longer_look_table,
    lost_by_finalists,
    picks_of,
    regrets_of,
    table,
    told_of_finalists,
)
from examples.study.kept import read


def drawn(seed=0, candidates=10, rows=400, own=1.0):
    """Candidates of different quality on rows of different difficulty; a row is right where its loss is low."""
    random = np.random.default_rng(seed)
    quality = np.linspace(0.0, 0.5, candidates)[:, None]
    nats = np.exp(random.standard_normal(rows) + own * random.standard_normal((candidates, rows)) - quality)
    return Ends(nats, nats < 1.0, np.ones(rows, dtype=int))


def test_differences_lie_inside_as_often_as_is_told_and_more_often_if_rows_were_independent():
    loss, metric, independent = inside_of(drawn(own=0.5), 64, 40)
    assert 0.7 < loss < 0.92 and 0.72 < metric < 0.88
    assert independent > metric + 0.08


def test_the_pick_is_the_best_where_all_rows_say_so():
    ends = drawn(own=0.0)
    assert picks_of(ends) == (9, 9, 9)
    assert regrets_of(ends, 64, 5) == pytest.approx(np.zeros((2, 3)))


@pytest.mark.parametrize(("nats", "pick"), [(0.98, 0), (0.5, 1)])
def test_of_two_that_disagree_the_clearer_lead_decides(nats, pick):
    random = np.random.default_rng(0)
    right = np.array([np.arange(64) < 40, np.arange(64) % 64 >= 28])  # 40 and 36
    losses = np.array([np.ones(64), nats * np.ones(64)]) + 0.3 * random.standard_normal((2, 64))
    losses += (np.array([1.0, nats]) - losses.mean(axis=1))[:, None]
    assert picks_of(Ends(losses, right, np.ones(64, dtype=int))) == (0, 1, pick)


def test_the_table_is_of_what_is_kept():
    lines = [*table(read(KEPT), 2)]
    assert all(line.count("|") == 13 for line in lines)
    means = [line for line in lines if line.startswith("| mean")]
    assert [int(line.split("|")[3]) for line in means] == [*ROWS]


def test_finalists_share_more_with_each_other_than_with_those_that_left_early():
    (losses_all, losses_alone), (metrics_all, metrics_alone) = told_of_finalists(drawn(1), drawn(0, own=0.3), 60)
    for beside_all, alone in ((losses_all, losses_alone), (metrics_all, metrics_alone)):
        assert 0.65 < alone[0] < 0.95 and alone[0] < beside_all[0]
        assert alone[1] < beside_all[1]


def test_the_table_of_finalists_is_of_all_tasks_that_have_candidates_enough():
    lines = [*finalists_table(read(KEPT), 2)]
    assert all(line.count("|") == 10 for line in lines)
    assert len(lines) > 3 and lines[-1].startswith(f"| mean of {len(lines) - 3} ")


def test_a_longer_look_at_the_finalists_loses_less():
    lost = lost_by_finalists(drawn(1, own=0.3), drawn(0, own=0.3), 100)
    assert lost.shape == (2, len(LOOKED_AT))
    assert np.all(lost[:, -1] < 0.5 * lost[:, 0])
    assert lost_by_finalists(drawn(1), drawn(0, own=0.0), 5) == pytest.approx(np.zeros_like(lost)), "all rows agree"


def test_the_table_of_longer_looks_is_of_tasks_with_rows_enough():
    lines = [*longer_look_table(read(KEPT), 2)]
    assert all(line.count("|") == 2 * len(LOOKED_AT) + 2 for line in lines)
    assert len(lines) > 3 and lines[-1].startswith(f"| mean of {len(lines) - 3} ")


def test_all_that_is_kept_ran_to_its_end_on_the_same_rows():
    records = read(KEPT)
    assert len({(r["task"], r["method"], r["learning_rate"]) for r in records}) == len(records) > CANDIDATES
    for task in {r["task"] for r in records}:
        rows = {tuple(r["label_tokens"]) for r in records if r["task"] == task}
        assert len(rows) == 1
