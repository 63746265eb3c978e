"""What every data format promises; a new format file is covered without an edit here."""

import inspect
import json
import string
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.errors import BadInput
from probes.data.chats import chat_segments
from probes.formats import all_formats, detect_format, get_format

CHAT = partial(chat_segments, None)
FORMATS = {f.name: f for f in all_formats()}
each_format = pytest.mark.parametrize("data_format", FORMATS.values(), ids=FORMATS)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
# Rows near the formats: their own keys with values of any kind.
keys_of_formats = sorted({key for f in FORMATS.values() for key in f.example} | {"tools", "system", "history", "input"})
near_rows = st.dictionaries(st.sampled_from(keys_of_formats) | st.text(max_size=8), json_values, max_size=5)


def test_the_formats_of_the_documentation_are_there():
    assert set(FORMATS) == {
        "prompt-completion", "messages", "alpaca", "sharegpt", "text", "text-label",
    }  # fmt: skip


@each_format
def test_its_example_is_detected_as_itself(data_format):
    assert data_format.matches(data_format.example)
    assert detect_format([(1, data_format.example)]) is data_format
    assert get_format(data_format.name) is data_format


@each_format
def test_its_example_becomes_segments(data_format):
    segments = data_format.to_segments(data_format.example, CHAT)
    assert segments
    assert all(isinstance(text, str) and isinstance(trained, bool) for text, trained in segments)
    assert any(trained for _, trained in segments) is not data_format.classification
    if data_format.classification:
        assert isinstance(data_format.label_of(data_format.example), str | int)
    else:
        assert data_format.label_of is None


@each_format
def test_what_it_looks_at_is_enough_to_read_a_row(data_format):
    row = data_format.example | {"image": b"x" * 1000, "embedding": [0.5] * 1000, "tools": None, "input": "more"}
    used = data_format.of_use(row)
    assert not used.keys() & {"image", "embedding"}
    assert data_format.matches(used) and data_format.to_segments(used, CHAT) == data_format.to_segments(row, CHAT)
    if data_format.label_of is not None:
        assert data_format.label_of(used) == data_format.label_of(row)


def test_rows_of_which_a_half_would_be_lost_are_of_no_format():
    for row in [
        {"question": "Is it?", "sentence": "It is.", "label": "entailment"},
        {"text": "one", "text_pair": "two", "label": 1},
        {"prompt": "q", "completion": "a", "label": False},
    ]:
        with pytest.raises(BadInput):
            detect_format([(1, row)] * 20)


def test_instructions_beside_the_messages_are_their_first_one():
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    read = get_format("messages").to_segments
    assert read({"system": "s", "messages": messages}, CHAT) == read(
        {"messages": [{"role": "system", "content": "s"}, *messages]}, CHAT
    )


def test_a_turn_that_calls_a_tool_needs_no_content_and_tools_may_be_json():
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]
    assert get_format("messages").matches({"messages": turns})
    assert get_format("prompt-completion").matches({"prompt": turns[:1], "completion": turns[1:]})
    assert not get_format("messages").matches({"messages": [{"role": "user"}]})
    seen = {}
    row = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": "[]"}
    get_format("sharegpt").to_segments(row, lambda messages, tools=None: seen.update(tools=tools) or [])
    assert seen == {"tools": "[]"}


@each_format
def test_its_functions_run_from_their_source_alone(data_format):
    """They are written verbatim into the generated training script, without the module around them."""
    for function in filter(None, (data_format.matches, data_format.to_segments, data_format.label_of)):
        alone: dict = {}
        exec(inspect.getsource(function), alone)
        arguments = (data_format.example, CHAT) if function is data_format.to_segments else (data_format.example,)
        assert alone[function.__name__](*arguments) == function(*arguments)


@each_format
def test_it_leaves_the_row_as_it_was(data_format):
    before = json.dumps(data_format.example)
    data_format.to_segments(data_format.example, CHAT)
    assert json.dumps(data_format.example) == before


@each_format
@given(row=near_rows)
def test_matching_never_raises_and_answers_yes_or_no(data_format, row):
    assert data_format.matches(row) in (True, False)


@given(prompt=st.text(), completion=st.text())
def test_prompt_and_completion_are_kept_letter_by_letter(prompt, completion):
    segments = FORMATS["prompt-completion"].to_segments({"prompt": prompt, "completion": completion}, CHAT)
    assert segments == [(prompt, False), (completion, True)]


@given(st.lists(st.tuples(st.text(string.ascii_letters, min_size=1), st.text(string.ascii_letters, min_size=1))))
def test_the_chat_formats_train_the_answers_and_nothing_else(turns):
    roles = [message for asked, answered in turns for message in (("user", asked), ("assistant", answered))]
    messages = {"messages": [{"role": role, "content": content} for role, content in roles]}
    names = {"user": "human", "assistant": "gpt"}
    shared = {"conversations": [{"from": names[role], "value": content} for role, content in roles]}
    by_messages = FORMATS["messages"].to_segments(messages, CHAT)
    assert [text.strip() for text, trained in by_messages if trained] == [answered for _, answered in turns]
    assert FORMATS["sharegpt"].to_segments(shared, CHAT) == by_messages


def test_alpaca_holds_instruction_input_history_and_system():
    row = {
        "instruction": "Add.",
        "input": "2 2",
        "output": "4",
        "system": "Be brief.",
        "history": [["Add.\n\n1 1", "2"]],
    }
    segments = FORMATS["alpaca"].to_segments(row, CHAT)
    assert "".join(text for text, _ in segments) == (
        "System: Be brief.\n\nUser: Add.\n\n1 1\n\nAssistant: 2\n\nUser: Add.\n\n2 2\n\nAssistant: 4"
    )
    assert [text for text, trained in segments if trained] == [" 2", " 4"]


def test_more_specific_formats_win():
    assert detect_format([(1, {"text": "a", "label": 1})]).name == "text-label"
    assert detect_format([(1, {"text": "a", "label": 1.0})]).name == "text-label"
    text_label = get_format("text-label")
    for label, name in ((1.0, 1), (True, 1), (" spam ", "spam")):
        assert text_label.label_of({"text": "a", "label": label}) == name
    assert not text_label.matches({"text": "a", "label": 0.5})
    assert detect_format([(1, {"text": "a", "label": None})]).name == "text"
    assert detect_format([(1, {"prompt": "a", "completion": "b", "text": "ab"})]).name == "prompt-completion"


def test_a_single_odd_row_does_not_decide_the_format():
    rows = [(1, {"oops": 1}), *((n, {"text": "a"}) for n in range(2, 12))]
    assert detect_format(rows).name == "text"
    labelled = [(n, {"text": "a", "label": None if n == 3 else n % 2}) for n in range(1, 12)]
    assert detect_format(labelled).name == "text-label"


def test_unknown_keys_are_named_with_line_and_known_formats():
    with pytest.raises(BadInput) as caught:
        detect_format([(3, {"question": "2 + 2", "answer": 4})])
    message = str(caught.value)
    assert "Line 3" in message and "'question' (str), 'answer' (int)" in message
    assert all(name in message for name in FORMATS) and "--format" in message


def test_preferences_are_called_what_they_are():
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.raises(BadInput, match=r"Line 1 is a preference.* write the chosen answers as messages"):
        detect_format([(1, row), (2, row)])


def test_formats_that_are_mixed_are_named():
    known = all_formats()[:3]
    with pytest.raises(BadInput, match=f"several formats .*1 in {known[0].name}.*--format"):
        detect_format([(i, f.example) for i, f in enumerate(known)])


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(BadInput, match="'sharegpt'"):
        get_format("share-gpt")
