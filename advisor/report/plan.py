"""What a dry run shows: the race as it would go, its time, and the memory of those that would enter."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from advisor.recommendation import Result
from advisor.report.content import subject_line
from advisor.report.required import requirement_lines
from advisor.text import bytes_text, clean, duration_text, listed, plural


def plan_view(result: Result) -> Iterable[RenderableType]:
    """The plan from top to bottom."""
    race = result.race
    assert race is not None
    yield Text("The plan (nothing was trained)", style="bold")
    yield Text(subject_line(result), style="dim")
    yield Text()
    for number, line in enumerate(race.plan, start=1):
        yield Text(f"  rung {number}  {line}")
    workers = plural(race.workers, "worker")
    yield Text(f"  about {duration_text(race.expected_s)} of a budget of {duration_text(race.budget_s)}, on {workers}")
    yield Text()
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False, header_style="dim")
    table.add_column("would enter", overflow="ellipsis", no_wrap=True, max_width=30)
    table.add_column("how", overflow="fold")
    table.add_column("memory of the planned run", justify="right", no_wrap=True)
    for candidate in result.candidates:
        if candidate.status == "planned":
            memory = bytes_text(candidate.memory.peak_bytes) if candidate.memory else "unknown"
            table.add_row(Text(clean(candidate.title, 60)), Text(candidate.reason), Text(memory))
    yield table
    yield from (Text(f"\nRequirement {line}") for line in requirement_lines(result))
    if race.not_tried:
        names = listed([clean(name, 60) for name in race.not_tried], 12)
        yield Text(f"\nBeyond the budget: {names}", style="dim")
