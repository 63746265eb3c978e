"""Alpaca: instruction, optional input, output; optional system and history."""

from __future__ import annotations

NAME = "alpaca"
SUMMARY = "instruction, output: two strings; optional input, system, history [[instruction, output], ...]"
PRECEDENCE = 40
CLASSIFICATION = False
EXAMPLE = {"instruction": "Spell the word backward.", "input": "sun", "output": "nus"}


def matches(row):
    """True for strings under `instruction` and `output`, and nothing but strings (or null) under `input`, `system`."""
    return (
        isinstance(row.get("instruction"), str)
        and isinstance(row.get("output"), str)
        and isinstance(row.get("input"), str | None)
        and isinstance(row.get("system"), str | None)
    )


def to_segments(row, chat):
    """A conversation through the chat template: instruction and input (a blank line between them) are the user's
    turn, the output the assistant's; earlier turns of `history` come before it and are trained too."""
    messages = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for asked, answered in row.get("history") or []:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    asked = row["instruction"] + ("\n\n" + row["input"] if row.get("input") else "")
    return chat([*messages, {"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}])
