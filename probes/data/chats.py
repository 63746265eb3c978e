"""From conversations to segments of text, by the model's chat template.

Every function here does its own imports and uses no module globals but other functions of this file: the generated
training script carries their source verbatim, so that the final run sees what the probes did.
"""

from __future__ import annotations


def chat_segments(tokenizer, messages, tools=None, first_trained=0):
    """A conversation as [(text, trained), ...]: assistant turns from index `first_trained` on are trained, but for
    those that say nothing, those with a weight of 0 and one that opens the conversation: nothing asks for it.

    The text is the tokenizer's chat template applied to the whole conversation. A turn's part of it is what the
    template adds after the generation prompt, found by rendering the messages before the turn; where a template
    rewrites an earlier turn (some drop past reasoning), that turn is left untrained. What follows the last trained
    turn is left out: it could teach nothing. Raises the template's own error where it refuses the conversation, e.g.
    roles that do not alternate, and ValueError where it leaves an answer, a tool or a call of one out.

    Without a chat template, a plain form is used: "User: ...", "Assistant: ..." with a blank line between turns and
    the end-of-sequence token after every assistant turn.
    """
    tools, messages = chat_tools(tools), chat_messages(messages)
    trained = [
        index
        for index, m in enumerate(messages)
        if m["role"] == "assistant" and index >= max(1, first_trained) and m.get("weight") != 0
        if m["content"].strip() or m.get("tool_calls")
    ]
    if not getattr(tokenizer, "chat_template", None):
        if tokenizer is not None and (tools or any(m.get("tool_calls") for m in messages)):
            raise ValueError("there is none, and the plain form of turns has no tools")
        return plain_turns(messages, trained, getattr(tokenizer, "eos_token", None) or "")

    def render(part, generation_prompt=False, tools=tools):
        template = on_one_day(tokenizer.get_chat_template(tools=tools))
        options = {"chat_template": template, "tokenize": False, "add_generation_prompt": generation_prompt}
        return tokenizer.apply_chat_template(part, tools=tools, **options)

    texts = [m["content"].strip() for m in messages]
    messages, whole = render_whole(render, messages, trained)
    check_all_is_told(render, messages, texts, whole, tools)
    segments, done = [], 0

    def marks():
        return [*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()]

    for index in trained:
        before, text = render(messages[:index], True), texts[index]
        if not whole.startswith(before):  # it may open a thought that finished turns are written without
            thought = open_thought(before, text, whole)
            if thought is not None:
                is_last = index + 1 == len(messages)
                segments += [(before[done:], False), (thought, True)] if is_last else []
                continue
            shared = shared_length(before, whole, marks)
            before = before[:shared] if shared > len(render(messages[:index])) else before
        if not whole.startswith(before) or len(before) < done:
            continue
        end = turn_end(whole, len(before), render(messages[: index + 1])[len(before) :], text, marks)
        if end is not None:
            part = whole[len(before) : end]
            if text.rpartition("</think>")[2].strip() not in part:
                raise ValueError("it leaves answers out")
            if any(call["function"]["name"] not in part for call in messages[index].get("tool_calls") or []):
                raise ValueError("it does not write tool calls")
            segments += [(whole[done : len(before)], False), (part, True)]
            done = end
    return segments or [(whole, False)]


def on_one_day(template):
    """The chat template with one date in the place of today's, which some write (Llama 3's own where it knows none):
    rows would be others every day, a race could not go on after midnight, and the final run train on other prompts."""
    from datetime import datetime

    day, call = datetime(2024, 7, 26), "strftime_now("
    done, *others = template.split(call)
    for other in others:
        form, _, rest = other.partition(")")
        is_literal = form.strip()[:1] in ("'", '"')
        done += repr(day.strftime(form.strip()[1:-1])) + rest if is_literal else call + other
    return done


def chat_tools(tools):
    """Tools as chat templates know them: a list in OpenAI's form, made of that, of functions alone, or of JSON of them.
    None where there are none, for many templates tell of tools where there is a list, though an empty one."""
    import json

    def in_full(tool):
        return {"type": "function", "function": tool} if isinstance(tool, dict) and "function" not in tool else tool

    tools = (json.loads(tools) if tools.strip() else None) if isinstance(tools, str) else tools
    return [*map(in_full, [tools] if isinstance(tools, dict) else tools or [])] or None


def chat_messages(messages):
    """Messages as chat templates know them: content as a text, calls of tools under `tool_calls` with objects as their
    arguments, and without the nulls that tables fill in. Calls may come as JSON, under `function_call` as OpenAI had
    them first, or as turns of the role function_call; such a turn that is no JSON of a call is an answer as others are.
    Raises ValueError where a message holds more than text, or a call has no name."""
    import json
    from contextlib import suppress

    def without_nulls(value):
        if isinstance(value, dict):
            return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
        return [without_nulls(inner) for inner in value] if isinstance(value, list) else value

    def called(call):
        call = call if "function" in call else {"type": "function", "function": call}
        function = call["function"]
        if not isinstance(function.get("name"), str):
            raise ValueError("a tool call has no name")
        try:
            arguments = json.loads(function["arguments"])
        except (KeyError, TypeError, ValueError):  # none, an object already, or no JSON
            return call
        return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call

    def calls_in(value):
        value = json.loads(value) if isinstance(value, str) else value
        return [called(call) for call in (value if isinstance(value, list) else [value])]

    known = []
    for message in map(without_nulls, messages):
        content = message.get("content", "")
        if isinstance(content, list):
            parts = [part if isinstance(part, str) else part.get("text") for part in content]
            if not all(isinstance(part, str) for part in parts):
                raise ValueError("a message holds more than text")
            content = "".join(parts)
        role = "tool" if message["role"] == "function" else message["role"]
        calls = calls_in(message.pop("tool_calls", None) or message.pop("function_call", None) or [])
        if role == "function_call":
            role = "assistant"
            with suppress(ValueError, TypeError, AttributeError):
                calls, content = calls_in(content), ""
        known.append({**message, "role": role, "content": content, **({"tool_calls": calls} if calls else {})})
    return known


def plain_turns(messages, trained, eos_token):
    """The segments of a conversation where the model has no chat template. Calls of tools are written for hashes alone:
    rows that differ in them are no duplicates."""
    import json

    segments = []
    for index, message in enumerate(messages):
        content = " ".join([message["content"].strip(), *map(json.dumps, message.get("tool_calls") or [])]).strip()
        if message["role"] == "assistant":
            segments += [("Assistant:", False), (f" {content}{eos_token}", index in trained)]
            segments += [("\n\n", False)] if index + 1 < len(messages) else []
        else:
            segments.append((f"{message['role'].capitalize()}: {content}\n\n", False))
    return segments


def render_whole(render, messages, trained):
    """(messages, their text) in the first form that a chat template takes and writes the answers of, or at least the
    last one: some concatenate a tool call's arguments as a text, some write the parts of a content alone. Raises what
    the first form raises."""
    import json

    def with_text(call):
        function = call.get("function", {})
        if not isinstance(function.get("arguments"), dict):
            return call
        return {**call, "function": {**function, "arguments": json.dumps(function["arguments"])}}

    forms = [messages]
    if any(m.get("tool_calls") for m in messages):
        calling = [{"tool_calls": [*map(with_text, m["tool_calls"])]} if m.get("tool_calls") else {} for m in messages]
        forms.append([{**m, **calls} for m, calls in zip(messages, calling, strict=True)])
    forms.append([{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages])
    answers = [messages[index]["content"].rpartition("</think>")[2].strip() for index in trained]
    asked = [m["content"].strip() for m in messages if m["role"] == "user"]  # short answers are found anywhere
    nearly = problem = None
    for form in forms:
        try:
            whole = render(form)
        except Exception as error:
            problem = problem or error
            continue
        if not all(text in whole for text in asked):
            problem = problem or ValueError("it leaves questions out")
            continue
        if all(answer in whole for answer in answers):
            return form, whole
        nearly = nearly or ((form, whole) if answers[-1] in whole else None)
        problem = problem or ValueError("it leaves answers out")
    if nearly is None:
        raise problem
    return nearly


def check_all_is_told(render, messages, texts, whole, tools):
    """Raises ValueError where a template leaves out the tools, or a turn that is neither the user's nor the
    assistant's, in silence: it writes the same without. `texts` are those of the messages."""

    def is_whole(part, **options):
        try:
            return render(part, **options) == whole
        except Exception:  # it cannot do without
            return False

    if tools and is_whole(messages, tools=None):
        raise ValueError("it leaves the tools out")
    for index, message in enumerate(messages):
        is_unseen = message["role"] not in ("user", "assistant") and texts[index] not in whole
        if is_unseen and is_whole(messages[:index] + messages[index + 1 :]):
            raise ValueError(f"it leaves turns of the role {message['role']} out")


def open_thought(before, text, whole):
    """What the last turn adds to a generation prompt that opens a thought, where the template leaves the thoughts of
    finished turns out; None where it does not."""
    thought, closed, answer = text.partition("</think>")
    if not (closed and before.rstrip().endswith("<think>")) or thought.strip() in whole:
        return None
    ending = whole[whole.rindex(answer.strip()) + len(answer.strip()) :]
    return text.removeprefix("<think>").lstrip("\n") + ending


def turn_end(whole, start, turn, text, marks):
    """Where a turn that begins at `start` of a conversation ends in it, given its part as of the last `turn`, and its
    `text`; None where it is written differently. What may differ is what a template writes for the last turn alone:
    an empty thought before it, another end behind it."""
    rest = whole[start:]
    if rest.startswith(turn):
        return start + len(turn)
    skipped = turn.find(rest[:4])
    while skipped > 0:
        if rest.startswith(turn[skipped:]) and text in turn[skipped:]:
            return start + len(turn) - skipped
        skipped = turn.find(rest[:4], skipped + 1)
    shared, known = shared_length(turn, rest, marks), marks()
    if text not in turn[:shared] or turn[shared:].strip() not in known:
        return None
    if not turn[:shared].rstrip().endswith(tuple(known)):  # one end in the place of another
        shared += len(next((mark for mark in known if rest.startswith(mark, shared)), ""))
    return start + shared


def shared_length(one, other, marks):
    """How many characters two texts begin with in common, without the beginning of a special token of either (`marks`
    lists them: some models have thousands)."""
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    length = next(differ, min(len(one), len(other)))
    known = marks() if length < max(len(one), len(other)) else []
    longest, first = max(map(len, known), default=0), {mark[0] for mark in known}
    torn = [
        at
        for at in range(max(0, length - longest + 1), length)
        for text in (one, other)
        if text[at] in first and any(at + len(mark) > length and text.startswith(mark, at) for mark in known)
    ]
    return min(torn, default=length)


# What chat_segments calls.
OF_CHATS = (on_one_day, chat_tools, chat_messages, plain_turns, render_whole, check_all_is_told)
OF_CHATS += (open_thought, turn_end, shared_length)
