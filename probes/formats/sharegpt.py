"""ShareGPT: conversations of {from, value}; the turns of gpt and function_call are trained."""

from __future__ import annotations

NAME = "sharegpt"
SUMMARY = "conversations: a list of {from, value}, from in human, gpt, system, observation, function_call"
PRECEDENCE = 50
CLASSIFICATION = False
EXAMPLE = {
    "conversations": [
        {"from": "human", "value": "Spell this word backward: sun"},
        {"from": "gpt", "value": "nus"},
    ]
}


def matches(row):
    """True for a list of known speakers with string values under `conversations`."""
    turns = row.get("conversations")
    return (
        isinstance(turns, list)
        and len(turns) > 0
        and all(
            isinstance(turn, dict)
            and turn.get("from") in ("human", "gpt", "system", "observation", "function_call")
            and isinstance(turn.get("value"), str)
            for turn in turns
        )
        and isinstance(row.get("system"), str | None)
    )


def to_segments(row, chat):
    """The conversation through the chat template. `function_call`, JSON of a tool's name and arguments, is a turn of
    the assistant that calls it, `observation` the tool's answer."""
    roles = {
        "human": "user",
        "gpt": "assistant",
        "system": "system",
        "observation": "tool",
        "function_call": "function_call",
    }
    messages = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    messages += [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    tools = row.get("tools")
    return chat(messages, tools=tools if isinstance(tools, list | str) else None)
