"""The first row as it is trained, in text again."""

from __future__ import annotations

import json

import pytest

from advisor.example_row import LONGEST_SHOWN, example_row, quoted
from probes.data.dataset import prepare
from tests.probes.tokenizers import CHAT_TEMPLATE, byte_tokenizer, spacing_tokenizer

TURNS = [
    {"role": role, "content": content}
    for role, content in (("user", "hi there"), ("assistant", "yo"), ("user", "and now"), ("assistant", " two words"))
]


def example(tmp_path, row, tokenizer):
    """Of a file of such rows, which differ in their beginnings."""
    path = tmp_path / "rows.jsonl"
    rows = [{key: [*value] if key == "messages" else value for key, value in row.items()} for _ in range(40)]
    for number, one in enumerate(rows):
        if "prompt" in one:
            one["prompt"] = f"{'abcdefgh'[number % 8]} {'abcdefgh'[number // 8]} {one['prompt']}"
        else:
            one["messages"][0] = {"role": "user", "content": f"hi {number}"}
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return example_row(prepare(path, tokenizer, task="causal-lm", max_length_tokens=200), tokenizer)


def test_of_a_conversation_the_answers_are_learned(tmp_path):
    tokenizer = byte_tokenizer(chat_template=CHAT_TEMPLATE)
    row = example(tmp_path, {"messages": TURNS}, tokenizer)
    assert row.text.startswith("<turn>user: hi ") and row.text.endswith("and now</s><turn>assistant:  two words</s>")
    assert row.trained == ("yo</s>", " two words</s>")


@pytest.mark.parametrize(
    "tokenizer", [byte_tokenizer(), spacing_tokenizer("every text"), spacing_tokenizer("first text")]
)
def test_the_first_space_of_a_completion_is_seen(tokenizer, tmp_path):
    row = example(tmp_path, {"prompt": "one two", "completion": " three four"}, tokenizer)
    assert row.text.endswith("one two three four</s>") and row.trained == (" three four</s>",)


def test_of_classes_the_name_is_told(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {i}", "label": "no" if i else "yes"}) + "\n" for i in range(40)))
    tokenizer = byte_tokenizer()
    data = prepare(path, tokenizer, task="sequence-classification", max_length_tokens=20)
    row = example_row(data, tokenizer)
    assert row.trained == () and row.label == data.label_names[data.train.class_labels[0]]
    assert "row " in row.text


def test_a_long_text_is_shown_by_its_ends():
    assert quoted(' a\n"b" ') == r'" a\n\"b\" "'
    long = quoted("x" * 1000 + "end")
    assert long.startswith('"xxx') and long.endswith('xend"') and " ... " in long and len(long) < LONGEST_SHOWN + 10
