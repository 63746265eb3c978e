"""`advisor report`: the summary and the HTML page of an earlier recommendation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli._place import place

if TYPE_CHECKING:
    from rich.console import Console

    from advisor.recommendation import Result


def command(
    folder: Annotated[Path, typer.Argument(help="The --out folder of an earlier `advisor recommend`.")],
    out: Annotated[
        Path | None, typer.Option(callback=place, help="File or folder to write to. Default: in that folder.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON; write nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write the page, print no summary.")] = False,
) -> None:
    """Show a recommendation again and write it as one HTML page."""
    from advisor.report.html import write_report
    from advisor.save import HTML_FILE, load
    from knowledge.errors import BadInput

    result = load(folder)
    if json:
        print(result.model_dump_json(indent=2))
        return
    place = out or folder
    page = place / HTML_FILE if place.is_dir() else place
    if page.suffix.lower() not in (".html", ".htm"):
        raise BadInput(f"{page} is no name of an HTML page. Give a folder, or a name that ends in .html.")
    page = write_report(page, result, folder)
    if not quiet:
        from rich.console import Console

        from advisor.report.terminal import print_summary

        print_summary(result, Console(), folder)
        _print_what_was_reached(result, folder, Console())
    print(f"report: {page}")


def _print_what_was_reached(result: Result, folder: Path, console: Console) -> None:
    """Where the recommendation was trained to its end."""
    from advisor.report.next_steps import serving_step
    from advisor.report.training import print_training
    from advisor.training.training_report import finished_report

    reached = finished_report(folder, result)
    if reached is not None:
        print_training(reached, folder, console, serving_step(result, folder))
