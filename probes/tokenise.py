"""From segments of text to token ids and label masks.

Every function here does its own imports and uses no module globals but other functions of this file: the generated
training script carries their source verbatim, so that the final run tokenises exactly as the probes did.
"""

from __future__ import annotations


def chat_segments(tokenizer, messages, tools=None, first_trained=0):
    """A conversation as [(text, trained), ...]: assistant turns from index `first_trained` on are trained, but for
    those that say nothing and those with a weight of 0.

    The text is the tokenizer's chat template applied to the whole conversation. A turn's part of it is what the
    template adds after the generation prompt, found by rendering the messages before the turn; where a template
    rewrites an earlier turn (some drop past reasoning), that turn is left untrained. What follows the last trained
    turn is left out: it could teach nothing. Raises the template's own error where it refuses the conversation, e.g.
    roles that do not alternate, and ValueError where it leaves an answer or a tool call out.

    Without a chat template, a plain form is used: "User: ...", "Assistant: ..." with a blank line between turns and
    the end-of-sequence token after every assistant turn.
    """
    import json

    tools = (json.loads(tools) if tools.strip() else None) if isinstance(tools, str) else tools
    messages = chat_messages(messages)
    trained = [
        index
        for index, m in enumerate(messages)
        if m["role"] == "assistant" and index >= first_trained and m.get("weight") != 0
        if m["content"].strip() or m.get("tool_calls")
    ]
    if not getattr(tokenizer, "chat_template", None):
        if tokenizer is not None and any(messages[index].get("tool_calls") for index in trained):
            raise ValueError("there is none, and the plain form of turns has no tool calls")
        return plain_turns(messages, trained, getattr(tokenizer, "eos_token", None) or "")

    def render(part, generation_prompt=False):
        return tokenizer.apply_chat_template(part, tools=tools, tokenize=False, add_generation_prompt=generation_prompt)

    texts = [m["content"].strip() for m in messages]
    messages, whole = render_whole(render, messages, trained)
    segments, done = [], 0

    def marks():
        return [*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()]

    for index in filter(None, trained):
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
            if any(call.get("function", call)["name"] not in part for call in messages[index].get("tool_calls") or []):
                raise ValueError("it does not write tool calls")
            segments += [(whole[done : len(before)], False), (part, True)]
            done = end
    return segments or [(whole, False)]


def chat_messages(messages):
    """Messages as chat templates know them: content as a text, arguments of tool calls as objects, and without the
    nulls that tables fill in. Raises ValueError where a message holds more than text."""
    import json

    def without_nulls(value):
        if isinstance(value, dict):
            return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
        return [without_nulls(inner) for inner in value] if isinstance(value, list) else value

    def called(call):
        function = call.get("function", {})
        try:
            arguments = json.loads(function["arguments"])
        except (KeyError, TypeError, ValueError):  # none, an object already, or no JSON
            return call
        return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call

    known = []
    for message in map(without_nulls, messages):
        content = message.get("content", "")
        if isinstance(content, list):
            parts = [part if isinstance(part, str) else part.get("text") for part in content]
            if not all(isinstance(part, str) for part in parts):
                raise ValueError("a message holds more than text")
            content = "".join(parts)
        calls = [called(call) for call in message.get("tool_calls") or []]
        known.append({**message, "content": content, **({"tool_calls": calls} if calls else {})})
    return known


def plain_turns(messages, trained, eos_token):
    """The segments of a conversation where the model has no chat template."""
    segments = []
    for index, message in enumerate(messages):
        content = message["content"].strip()
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


OF_CHATS = (chat_messages, plain_turns, render_whole, open_thought, turn_end, shared_length)  # what chat_segments calls


def encode_batch(batch, tokenizer):
    """Token ids and label masks of a batch of segment lists: [(ids, trained), ...], two lists of equal length a row.

    A beginning-of-sequence token is added where the tokenizer adds one to plain text and the text has none; an
    end-of-sequence token, trained, unless the last trained segment holds one. A row without trained tokens
    gets none: there would be nothing to learn from but the end.
    """
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    adds_bos = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    rows = []
    for segments, pieces in zip(batch, encode_segments(batch, tokenizer), strict=True):
        ids, trained, ends = [], [], False
        for (_, is_trained), piece in zip(segments, pieces, strict=True):
            ids += piece
            trained += [is_trained] * len(piece)
            ends = eos in piece if is_trained else ends
        if adds_bos and ids[:1] != [bos]:
            ids, trained = [bos, *ids], [False, *trained]
        if eos is not None and any(trained) and not ends:
            ids, trained = [*ids, eos], [*trained, True]
        rows.append((ids, trained))
    return rows


def encode_segments(batch, tokenizer):
    """The token ids of each segment of each row.

    Segments are encoded one by one, so that the prompt's tokens are those that a generating model would be given.
    Tokenizers in SentencePiece's manner put a space before every text, which in the middle of a row would be wrong:
    with these a row is encoded as a whole, and a token belongs to the segment that it ends in.
    """
    from bisect import bisect_left
    from itertools import accumulate

    def encode(texts, **options):
        return tokenizer(texts, add_special_tokens=False, verbose=False, **options) if texts else {"input_ids": []}

    if not batch:
        return []
    alone, within = encode(["a", "\na"])["input_ids"]
    if within[-len(alone) :] == alone or not tokenizer.is_fast:
        pieces = iter(encode([text for segments in batch for text, _ in segments])["input_ids"])
        return [[next(pieces) for _ in segments] for segments in batch]
    whole = encode(["".join(text for text, _ in segments) for segments in batch], return_offsets_mapping=True)
    rows = [[[] for _ in segments] for segments in batch]
    for row, segments, ids, offsets in zip(rows, batch, whole["input_ids"], whole["offset_mapping"], strict=True):
        ends = list(accumulate(len(text) for text, _ in segments))
        for token, (_, end) in zip(ids, offsets, strict=True):
            row[min(bisect_left(ends, end), len(ends) - 1)].append(token)
    return rows


def encode_pairs(batch, tokenizer):
    """The same for an encoder-decoder: the last trained segment is the target, all before it the source. A row's ids
    are source ids then target ids, each with the special tokens of the tokenizer; the mask is True on the target."""
    last = [max((i for i, (_, trained) in enumerate(segments) if trained), default=None) for segments in batch]
    sources = ["".join(text for text, _ in segments[:end]) for segments, end in zip(batch, last, strict=True)]
    targets = ["" if end is None else segments[end][0] for segments, end in zip(batch, last, strict=True)]
    source_ids = tokenizer(sources, verbose=False)["input_ids"] if batch else []
    targets = [target.removesuffix(tokenizer.eos_token or "") for target in targets]  # of a plain turn; one is added
    target_ids = tokenizer(text_target=targets, verbose=False)["input_ids"] if batch else []
    return [
        (source + target, [False] * len(source) + [True] * len(target))
        if text.strip()
        else (source, [False] * len(source))
        for source, target, text in zip(source_ids, target_ids, targets, strict=True)
    ]


def encode_texts(batch, tokenizer):
    """The same for classification: the joined text with the tokenizer's special tokens, nothing trained."""
    texts = ["".join(text for text, _ in segments) for segments in batch]
    return [(ids, [False] * len(ids)) for ids in (tokenizer(texts, verbose=False)["input_ids"] if batch else [])]


def cut_to_length(ids, trained, max_length_tokens):
    """A row cut at its end to `max_length_tokens`, or None where no trained token that can be predicted is left
    (the first token has nothing before it)."""
    ids, trained = ids[:max_length_tokens], trained[:max_length_tokens]
    return (ids, trained) if any(trained[1:]) else None


def cut_pair_to_length(ids, trained, max_length_tokens):
    """The same for the row of an encoder-decoder: source and target are each cut to `max_length_tokens`."""
    border = len(trained) - sum(trained)
    source, target = ids[:border][:max_length_tokens], ids[border:][:max_length_tokens]
    return (source + target, [False] * len(source) + [True] * len(target)) if source and target else None


def cut_text_to_length(ids, trained, max_length_tokens):
    """The same for classification, where any token will do. The last token (a separator) is kept, as the tokenizer's
    own truncation does."""
    if len(ids) > max_length_tokens:
        ids = ids[: max_length_tokens - 1] + ids[-1:]
    return (ids, [False] * len(ids)) if ids else None
