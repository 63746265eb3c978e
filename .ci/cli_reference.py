"""Writes the reference of the command line, advisor/cli/README.md, from the commands themselves.

python .ci/cli_reference.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

from advisor.cli import build

FILE = Path(__file__).resolve().parent.parent / "advisor" / "cli" / "README.md"
HEAD = "<!-- made by `python .ci/cli_reference.py`; checked for drift in tests/test_readme.py -->\n\n"


def reference() -> str:
    """The reference as Markdown."""
    group = typer.main.get_command(build())
    context = typer.Context(group, info_name="advisor")
    text = get_docs_for_click(obj=group, ctx=context, name="advisor", title="The command line")
    lines = (line.rstrip() for line in _untruncated(text, group).strip().splitlines())
    return HEAD + "\n".join(lines) + "\n"


def _untruncated(text: str, group: Any) -> str:
    """Lists of commands with whole sentences, which Typer cuts to the width of a terminal."""
    for name, command in group.commands.items():
        sentence = (command.help or "").strip().split("\n\n")[0].replace("\n", " ")
        # The list comes before the commands, so the first line of that name is of this group.
        text = re.sub(rf"^\* `{name}`: .*\.\.\.$", f"* `{name}`: {sentence}", text, count=1, flags=re.M)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            before, heading, after = text.partition(f" `advisor {name}`\n")
            text = before + heading + _untruncated(after, command)
    return text


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
