"""Prompt and completion, each a string or a list of chat messages; the completion alone is trained."""

from __future__ import annotations

NAME = "prompt-completion"
SUMMARY = "prompt, completion: two strings, or two lists of {role, content}; optional tools; no preferences"
PRECEDENCE = 60
CLASSIFICATION = False
EXAMPLE = {"prompt": "State the result: 42 - 25 =", "completion": " 17"}


def matches(row):
    """True for two strings or two lists of messages under `prompt` and `completion`; not where a label says whether
    the completion is wanted."""
    pair = (row.get("prompt"), row.get("completion"))
    if isinstance(row.get("label"), bool):
        return False
    if all(isinstance(part, str) for part in pair):
        return True
    return all(
        isinstance(part, list)
        and len(part) > 0
        and all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in part)
        and all("content" in m or m.get("tool_calls") or m.get("function_call") for m in part)
        for part in pair
    )


def to_segments(row, chat):
    """The prompt untrained, the completion trained. Strings are taken as they are, without a chat template."""
    if isinstance(row["prompt"], str):
        return [(row["prompt"], False), (row["completion"], True)]
    return chat(row["prompt"] + row["completion"], tools=row.get("tools"), first_trained=len(row["prompt"]))
