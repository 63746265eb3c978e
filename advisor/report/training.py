"""A finished training on the terminal: predicted against reached, and what to do with the adapter."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.report.next_steps import Step
from advisor.text import clean, plural, rate_text
from advisor.training.model_card import ABOUT_RANGES, comparison_cells, on_all_rows, on_own_texts
from advisor.training.training_report import TrainingReport

_STYLES = {"inside": "green", "outside": "yellow"}


def print_training(report: TrainingReport, folder: Path, console: Console, serve: Step | None = None) -> None:
    """`folder` is that of the recommendation, `serve` what its next steps say of serving."""
    done = f"{plural(report.max_steps, 'step')} done"
    console.print(Text(f"{clean(report.title)} at {rate_text(report.learning_rate)}: {done}"))
    console.print(_table(report))
    console.print(Text(ABOUT_RANGES, style="dim"))
    if report.last != report.curve.points[-1]:
        console.print(Text(f"The end is measured on all {report.eval_rows} held-out rows.", style="dim"))
    elif report.end_on_all:
        first = f"Predicted and reached are of the first {report.eval_rows} held-out rows. "
        console.print(Text(first + on_all_rows(report), style="dim"))
    for comparison in report.comparisons:
        if comparison.note:
            console.print(Text(f"{clean(comparison.quantity)}: {clean(comparison.note)}", style="dim"))
    if forgotten := on_own_texts(report):
        console.print(Text(forgotten, style="dim"))
    if report.unmet:
        console.print(Text(f"note: what was required does not hold at the end: it {report.unmet}", style="yellow"))
    if report.overtrained:
        console.print(Text(f"note: {report.overtrained}", style="yellow"))
    if not report.reloads:
        console.print(Text(f"The saved files give another loss on a fresh base: {_difference(report)}.", style="red"))
    console.print(Text(f"adapter: {clean(folder / report.adapter)}"), soft_wrap=True)
    if serve is not None:
        console.print(Text(f"serve: {serve.words}", style="dim"))
        if serve.code:  # there is no command for what only transformers and peft serve
            console.print(Text(serve.code, style="bold"), soft_wrap=True)


def _table(report: TrainingReport) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for heading in ("predicted", "range", "reached"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for comparison in report.comparisons:
        *cells, verdict = comparison_cells(comparison)
        table.add_row(*map(Text, cells), Text(verdict, style=_STYLES.get(verdict, "")))
    return table


def _difference(report: TrainingReport) -> str:
    return "not measured" if report.reload_difference is None else f"{report.reload_difference:.4f} nats off"
