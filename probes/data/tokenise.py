"""From segments of text to token ids and label masks.

Every function here does its own imports and uses no module globals but other functions of this file: the generated
training script carries their source verbatim, so that the final run tokenises exactly as the probes did.
"""

from __future__ import annotations


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
    # Where a line break is but a space that falls away, both are the same; the token itself then shows its space.
    spaced = within[-len(alone) :] != alone or tokenizer.convert_ids_to_tokens(alone)[0].startswith("▁")
    if not spaced or not tokenizer.is_fast:
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


def closing_tokens(tokenizer):
    """How many tokens it puts behind a text, a separator or an end: its own truncation keeps them."""
    bare, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    return next((n for n in range(len(whole)) if whole[: len(whole) - n][-len(bare) :] == bare), 0)


def cut_to_length(ids, trained, max_length_tokens, tokenizer):
    """A row cut at its end to `max_length_tokens`, or None where no trained token that can be predicted is left
    (the first token has nothing before it)."""
    ids, trained = ids[:max_length_tokens], trained[:max_length_tokens]
    return (ids, trained) if any(trained[1:]) else None


def cut_pair_to_length(ids, trained, max_length_tokens, tokenizer):
    """The same for the row of an encoder-decoder: source and target are each cut to `max_length_tokens`."""
    border = len(trained) - sum(trained)
    source, _ = cut_text_to_length(ids[:border], [], max_length_tokens, tokenizer) or ([], [])
    target = ids[border:][:max_length_tokens]
    return (source + target, [False] * len(source) + [True] * len(target)) if source and target else None


def cut_text_to_length(ids, trained, max_length_tokens, tokenizer):
    """The same for classification, where any token will do."""
    if len(ids) > max_length_tokens:
        closing = min(closing_tokens(tokenizer), max_length_tokens)
        ids = ids[: max_length_tokens - closing] + ids[len(ids) - closing :]
    return (ids, [False] * len(ids)) if ids else None


# Of each task the function that makes rows into token ids, the one that cuts them to length, and what these call.
OF_TASKS = {
    "causal-lm": (encode_batch, cut_to_length, encode_segments),
    "seq2seq-lm": (encode_pairs, cut_pair_to_length, cut_text_to_length, closing_tokens),
    "sequence-classification": (encode_texts, cut_text_to_length, closing_tokens),
}
