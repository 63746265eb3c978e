"""Batches: the same for everybody, every row once a pass, and labels where the model predicts them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probes.batching import batch_order, collate, padded_tokens
from probes.data.rows import TokenRows
from probes.forward import forward_inputs
from tests.tiny import tiny_model

row_lists = st.lists(
    st.lists(st.tuples(st.integers(3, 60), st.booleans()), min_size=2, max_size=12), min_size=1, max_size=6
)


def make_rows(pairs, class_labels=None):
    return TokenRows.build(
        [([token for token, _ in row], [trained for _, trained in row]) for row in pairs], class_labels
    )


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 60), st.integers(0, 3))
def test_the_order_is_a_prefix_of_a_longer_one_and_full(rows, batch_size, steps, seed):
    lengths = np.arange(rows) * 7 % 13
    order = batch_order(lengths, batch_size, steps, seed)
    assert len(order) == steps and all(len(batch) == batch_size for batch in order)
    longer = batch_order(lengths, batch_size, steps + 5, seed)
    assert all((a == b).all() for a, b in zip(order, longer, strict=False))


@given(st.integers(1, 150), st.integers(1, 17), st.integers(1, 60), st.integers(0, 3))
def test_every_row_comes_once_before_any_comes_twice(rows, batch_size, steps, seed):
    drawn = np.concatenate(batch_order(np.arange(rows) * 7 % 13, batch_size, steps, seed))
    for start in range(0, len(drawn), rows):
        of_pass = drawn[start : start + rows]
        assert len(set(of_pass)) == len(of_pass)


def test_passes_over_the_rows_differ():
    order = batch_order(np.random.default_rng(0).integers(5, 50, 640), 8, 160, seed=1)
    assert not all((a == b).all() for a, b in zip(order[:80], order[80:], strict=True))


def test_bucketing_saves_padding_and_seeds_differ():
    lengths = np.random.default_rng(0).integers(10, 200, 1000)
    shuffled = np.random.default_rng(0).permutation(1000).reshape(-1, 8)

    def padded(batches):
        return sum(lengths[batch].max() * len(batch) for batch in batches)

    order = batch_order(lengths, 8, 125, seed=0)
    assert padded(order) < 0.75 * padded(shuffled)
    assert not all((a == b).all() for a, b in zip(order, batch_order(lengths, 8, 125, seed=1), strict=True))


@given(row_lists)
def test_causal_rows_end_together_and_labels_follow_the_mask(pairs):
    pairs = [[*row[:-1], (row[-1][0], True)] for row in pairs]
    rows = make_rows(pairs)
    batch = collate(rows, np.arange(len(rows)), 0, "causal-lm")
    width, kept = batch["input_ids"].shape[1], batch["labels"].shape[1]
    assert width == max(map(len, pairs)) and kept + 1 <= width
    for i, row in enumerate(pairs):
        assert batch["input_ids"][i].tolist() == [0] * (width - len(row)) + [token for token, _ in row]
        assert batch["attention_mask"][i].tolist() == [0] * (width - len(row)) + [1] * len(row)
        labels = [-100] + [token if trained else -100 for token, trained in row[1:]]
        padded = [-100] * (width - len(row)) + labels
        assert batch["labels"][i].tolist() == padded[width - kept :], "the rest bears no label"
        assert set(padded[: width - kept]) <= {-100}


def test_the_loss_equals_the_models_own_on_unpadded_rows():
    """Logits at label positions of a left-padded batch against transformers' loss, row by row."""
    model = tiny_model("llama")
    pairs = [[(5, False), (6, False), (7, True), (8, True)], [(9, False), (10, True), (11, True), (2, True), (4, True)]]
    rows = make_rows(pairs)
    batch = collate(rows, np.array([0, 1]), 0, "causal-lm")
    with torch.no_grad():
        logits = model(**forward_inputs(model, batch, "causal-lm")).logits
        assert logits.shape[:2] == batch["labels"].shape
        summed = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100, reduction="sum"
        )
        expected = 0.0
        for row in pairs:
            ids = torch.tensor([[token for token, _ in row]])
            labels = torch.tensor([[token if trained else -100 for token, trained in row]])
            count = sum(trained for _, trained in row[1:])
            expected += float(model(input_ids=ids, labels=labels).loss) * count
    assert abs(float(summed) - expected) < 1e-3


def test_classification_is_padded_on_the_right():
    rows = make_rows([[(5, False), (6, False)], [(7, False), (8, False), (9, False)]], class_labels=[2, 0])
    batch = collate(rows, np.array([1, 0]), 1, "sequence-classification")
    assert batch["input_ids"].tolist() == [[7, 8, 9], [5, 6, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [0, 2]


def test_encoder_decoder_rows_part_into_source_and_target():
    rows = make_rows([[(5, False), (6, False), (7, True)], [(8, False), (9, True), (10, True)]])
    batch = collate(rows, np.array([0, 1]), 0, "seq2seq-lm")
    assert batch["input_ids"].tolist() == [[5, 6], [8, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[7, -100], [9, 10]]


@pytest.mark.parametrize(("task", "tokens"), [("causal-lm", 6), ("sequence-classification", 6), ("seq2seq-lm", 2 + 4)])
def test_the_time_of_a_pass_is_that_of_all_tokens_it_reads(task, tokens):
    """Also where sources are short and targets long: costs are planned by it."""
    rows = make_rows([[(5, False), (6, True), (7, True)], [(8, False), (9, True)]], class_labels=[0, 1])
    assert padded_tokens(collate(rows, np.array([0, 1]), 0, task), task) == tokens


def test_rows_survive_their_files(tmp_path):
    rows = make_rows([[(5, False), (6, True)], [(7, True), (8, True), (9, False)]], class_labels=[1, 0])
    rows.save(tmp_path)
    loaded = TokenRows.load(tmp_path)
    assert loaded.tokens.tolist() == [5, 6, 7, 8, 9] and isinstance(loaded.tokens, np.memmap)
    assert loaded.lengths_tokens.tolist() == [2, 3]
    assert loaded.class_labels.tolist() == [1, 0] and len(loaded.first(1)) == 1
    assert [part.tolist() for part in loaded.row(1)] == [[7, 8, 9], [True, True, False]]
