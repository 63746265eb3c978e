"""Conversations of {role, content} messages; the assistant's turns are trained."""

from __future__ import annotations

NAME = "messages"
SUMMARY = "messages: a list of {role, content}; optional tools"
PRECEDENCE = 50
CLASSIFICATION = False
EXAMPLE = {
    "messages": [
        {"role": "user", "content": "Spell this word backward: sun"},
        {"role": "assistant", "content": "nus"},
    ]
}


def matches(row):
    """True for a list of messages under `messages`."""
    messages = row.get("messages")
    return (
        isinstance(messages, list)
        and len(messages) > 0
        and all(isinstance(m, dict) and isinstance(m.get("role"), str) and "content" in m for m in messages)
    )


def to_segments(row, chat):
    """The conversation through the chat template, every assistant turn trained."""
    return chat(row["messages"], tools=row.get("tools"))
