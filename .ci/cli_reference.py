"""Writes the reference of the command line, advisor/cli/README.md, from the commands themselves.

python .ci/cli_reference.py
"""

from __future__ import annotations

from pathlib import Path

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
    return HEAD + "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
