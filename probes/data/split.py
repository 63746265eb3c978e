"""Which rows are held out: decided by a hash of the text, so that no duplicate of a held-out row is trained on.

A row is held out where its key, the seeded hash of its normalised prompt, lies at or below a threshold. The rule needs
neither the order nor the number of the rows, so a generated training script can apply it to the whole file and hold
out the very rows that the probes were measured on.
"""

from __future__ import annotations

MIN_EVAL_ROWS = 8  # a handful; fewer tell nothing
MAX_HELD_SHARE = 0.2  # of all rows, with the ones that share a prompt with a held-out row


def group_key(text: str, seed: int) -> int:
    """A 63-bit hash of the normalised text: Unicode NFKC, case folded, white space collapsed. Self-contained."""
    import hashlib
    import unicodedata

    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    digest = hashlib.blake2b(
        normal.encode("utf-8", "replace"), digest_size=8, salt=seed.to_bytes(8, "big", signed=True)
    )
    return int.from_bytes(digest.digest(), "big") >> 1


def split_texts(segments: list[tuple[str, bool]]) -> tuple[str, str]:
    """(prompt, whole text) of a row; the prompt is all up to the first trained segment, or the whole where that is
    empty. Rows with one prompt and different answers belong on one side, too."""
    whole = "".join(text for text, _ in segments)
    prompt = ""
    for text, trained in segments:
        if trained:
            break
        prompt += text
    return (prompt if prompt.strip() else whole), whole


def eval_rows_wanted(rows: int, fraction: float, max_rows: int) -> int:
    """Rows to hold out of `rows`: the fraction, at least MIN_EVAL_ROWS, at most `max_rows` and a quarter of all."""
    return max(1, min(max_rows, rows // 4, max(MIN_EVAL_ROWS, round(fraction * rows))))
