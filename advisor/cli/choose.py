"""`advisor choose`: another candidate in the place of the recommended one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from advisor.cli._place import place


def command(
    folder: Annotated[Path, typer.Argument(help="The --out folder of an earlier `advisor recommend`.")],
    method: Annotated[str, typer.Argument(help="What to take instead, e.g. lora; any method that was raced.")],
    rate: Annotated[float | None, typer.Option(help="Its learning rate. Default: its best in the race.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=place, help="Where to write. Default: a folder beside, FOLDER-METHOD.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON on stdout.")] = False,
) -> None:
    """Take another candidate of the race than the recommended one: its config, script and report."""
    from advisor.choice import choose_in
    from advisor.save import load

    target = choose_in(folder, method, rate, out)
    result = load(target)
    if json:
        print(result.model_dump_json(indent=2))
        return
    from rich.console import Console

    from advisor.report.terminal import print_summary

    print_summary(result, Console(), target)
