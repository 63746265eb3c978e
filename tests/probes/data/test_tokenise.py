"""Which tokens are trained, where sequences begin and end, and what is cut."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.data import chats, tokenise
from probes.data.chats import OF_CHATS, chat_segments
from probes.data.tokenise import (
    cut_pair_to_length,
    cut_text_to_length,
    cut_to_length,
    encode_batch,
    encode_pairs,
    encode_texts,
)
from tests.probes.tokenizers import CHAT_TEMPLATE, byte_tokenizer, spacing_tokenizer

PLAIN = byte_tokenizer()
CHAT = byte_tokenizer(chat_template=CHAT_TEMPLATE)
TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yo"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "so long"},
]


def trained_text(tokenizer, ids, trained):
    return tokenizer.decode([token for token, is_trained in zip(ids, trained, strict=True) if is_trained])


def test_only_the_completion_and_the_end_are_trained():
    [(ids, trained)] = encode_batch([[("ab", False), ("cd", True)]], PLAIN)
    assert PLAIN.decode(ids) == "abcd</s>"
    assert trained == [False, False, True, True, True]


def test_the_prompts_tokens_do_not_depend_on_the_completion():
    rows = encode_batch([[("ab", False), (text, True)] for text in ("c", "dd", " e")], PLAIN)
    assert {tuple(ids[:2]) for ids, _ in rows} == {tuple(PLAIN("ab")["input_ids"])}


def test_templates_of_texts_alone_get_texts():
    """A tool call has null beside it, and texts may come in parts; what a template takes as it is stays so."""
    strict = byte_tokenizer(chat_template=CHAT_TEMPLATE.replace("m['content']", "('' ~ m['content'].strip())"))
    odd = [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}, TURNS[1]]
    odd += [{"role": "user", "content": "call"}, {"role": "assistant", "content": None, "tool_calls": []}, *TURNS[2:]]
    even = [TURNS[0], TURNS[1], odd[2], {"role": "assistant", "content": "", "tool_calls": []}, *TURNS[2:]]
    assert chat_segments(strict, odd) == chat_segments(strict, even)


def test_a_bos_token_is_added_once_where_the_tokenizer_adds_one():
    tokenizer = byte_tokenizer(bos=True)
    rows = encode_batch([[("a", False), ("b", True)], [("<s>a", False), ("b", True)]], tokenizer)
    assert [tokenizer.decode(ids) for ids, _ in rows] == ["<s>ab</s>", "<s>ab</s>"]
    assert rows[0][1] == [False, False, True, True]


@pytest.mark.parametrize("kind", ["every text", "first text", "lines are joined"])
def test_where_a_tokenizer_puts_a_space_before_a_text_rows_are_encoded_as_a_whole(kind):
    """As those of Llama 2, Mistral and Phi-3 do, and those that were trained as for translation, such as XGLM's."""
    tokenizer = spacing_tokenizer(kind)
    for prompt, answer in [("ab: ", "cd"), ("ab:", " cd"), ("ab:", "cd"), ("<turn>ab\n", "cd")]:
        [(ids, trained)] = encode_batch([[(prompt, False), (answer, True)]], tokenizer)
        assert ids[:-1] == tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
        assert trained_text(tokenizer, ids, trained).strip() == "cd</s>"
        assert encode_batch([], tokenizer) == []
        assert not trained[0] and tokenizer.convert_ids_to_tokens(ids).count("▁") <= prompt.count(" ") + 2


def test_a_row_without_trained_text_stays_without():
    rows = encode_batch([[("ab", False), ("", True)], [("ab", False)], []], PLAIN)
    assert [any(trained) for _, trained in rows] == [False, False, False]


def test_chat_templates_train_the_assistant_alone():
    segments = chat_segments(CHAT, TURNS)
    assert "".join(text for text, _ in segments) == CHAT.apply_chat_template(TURNS, tokenize=False)
    assert [text for text, trained in segments if trained] == ["yo</s>", "so long</s>"]
    [(ids, trained)] = encode_batch([segments], CHAT)
    assert trained_text(CHAT, ids, trained) == "yo</s>so long</s>", "the template's own end is not doubled"


def test_turns_before_the_first_trained_one_are_context():
    segments = chat_segments(CHAT, TURNS, first_trained=2)
    assert [text for text, trained in segments if trained] == ["so long</s>"]


def test_what_follows_the_last_answer_is_left_out():
    segments = chat_segments(CHAT, TURNS[:3])
    assert "".join(text for text, _ in segments) == CHAT.apply_chat_template(TURNS[:2], tokenize=False)


def test_a_template_that_rewrites_earlier_turns_trains_only_what_it_keeps():
    forgetful = byte_tokenizer(
        chat_template="{% for m in messages %}<turn>{{ m['role'] }}: "
        "{{ m['content'] if loop.last or m['role'] == 'user' else '...' }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<turn>assistant: {% endif %}"
    )
    segments = chat_segments(forgetful, TURNS)
    assert "".join(text for text, _ in segments) == forgetful.apply_chat_template(TURNS, tokenize=False)
    assert [text for text, trained in segments if trained] == ["so long</s>"]


def test_a_generation_prompt_that_opens_a_thought_hides_no_answer():
    """As of DeepSeek-R1's distilled models: finished turns are written without the thought."""
    thinking = byte_tokenizer(
        chat_template=CHAT_TEMPLATE.replace("assistant: {% endif", "assistant: <think>\\n{% endif")
    )
    segments = chat_segments(thinking, TURNS)
    assert "".join(text for text, _ in segments) == thinking.apply_chat_template(TURNS, tokenize=False)
    assert [text for text, trained in segments if trained] == [
        text for text, trained in chat_segments(CHAT, TURNS) if trained
    ]


def test_an_answer_without_words_is_not_trained_in_a_template_either():
    for empty in ("", "  ", None):
        turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": empty}]
        assert not any(trained for _, trained in chat_segments(CHAT, turns))
    calling = byte_tokenizer(chat_template=CHAT_TEMPLATE.replace("</s>", "{{ m.get('tool_calls', '') }}</s>"))
    turns[1]["tool_calls"] = [{"function": {"name": "f"}}]
    assert any(trained for _, trained in chat_segments(calling, turns))


def test_without_a_template_turns_are_named_and_ended():
    segments = chat_segments(PLAIN, TURNS)
    assert "".join(text for text, _ in segments) == (
        "User: hi\n\nAssistant: yo</s>\n\nUser: bye\n\nAssistant: so long</s>"
    )
    assert [text for text, trained in segments if trained] == [" yo</s>", " so long</s>"]


@pytest.mark.parametrize("tools", [None, [{"name": "f"}]])
def test_without_a_template_tools_are_refused(tools):
    turns = [TURNS[0], {"role": "assistant", "content": "", "tool_calls": None if tools else [{"name": "f"}]}, *TURNS]
    with pytest.raises(ValueError, match="plain form of turns has no tools"):
        chat_segments(PLAIN, turns, tools=tools)


def test_rows_that_differ_in_their_calls_are_no_duplicates():
    rows = [[TURNS[0], {"role": "function_call", "content": f'{{"name": "{name}"}}'}] for name in "fg"]
    one, other = (chat_segments(None, row) for row in rows)
    assert one != other and one[:2] == other[:2]


def test_encoder_decoder_rows_are_source_then_target():
    rows = [[("ab", False), ("c", True)], [("a", False), ("b", True), ("c", False), ("d", True)], [("ab", False)]]
    (ids, trained), (turns, answer), (_, empty) = encode_pairs(rows, PLAIN)
    assert PLAIN.decode(ids) == "abc" and trained == [False, False, True]
    assert PLAIN.decode(turns) == "abcd" and answer == [False, False, False, True], "earlier answers are context"
    assert not any(empty)


def test_the_target_of_a_plain_turn_has_one_end():
    rows = [chat_segments(PLAIN, TURNS[:2])]
    ends = byte_tokenizer(ends=True)
    [(ids, trained)] = encode_pairs(rows, ends)
    assert trained_text(ends, ids, trained) == " yo</s>"


def test_classified_texts_have_the_tokenizers_own_special_tokens():
    tokenizer = byte_tokenizer(bos=True)
    [(ids, trained)] = encode_texts([[("ab", False)]], tokenizer)
    assert tokenizer.decode(ids) == "<s>ab" and not any(trained)


def test_texts_longer_than_the_models_limit_are_no_news(capfd, caplog):
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 4
    segments = [("a long prompt", False), ("a long answer", True)]
    for encode in (encode_batch, encode_pairs, encode_texts):
        [(ids, _)] = encode([segments], tokenizer)
        assert len(ids) > 20
    assert caplog.text == "" and capfd.readouterr().err == "", "lengths are counted and reported by the profile"


row_masks = st.lists(st.booleans(), max_size=12)


@given(row_masks, st.integers(1, 12))
def test_a_cut_row_keeps_its_beginning_and_a_label_that_can_be_predicted(trained, limit):
    ids = list(range(len(trained)))
    cut = cut_to_length(ids, trained, limit, PLAIN)
    if cut is None:
        assert not any(trained[1:limit])
    else:
        assert cut == (ids[:limit], trained[:limit]) and any(cut[1][1:])


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
def test_source_and_target_are_cut_each_to_the_limit(source, target, limit):
    cut = cut_pair_to_length(list(range(source + target)), [False] * source + [True] * target, limit, PLAIN)
    if source == 0 or target == 0:
        assert cut is None
    else:
        assert cut[1] == [False] * min(source, limit) + [True] * min(target, limit)
        assert cut[0][-1] == source + min(target, limit) - 1


@pytest.mark.parametrize(("tokenizer", "kept"), [(PLAIN, "a film "), (byte_tokenizer(ends=True), "a film</s>")])
def test_a_text_is_cut_as_the_tokenizer_itself_cuts_it(tokenizer, kept):
    """A decoder's head reads the last token: one from the end of the text would not be there at inference."""
    [(ids, trained)] = encode_texts([[("a film is!", False)]], tokenizer)
    cut, _ = cut_text_to_length(ids, trained, 7, tokenizer)
    assert cut == tokenizer("a film is!", truncation=True, max_length=7)["input_ids"]
    assert tokenizer.decode(cut) == kept
    source = cut_pair_to_length([*ids, 5], [False] * len(ids) + [True], 7, tokenizer)
    assert source == ([*cut, 5], [False] * 7 + [True])


def test_templates_that_write_the_date_write_the_same_one_every_day():
    day = "{{ strftime_now('%d %b %Y') }}|{{ strftime_now( \"%Y\" ) }}|{{ strftime_now is defined }} "
    dated = byte_tokenizer(chat_template=day + CHAT_TEMPLATE)
    assert chat_segments(dated, TURNS[:2])[0][0].startswith("26 Jul 2024|2024|True <turn>user")
    of_a_variable = CHAT_TEMPLATE + "{% set form = '%Y' %}{{ strftime_now(form) }}"
    assert chats.on_one_day(of_a_variable) == of_a_variable


@pytest.mark.parametrize("tokenizer", [PLAIN, CHAT, None])
def test_a_turn_that_opens_a_conversation_is_not_trained(tokenizer):
    """Nothing asks for it, and all rows that begin so would share the empty prompt."""
    segments = chat_segments(tokenizer, TURNS[1:])
    assert [text.strip(" \n").removesuffix("</s>") for text, trained in segments if trained] == ["so long"]
    assert "yo" in segments[0][0] + segments[1][0]


@given(st.lists(st.lists(st.tuples(st.text(max_size=6), st.booleans()), max_size=4), max_size=4))
def test_ids_spell_the_text_and_masks_follow_the_segments(batch):
    rows = encode_batch(batch, PLAIN)
    assert len(rows) == len(batch)
    for segments, (ids, trained) in zip(batch, rows, strict=True):
        assert len(ids) == len(trained)
        assert PLAIN.decode(ids).removesuffix("</s>") == "".join(text for text, _ in segments).removesuffix("</s>")


@pytest.mark.parametrize(
    "name", ["chat_segments", "encode_batch", "encode_pairs", "encode_texts", "cut_to_length", "cut_pair_to_length"]
)
def test_the_functions_run_from_their_source_alone(name):
    """They are written verbatim into the generated training script, with those that they call."""
    alone: dict = {}
    called = {
        "chat_segments": OF_CHATS,
        "encode_batch": (tokenise.encode_segments,),
        "cut_pair_to_length": (tokenise.cut_text_to_length, tokenise.closing_tokens),
    }.get(name, ())
    original = getattr(chats if name == "chat_segments" else tokenise, name)
    for function in (original, *called):
        exec(inspect.getsource(function), alone)
    arguments = {
        "chat_segments": (CHAT, TURNS),
        "encode_batch": ([[("ab", False), ("cd", True)]], PLAIN),
        "encode_pairs": ([[("ab", False), ("cd", True)]], PLAIN),
        "encode_texts": ([[("ab", False)]], PLAIN),
    }.get(name, ([1, 2, 3], [False, True, True], 2, PLAIN))
    assert alone[name](*arguments) == original(*arguments)
