"""Plain text, trained from beginning to end."""

from __future__ import annotations

NAME = "text"
SUMMARY = "text: a string, trained as a whole"
PRECEDENCE = 10
CLASSIFICATION = False
EXAMPLE = {"text": "The sun rises in the east."}


def matches(row):
    """True for a string under `text`."""
    return isinstance(row.get("text"), str)


def to_segments(row, chat):
    """The whole text, trained."""
    return [(row["text"], True)]
