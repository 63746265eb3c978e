"""`advisor knowledge`: the benchmark table, and importing published results into it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

NAME = "knowledge"
app = typer.Typer(no_args_is_help=True, help="Show the benchmark table and import published results into it.")


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="folder with result files, searched below it too")],
    into: Annotated[Path | None, typer.Option(help="table to write (default: your own, in the data folder)")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="overwrite stored runs that differ")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the outcome as JSON")] = False,
) -> None:
    """Import published result files. Importing the same files again changes nothing."""
    from knowledge.errors import BadInput
    from knowledge.importers import import_folder
    from knowledge.table import USER_TABLE, merge, user_data_folder

    report = import_folder(folder)
    if not report.records:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(report.rejected.items())[:3])
        raise BadInput(f"No run could be read from {folder} ({len(report.rejected)} files). {reasons}")
    table = into or user_data_folder() / USER_TABLE
    outcome = merge(table, report.records, replace=replace)
    if as_json:
        print(
            json.dumps(
                {
                    "table": str(table),
                    "read": len(report.records),
                    "added": outcome.added,
                    "unchanged": outcome.unchanged,
                    "differing": list(outcome.conflicts),
                    "replaced": replace,
                    "rejected": report.rejected,
                },
                indent=2,
            )
        )
        return
    print(f"{len(report.records)} runs read: {outcome.added} added to {table}, {outcome.unchanged} already there.")
    if outcome.conflicts:
        done = "replaced" if replace else "kept as stored (--replace overwrites them)"
        print(f"{len(outcome.conflicts)} differ from the stored run of the same name and time: {done}.")
    for name, reason in report.rejected.items():
        print(f"left out {name}: {reason}", file=sys.stderr)
    if report.rejected:
        print(f"Files left out: {len(report.rejected)}")


@app.command()
def show(
    benchmark: Annotated[str, typer.Option(help="only benchmarks whose name contains this")] = "",
    method: Annotated[list[str] | None, typer.Option(help="only this method (repeatable)")] = None,
    shipped_only: Annotated[bool, typer.Option("--shipped", help="leave out runs that you imported")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the run records as a JSON list")] = False,
) -> None:
    """Show the runs of the benchmark table, best first within each benchmark."""
    from knowledge.errors import BadInput, did_you_mean
    from knowledge.table import by_benchmark, load

    everything = load(include_user=not shipped_only)
    known = {r.method for r in everything if r.method}
    for name in method or []:
        if name not in known:
            raise BadInput(f"No run of method {name!r} in the table. {did_you_mean(name, sorted(known))}")
    records = [r for r in everything if benchmark in r.benchmark and (not method or r.method in method)]
    if not records:
        names = ", ".join(by_benchmark(everything))
        raise BadInput(f"No run matches --benchmark {benchmark!r}. Benchmarks: {names}")
    if as_json:
        print(json.dumps([r.model_dump(mode="json") for r in records], indent=2))
        return
    _print_tables(by_benchmark(records))


def _print_tables(groups: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    # Rows are for reading and for grep: without a terminal they are never folded at 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for benchmark, runs in groups.items():
        table = Table(title=f"{benchmark} ({len(runs)} runs)", title_justify="left", box=None, pad_edge=False)
        drift = next((r.drift_name for r in runs if r.drift_name), "drift")
        for name in ("method", "experiment", "date", "learning rate"):
            table.add_column(name, no_wrap=True)
        for name in (runs[0].metric_name, drift, "peak GB", "peak GiB", "minutes", "parameters"):
            table.add_column(name, justify="right", no_wrap=True)
        for r in runs:
            table.add_row(
                r.method or r.peft_type,
                r.experiment,
                r.created_at[:10],
                f"{r.learning_rate:g}",
                _metric(r.metric, r.metric_name),
                "-" if r.drift is None else f"{r.drift:.3f}",
                "-" if r.peak_bytes is None else f"{r.peak_bytes / 1e9:.1f}",
                "-" if r.peak_bytes is None else f"{r.peak_bytes / 2**30:.2f}",
                "-" if r.train_s is None else f"{r.train_s / 60:.1f}",
                "-" if r.trainable_parameters is None else f"{r.trainable_parameters:,}",
            )
        console.print(table)
        console.print()


def _metric(value: float | None, name: str) -> str:
    """Accuracies in per cent, as published; similarities as they are."""
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if "accuracy" in name else f"{value:.3f}"
