"""From segments of text to token ids and label masks.

Every function here is self-contained (imports inside, no module globals): the generated training script carries their
source verbatim, so that the final run tokenises exactly as the probes did.
"""

from __future__ import annotations


def chat_segments(tokenizer, messages, tools=None, first_trained=0):
    """A conversation as [(text, trained), ...]: assistant turns from index `first_trained` on are trained.

    The text is the tokenizer's chat template applied to the whole conversation. A turn's part of it is what the
    template adds after the generation prompt, found by rendering the messages before the turn; where a template
    rewrites earlier turns (some drop past reasoning), such a turn is left untrained. What follows the last trained
    turn is left out: it could teach nothing. Raises the template's own error where it refuses the conversation, e.g.
    roles that do not alternate.

    Without a chat template, a plain form is used: "User: ...", "Assistant: ..." with a blank line between turns and
    the end-of-sequence token after every assistant turn.
    """
    if not getattr(tokenizer, "chat_template", None):
        segments = []
        for index, message in enumerate(messages):
            content = message["content"] or ""
            if not isinstance(content, str):
                content = "".join(part.get("text", "") for part in content)
            if message["role"] == "assistant":
                answer = " " + content.strip() + (getattr(tokenizer, "eos_token", None) or "")
                segments += [("Assistant:", False), (answer, index >= first_trained and bool(content.strip()))]
                segments += [("\n\n", False)] if index + 1 < len(messages) else []
            else:
                segments.append((f"{message['role'].capitalize()}: {content.strip()}\n\n", False))
        return segments

    def plain(message):
        content = message["content"]
        if isinstance(content, list) and all("text" in part for part in content):
            content = "".join(part["text"] for part in content)
        return {**message, "content": "" if content is None else content}

    def render(part, generation_prompt):
        return tokenizer.apply_chat_template(part, tools=tools, tokenize=False, add_generation_prompt=generation_prompt)

    try:
        whole = render(messages, False)
    except Exception:  # many templates know texts alone: neither null beside a tool call, nor lists of parts
        messages = [plain(message) for message in messages]
        whole = render(messages, False)
    segments, done = [], 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or index < first_trained or index == 0:
            continue
        content = message.get("content")
        has_words = content.strip() if isinstance(content, str) else content
        if not has_words and not message.get("tool_calls"):
            continue  # there would be nothing to learn from but the end
        before = render(messages[:index], True)
        after = whole if index + 1 == len(messages) else render(messages[: index + 1], False)
        if not whole.startswith(before):  # it may open a thought that finished turns are written without
            differ = (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
            shared = before[: next(differ, len(after))]
            before = shared if len(shared) > len(render(messages[:index], False)) else before
        if whole.startswith(before) and whole.startswith(after) and done <= len(before) < len(after):
            segments += [(whole[done : len(before)], False), (whole[len(before) : len(after)], True)]
            done = len(after)
    return segments or [(whole, False)]


def encode_batch(batch, tokenizer):
    """Token ids and label masks of a batch of segment lists: [(ids, trained), ...], two lists of equal length a row.

    Segments are encoded one by one, so that the prompt's tokens are those that a generating model would be given.
    A beginning-of-sequence token is added where the tokenizer adds one to plain text and the text has none; an
    end-of-sequence token, trained, unless the last trained segment holds one. A row without trained tokens
    gets none: there would be nothing to learn from but the end.
    """
    texts = [text for segments in batch for text, _ in segments]
    pieces = iter(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else [])
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    adds_bos = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    rows = []
    for segments in batch:
        ids, trained, ends = [], [], False
        for _, is_trained in segments:
            piece = next(pieces)
            ids += piece
            trained += [is_trained] * len(piece)
            ends = eos in piece if is_trained else ends
        if adds_bos and ids[:1] != [bos]:
            ids, trained = [bos, *ids], [False, *trained]
        if eos is not None and any(trained) and not ends:
            ids, trained = [*ids, eos], [*trained, True]
        rows.append((ids, trained))
    return rows


def encode_pairs(batch, tokenizer):
    """The same for an encoder-decoder: the last trained segment is the target, all before it the source. A row's ids
    are source ids then target ids, each with the special tokens of the tokenizer; the mask is True on the target."""
    last = [max((i for i, (_, trained) in enumerate(segments) if trained), default=None) for segments in batch]
    sources = ["".join(text for text, _ in segments[:end]) for segments, end in zip(batch, last, strict=True)]
    targets = ["" if end is None else segments[end][0] for segments, end in zip(batch, last, strict=True)]
    source_ids = tokenizer(sources, verbose=False)["input_ids"] if batch else []
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
