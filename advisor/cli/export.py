"""`advisor export`: the recommended run for a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from advisor.cli._place import place
from advisor.cli._several import several


def command(
    folder: Annotated[Path, typer.Argument(help="The --out folder of an earlier `advisor recommend`.")],
    to: Annotated[
        list[str] | None, typer.Option(callback=several, help="Targets, a,b or repeated; without it they are listed.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(callback=place, help="Where to write. Default: the folder itself.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the written paths as JSON.")] = False,
) -> None:
    """Write the recommendation as a config or script for a trainer."""
    from json import dumps

    from advisor.exporters import all_exporters, get_exporter
    from advisor.save import load

    if not to:
        exporters = sorted(all_exporters().values(), key=lambda e: e.name)
        width = max(len(e.name) for e in exporters)
        lines = [f"{e.name:<{width}}  {e.title}" for e in exporters]
        print(dumps({e.name: e.title for e in exporters}, indent=2) if json else "\n".join(lines))
        return
    chosen = [get_exporter(name) for name in to]
    result = load(folder)
    written: list[str] = []
    try:
        for exporter in chosen:
            written += map(str, exporter.export(out or folder, result))
    finally:  # a target that cannot say it may come after others that are written
        if written:
            print(dumps(written, indent=2) if json else "\n".join(written))
