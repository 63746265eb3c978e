"""Keys that do not see what makes no difference, and prompts as the unit of the split."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.data import split
from probes.data.split import eval_rows_wanted, group_key, split_texts


@given(st.text(), st.integers(-5, 5))
def test_keys_ignore_case_white_space_and_unicode_form(text, seed):
    key = group_key(text, seed)
    assert 0 <= key < 2**63
    assert group_key(f"  {text}\n", seed) == key
    assert group_key(text.replace(" ", "\t "), seed) == key


def test_equal_texts_in_other_forms_have_one_key():
    assert group_key("Größe  of X", 0) == group_key("gro\u0308ße of x", 0) == group_key("GRÖSSE OF X", 0)
    assert group_key("1 + 2", 0) != group_key("1 + 3", 0)


def test_another_seed_gives_another_order():
    texts = [f"text {i}" for i in range(50)]
    assert sorted(texts, key=lambda t: group_key(t, 0)) != sorted(texts, key=lambda t: group_key(t, 1))


def test_the_prompt_goes_to_the_first_trained_text():
    assert split_texts([("a", False), ("b", False), ("c", True), ("d", False)]) == ("ab", "abcd")
    assert split_texts([("c", True)]) == ("c", "c"), "without a prompt the whole text stands for it"
    assert split_texts([("a", False)]) == ("a", "a")


@pytest.mark.parametrize(("rows", "wanted"), [(2, 1), (8, 2), (40, 8), (100, 10), (500, 50), (2000, 200), (10**6, 200)])
def test_rows_held_out(rows, wanted):
    assert eval_rows_wanted(rows, 0.1, 200) == wanted


def test_the_key_runs_from_its_source_alone():
    alone: dict = {}
    exec(inspect.getsource(split.group_key), alone)
    assert alone["group_key"]("some Text", 3) == group_key("some Text", 3)
