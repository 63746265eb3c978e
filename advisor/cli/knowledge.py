"""`advisor knowledge`: the benchmark table, the user's own runs in it, and sharing them. Nothing is sent anywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli._place import place as place_to_write
from advisor.cli._several import several

if TYPE_CHECKING:
    from knowledge.schema import RunRecord

NAME = "knowledge"
# Characters that the whole table needs; a narrower terminal leaves out what --json has.
ALL_COLUMNS = 120
LEFT_COLUMNS = ("method", "experiment", "date", "learning rate")
app = typer.Typer(no_args_is_help=True, help="Show the table of finished runs; record, export and import your own.")


@app.command("import")
def import_(
    place: Annotated[Path, typer.Argument(help="exported table (*.jsonl), or a folder with published result files")],
    into: Annotated[
        Path | None, typer.Option(callback=place_to_write, help="JSON lines to write (default: your own table)")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="overwrite stored runs that differ")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the outcome as JSON")] = False,
) -> None:
    """Import runs that others exported, or published results. Importing the same again changes nothing."""
    from advisor.text import plural
    from knowledge.table import merge, user_store

    records, rejected = _read_runs(place)
    store = user_store()
    outcome = merge(into, records, replace=replace) if into else store.add(records, replace=replace)
    table = str(into or store.path)
    if as_json:
        facts = {
            "table": table,
            "read": len(records),
            "added": outcome.added,
            "unchanged": outcome.unchanged,
            "differing": list(outcome.conflicts),
            "replaced": replace,
            "rejected": rejected,
        }
        print(json.dumps(facts, indent=2))
        return
    print(f"{plural(len(records), 'run')} read: {outcome.added} added to {table}, {outcome.unchanged} already there.")
    if outcome.conflicts:
        done = "replaced" if replace else "kept as stored (--replace overwrites them)"
        print(f"Other than the stored run of the same name and time: {len(outcome.conflicts)}, {done}.")
    for name, reason in rejected.items():
        print(f"left out {name}: {reason}", file=sys.stderr)
    if rejected:
        print(f"Files left out: {len(rejected)}")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(callback=place_to_write, help="file to write, as JSON lines")],
    force: Annotated[bool, typer.Option("--force", help="overwrite the file")] = False,
) -> None:
    """Write your own runs to a file that others can import.

    It holds settings, curves, device and versions of the runs, and the names of model and data file. No rows of data.
    """
    from advisor.text import plural
    from knowledge.errors import BadInput
    from knowledge.table import user_store, write

    runs = user_store().runs()
    if not runs:
        raise BadInput("You have no runs of your own yet. `advisor train` and `advisor knowledge record` add them.")
    if file.exists() and not force:
        raise BadInput(f"{file} exists. Use --force to overwrite it, or give another name.")
    write(file, runs)
    print(f"{plural(len(runs), 'run')} written to {file}.")


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(help="the --out folder of an earlier `advisor recommend`")],
) -> None:
    """Record the finished runs of a recommendation: those that went to the last step. `advisor train` does it itself.

    The next recommendation for the same data, model and planned run (length, batch, 4 bits or not) rests on them.
    """
    from advisor.own_runs import record_outcomes
    from advisor.text import plural

    outcome = record_outcomes(folder)
    renewed = f", {len(outcome.conflicts)} renewed" if outcome.conflicts else ""
    print(f"{plural(outcome.added, 'run')} recorded{renewed}, {outcome.unchanged} already there.")


def _read_runs(place: Path) -> tuple[Sequence[RunRecord], dict[str, str]]:
    """The runs of an exported file or of a folder of published results, and what was left out of these with reasons."""
    from knowledge.errors import BadInput
    from knowledge.importers import import_folder
    from knowledge.table import read

    if place.is_file():
        return read(place), {}
    if not place.exists():
        raise BadInput(
            f"There is no {place}. Give a file that `advisor knowledge export` wrote, or a folder of results."
        )
    report = import_folder(place)
    if not report.records:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(report.rejected.items())[:3])
        raise BadInput(
            f"No run could be read from {place} ({len(report.rejected)} files). {reasons}. "
            "Give a folder of results as PEFT's method comparison writes them."
        )
    return report.records, report.rejected


@app.command()
def show(
    benchmark: Annotated[str, typer.Option(help="only benchmarks whose name contains this")] = "",
    method: Annotated[
        list[str] | None, typer.Option(callback=several, help="only these methods, a,b or repeated")
    ] = None,
    shipped_only: Annotated[bool, typer.Option("--shipped", help="only the runs that come with advisor")] = False,
    mine: Annotated[bool, typer.Option("--mine", help="only your own table: recorded and imported")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the run records as a JSON list")] = False,
) -> None:
    """Show the runs of the benchmark table, best first within each benchmark."""
    from knowledge.errors import BadInput, did_you_mean
    from knowledge.methods import catalogue_name
    from knowledge.table import by_benchmark, by_measure, in_order, load, user_store

    everything = in_order(user_store().runs()) if mine else load(include_user=not shipped_only)
    if not everything:
        raise BadInput("You have no runs of your own yet. `advisor train` and `advisor knowledge record` add them.")
    known = {r.method for r in everything if r.method}
    methods = [catalogue_name(name) for name in method or []]
    for name in methods:
        if name not in known:
            raise BadInput(f"No run of method {name!r} in the table. {did_you_mean(name, sorted(known))}")
    of_methods = [r for r in everything if not methods or r.method in methods]
    records = [r for r in of_methods if benchmark in r.benchmark]
    if not records:
        of, names = f" of {', '.join(methods)}" if methods else "", ", ".join(by_benchmark(of_methods))
        raise BadInput(f"No run{of} matches --benchmark {benchmark!r}. Benchmarks{of}: {names}")
    if as_json:
        print(json.dumps([r.model_dump(mode="json") for r in records], indent=2))
        return
    _print_tables(by_measure(records))


def _print_tables(groups: dict) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from advisor.text import clean, plural

    # Rows are for reading and for grep: without a terminal they are never folded at 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for (benchmark, metric), runs in groups.items():
        # Names of imported runs are foreign: no markup in them is obeyed.
        title = Text(f"{clean(benchmark)} ({plural(len(runs), 'run')})")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        columns = _columns(metric, next((r.drift_name for r in runs if r.drift_name), "drift"))
        shown = [(name, cell) for name, cell, is_needed in columns if is_needed or console.width >= ALL_COLUMNS]
        for name, _ in shown:
            table.add_column(Text(clean(name)), justify="left" if name in LEFT_COLUMNS else "right", no_wrap=True)
        for run in runs:
            table.add_row(*(Text(clean(cell(run))) for _, cell in shown))
        console.print(table)
        console.print()


def _columns(metric: str, drift: str) -> list[tuple[str, Callable[[RunRecord], str], bool]]:
    """Heading, the words of a run, and whether a narrow terminal shows it too."""
    return [
        ("method", lambda r: r.method or r.peft_type, True),
        ("experiment", lambda r: r.experiment, True),
        ("date", lambda r: r.created_at[:10], False),
        ("learning rate", lambda r: f"{r.learning_rate:g}", False),
        (metric, lambda r: _metric(r.metric, r.metric_name), True),
        (drift, lambda r: "-" if r.drift is None else f"{r.drift:.3f}", False),
        ("peak GB", lambda r: "-" if r.peak_bytes is None else f"{r.peak_bytes / 1e9:.1f}", True),
        ("peak GiB", lambda r: "-" if r.peak_bytes is None else f"{r.peak_bytes / 2**30:.2f}", False),
        ("minutes", lambda r: "-" if r.train_s is None else f"{r.train_s / 60:.1f}", True),
        ("parameters", lambda r: "-" if r.trainable_parameters is None else f"{r.trainable_parameters:,}", False),
    ]


def _metric(value: float | None, name: str) -> str:
    """Shares of right answers in per cent, as published; similarities as they are."""
    from advisor.text import quality_text

    if value is None:
        return "-"
    return quality_text(value, name)
