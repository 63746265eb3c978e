"""Text with a class label, for sequence classification."""

from __future__ import annotations

NAME = "text-label"
SUMMARY = "text (or sentence) and label (or label_text), a whole number or non-empty string: classification; no pairs"
PRECEDENCE = 20
CLASSIFICATION = True
EXAMPLE = {"text": "What day of the week was October 28, 2022?", "label": "calendar"}


def matches(row):
    """True for a string under `text` or `sentence` and a string, whole number (also as 1.0, which tables make of 1) or
    truth value as the label; an empty one (of a CSV) is none. Not for pairs of texts, of which one half tells nothing.
    """
    if any(isinstance(row.get(key), str) for key in ("text_pair", "text2", "sentence2", "question", "hypothesis")):
        return False
    text = row["text"] if "text" in row else row.get("sentence")
    label = row["label_text"] if "label_text" in row else row.get("label")
    if isinstance(label, str):
        return isinstance(text, str) and bool(label.strip())
    return isinstance(text, str) and (isinstance(label, int) or (isinstance(label, float) and label.is_integer()))


def to_segments(row, chat):
    """The text, untrained: the label is learned, not the words."""
    return [(row["text"] if "text" in row else row["sentence"], False)]


def label_of(row):
    """`label_text` where there is one (it names the class), else `label`; without blanks around it."""
    label = row["label_text"] if "label_text" in row else row["label"]
    return label.strip() if isinstance(label, str) else int(label)
