"""Conversations of {role, content} messages; the assistant's turns are trained."""

from __future__ import annotations

NAME = "messages"
SUMMARY = "messages: a list of {role, content}; optional tools, system"
PRECEDENCE = 50
CLASSIFICATION = False
EXAMPLE = {
    "messages": [
        {"role": "user", "content": "Spell this word backward: sun"},
        {"role": "assistant", "content": "nus"},
    ]
}


def matches(row):
    """True for a list of messages under `messages`; beside tool calls there need be no content."""
    messages = row.get("messages")
    return (
        isinstance(messages, list)
        and len(messages) > 0
        and all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages)
        and all("content" in m or m.get("tool_calls") or m.get("function_call") for m in messages)
        and isinstance(row.get("system"), str | None)
    )


def to_segments(row, chat):
    """The conversation through the chat template, every assistant turn trained. `system` beside the messages is their
    first one, as Anthropic writes it."""
    messages = row["messages"]
    if row.get("system") and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": row["system"]}, *messages]
    return chat(messages, tools=row.get("tools"))
