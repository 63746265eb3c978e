"""What is trained of a conversation, by the chat templates of widely used models, as TRL keeps copies of them."""

import json
import re
from functools import partial
from importlib.resources import files

import pytest

from advisor.exporters.trl import ABOUT_CHATS
from probes.data.chats import chat_segments
from probes.formats import get_format
from tests.probes.tokenizers import byte_tokenizer

MARKS = re.compile(
    r"<[|｜][^|｜<> ']+[|｜]>|</?think>|</?tool_call>|<(?:start|end)_of_turn>|<turn\|>|<\|turn>|\[/?INST\]"
)
FAMILIES = [
    "cohere",
    "cohere2",
    "deepseek_r1_distill",
    "deepseekv3",
    "gemma",
    "gemma3",
    "glm4moe",
    "gptoss",
    "idefics3",
    "lfm2",
    "llama3",
    "llama3_1",
    "llava_next",
    "phi3",
    "phi3_5",
    "qwen2_5",
    "qwen2_5_vl",
    "qwen3",
    "qwen3_instruct_2507",
    "qwen3_vl",
    "smolvlm",
]
CALL_TOOLS = ("deepseekv3", "gptoss", "llama3_1", "qwen2_5", "qwen3", "qwen3_instruct_2507")
CALL_TOOLS_UNTOLD = ("deepseekv3",)  # what tools there are is not in its template
TURNS = [
    {"role": role, "content": f"{what} {number}"}
    for number in ("one", "two", "three")
    for role, what in (("user", "question"), ("assistant", "answer"))
]
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
CALLING = [
    TURNS[0],
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "name": "weather", "tool_call_id": "1", "content": "sunny"},
    {"role": "assistant", "content": "it is sunny"},
]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "It.", "parameters": PARAMETERS}}]


def of_family(name):
    trl = pytest.importorskip("trl")
    template = (files(trl) / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer = byte_tokenizer(chat_template=template)
    tokenizer.add_tokens(sorted(set(MARKS.findall(template))), special_tokens=True)
    return tokenizer


def trained(tokenizer, turns, **options):
    return [text for text, is_trained in chat_segments(tokenizer, turns, **options) if is_trained]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_answer_is_trained_to_its_end_and_nothing_else(name):
    tokenizer = of_family(name)
    parts = trained(tokenizer, TURNS)
    assert len(parts) == 3
    for part, turn in zip(parts, TURNS[1::2], strict=True):
        assert turn["content"] in part and "question" not in part
        after = part.partition(turn["content"])[2]
        assert re.fullmatch(r"[^<\[]*((<[^<>]+>|\[[^]]+])\s*)+", after + ("" if after.strip() else "</s>")), after
    whole = "".join(text for text, _ in chat_segments(tokenizer, TURNS))
    assert [whole.count(turn["content"]) for turn in TURNS] == [1] * 6


@pytest.mark.parametrize("name", FAMILIES)
def test_texts_in_parts_are_the_same_texts(name):
    tokenizer = of_family(name)
    parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in TURNS]
    assert chat_segments(tokenizer, parts) == chat_segments(tokenizer, TURNS)
    with pytest.raises(ValueError, match="more than text"):
        chat_segments(tokenizer, [{"role": "user", "content": [{"type": "image"}]}, TURNS[1]])


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_of_a_letter_is_trained_with_its_question(name):
    turns = [{"role": "user", "content": "Which letter is right: A or B?"}, {"role": "assistant", "content": "A"}]
    (before, _), (part, is_trained) = chat_segments(of_family(name), turns)
    assert is_trained and turns[0]["content"] in before
    assert re.fullmatch(r"(<\S+?>|final|\s)*A((<[^<>]+>|\[[^]]+])\s*)*", part)


def test_what_the_config_for_trl_says_of_its_form_of_qwen_3_is_so():
    pytest.importorskip("trl")
    from trl.chat_template_utils import get_training_chat_template

    tokenizer = of_family("qwen3")
    form = get_training_chat_template(tokenizer)
    ours = "".join(text for text, _ in chat_segments(tokenizer, TURNS))
    theirs = tokenizer.apply_chat_template(TURNS, tokenize=False, chat_template=form)
    assert (ours.count("<think>"), theirs.count("<think>")) == (1, 3)
    assert "Qwen 3 writes an empty thought before earlier answers too" in " ".join(ABOUT_CHATS)


def test_marks_of_a_large_vocabulary_are_not_read_for_each_row():
    tokenizer = of_family("gemma")
    tokenizer.get_added_vocab = None  # for templates that write every turn alike there is no need of it
    assert len(trained(tokenizer, TURNS)) == 3


@pytest.mark.parametrize("name", CALL_TOOLS)
def test_calls_are_trained_with_their_arguments_as_objects(name):
    tokenizer = of_family(name)
    tools = None if name in CALL_TOOLS_UNTOLD else TOOLS
    calls = trained(tokenizer, CALLING, tools=tools and json.dumps(tools))
    assert len(calls) == 2 and '{"city": "Paris"}' in calls[0] and "weather" in calls[0]
    with_nulls = {**CALL, "function": {"name": "weather", "arguments": {"city": "Paris", "zone": None}}}
    others = [CALLING[0], {**CALLING[1], "tool_calls": [with_nulls]}, *CALLING[2:]]
    assert trained(tokenizer, others, tools=tools) == calls, "tables fill in nulls"
    first = [CALLING[0], {"role": "assistant", "content": None, "function_call": CALL["function"]}]
    first += [{"role": "function", "name": "weather", "content": "sunny"}, CALLING[3]]
    assert trained(tokenizer, first, tools=tools and [TOOLS[0]["function"]]) == calls, "as OpenAI had them first"


@pytest.mark.parametrize("name", CALL_TOOLS)
def test_calls_of_sharegpt_are_those_of_messages(name):
    speakers = {"user": "human", "assistant": "gpt", "tool": "observation"}
    turns = [{"from": speakers[turn["role"]], "value": turn["content"]} for turn in CALLING]
    turns[1] = {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"city": "Paris"}})}
    tools = None if name in CALL_TOOLS_UNTOLD else TOOLS
    tokenizer = of_family(name)
    chat, shared = partial(chat_segments, tokenizer), {"conversations": turns, "tools": json.dumps(tools or [])}
    assert get_format("sharegpt").to_segments(shared, chat) == chat(CALLING, tools=tools)
    turns[1]["value"] = "<call> weather"
    assert any("<call> weather" in part for part in trained(tokenizer, chat_of(turns[:2]))), "no JSON: a text"


def chat_of(turns):
    return get_format("sharegpt").to_segments({"conversations": turns}, lambda messages, tools: messages)


@pytest.mark.parametrize("name", ["deepseekv3", "phi3"])
def test_tools_and_their_answers_are_told_or_the_row_is_refused(name):
    """Otherwise calls would be learned of tools that nobody has told of."""
    tokenizer = of_family(name)
    with pytest.raises(ValueError, match="leaves the tools out"):
        chat_segments(tokenizer, TURNS, tools=TOOLS)
    assert chat_segments(tokenizer, TURNS, tools=[]) == chat_segments(tokenizer, TURNS)
    if name == "phi3":
        with pytest.raises(ValueError, match="turns of the role tool out"):
            chat_segments(tokenizer, [TURNS[0], CALLING[2], TURNS[1]])


def test_instructions_that_a_template_gives_by_itself_are_not_taken_for_left_out():
    tokenizer = of_family("qwen2_5")
    default = chat_segments(tokenizer, TURNS)[0][0].partition("system\n")[2].partition("<|im_end|>")[0]
    turns = [{"role": "system", "content": default}, *TURNS]
    assert default and chat_segments(tokenizer, turns) == chat_segments(tokenizer, TURNS)


def test_tools_may_be_none_one_or_many_but_no_names():
    tokenizer = of_family("llama3_1")  # it would tell of an interpreter and of functions that follow
    assert chat_segments(tokenizer, TURNS, tools="[]") == chat_segments(tokenizer, TURNS)
    assert chat_segments(tokenizer, TURNS, tools=TOOLS[0]["function"]) == chat_segments(tokenizer, TURNS, tools=TOOLS)
    with pytest.raises(ValueError, match="Tools should"):
        chat_segments(tokenizer, TURNS, tools=["weather"])


@pytest.mark.parametrize("name", ["llama3", "phi3", "smolvlm"])
def test_rows_whose_calls_the_template_leaves_out_are_refused(name):
    with pytest.raises(ValueError, match="tool calls"):
        chat_segments(of_family(name), [*CALLING[:2], *TURNS[2:4]])


@pytest.mark.parametrize("name", ["deepseek_r1_distill", "qwen3"])
def test_thoughts_of_the_last_turn_are_trained_and_no_answer_without_its_thought(name):
    thoughts = [
        turn if turn["role"] == "user" else {**turn, "content": f"<think>\nwhy\n</think>\n\n{turn['content']}"}
        for turn in TURNS[:4]
    ]
    tokenizer = of_family(name)
    for turns in (thoughts[:2], thoughts):
        (part,) = trained(tokenizer, turns)
        answer = turns[-1]["content"].rpartition("\n")[2]
        assert re.fullmatch(rf"(<think>\n)?why\n</think>\n\n{answer}\S+\s*", part)
        before = chat_segments(tokenizer, turns)[-2][0]
        assert ("<think>" in part) != before.endswith("<think>\n"), "one of them opens the thought"


def test_an_answer_that_begins_like_a_mark_is_trained_from_its_beginning():
    turns = [TURNS[0], {"role": "assistant", "content": "<answer>42</answer>"}]
    assert trained(of_family("deepseek_r1_distill"), turns)[0].startswith("<answer>42</answer>")


def test_turns_with_a_weight_of_zero_are_context():
    turns = [TURNS[0], {**TURNS[1], "weight": 0}, *TURNS[2:]]
    assert len(trained(of_family("qwen2_5"), turns)) == 2
    assert len(trained(byte_tokenizer(), turns)) == 2
