"""`advisor train`: the recommended run, to its end."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from advisor.training.training_report import TrainingReport


def command(
    folder: Annotated[Path, typer.Argument(help="The --out folder of an earlier `advisor recommend`.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train anew; an earlier adapter and its report are moved aside.")
    ] = False,
    record: Annotated[bool, typer.Option(help="Keep the outcome in your own table, for later recommendations.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print what was reached as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train what was recommended, save the adapter, and compare predicted with reached."""
    from advisor.report.live_training import LiveTraining
    from advisor.text import printable
    from advisor.training.train import train

    try:
        report = train(folder, resume=resume, force=force, live=LiveTraining(quiet=quiet))
    except KeyboardInterrupt:
        print(printable(f"advisor: stopped. Go on with: advisor train {quote(str(folder))} --resume"), file=sys.stderr)
        raise typer.Exit(130) from None
    if json:
        print(report.model_dump_json(indent=2))
    else:
        _show(report, folder)
    if record:
        _record(folder)


def _show(report: TrainingReport, folder: Path) -> None:
    from rich.console import Console

    from advisor.report.next_steps import serving_step
    from advisor.report.training import print_training
    from advisor.save import load

    serve = serving_step(load(folder), folder)
    print_training(report, folder, Console(), serve)


def _record(folder: Path) -> None:
    """Told on stderr, for stdout carries the result alone. The run is done and saved whatever becomes of this."""
    from advisor.own_runs import record_outcomes
    from advisor.text import printable
    from knowledge.errors import AdvisorError

    try:
        outcome = record_outcomes(folder)
    except (AdvisorError, OSError) as error:
        later = f"Later: advisor knowledge record {quote(str(folder))}"
        words = f"advisor: not recorded in your own table: {str(error).rstrip('.')}. {later}"
        print(printable(words), file=sys.stderr)
        return
    if outcome.added or outcome.conflicts:
        print("Recorded in your own table: advisor knowledge show --mine", file=sys.stderr)
