"""The summary on the terminal: what to use in ten seconds, then the frontier, then why.

Everything is said in words and marks, colour only repeats it: the summary reads the same in a pipe. Foreign strings
are cleaned and go through rich.text.Text, so markup in a model's or a file's name is shown and not obeyed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from advisor.deciding.forgetting import forgetting_text
from advisor.recommendation import CandidateReport, Result
from advisor.report import content, headline
from advisor.report.next_steps import choice_command, paths_of_files, training_command
from advisor.report.plan import plan_view
from advisor.report.provenance import race_line
from advisor.report.required import requirement_lines
from advisor.report.without_pick import advice_without_pick, why_no_pick
from advisor.text import bytes_text, clean, duration_text, listed
from advisor.training.training_report import finished_report
from knowledge.errors import BadInput

WIDE_COLUMNS = 120  # from here on there is room for forgetting and for the reason of each candidate
WIDEST_COLUMNS = 140
NUMBERS_COLUMNS, DRIFT_COLUMNS = 62, 9  # what a method's name must leave to the table's other columns
TIME_COLUMNS, INTERVAL_COLUMNS = 10, 18  # what goes on a narrow terminal, in this order
LONGEST_METHOD, SHORTEST_METHOD = 26, 12
NAMES_PER_GROUP = 8
REASONS_PER_GROUP = 8

_MARKS = {"pick": "▶", "frontier": "●", "tie": "=", "does not fit": "✗", "excluded": "✗", "reference": "R"}
_STYLES = {
    "pick": "bold green",
    "frontier": "cyan",
    "does not fit": "red",
    "excluded": "red",
    "behind": "dim",
    "reference": "dim",
}


def print_summary(result: Result, console: Console, folder: Path | None = None) -> None:
    """Prints the whole summary; `console` decides on width and colour. `folder` is where the result's files lie."""
    width = min(console.width, WIDEST_COLUMNS)
    parts = list(summary(result, width, boxed=console.is_terminal, folder=folder))
    if console.is_terminal:
        console.print(*parts, sep="\n", width=width)
        return
    with console.capture() as capture:
        console.print(*parts, sep="\n", width=width)
    # Tables are padded to their width: of no use in a file or a pipe.
    text = "".join(line.rstrip() + "\n" for line in capture.get().splitlines())
    encoding = getattr(console.file, "encoding", None) or "utf-8"
    console.file.write(text.encode(encoding, "replace").decode(encoding))


def summary(result: Result, width: int, *, boxed: bool, folder: Path | None = None) -> Iterable[RenderableType]:
    """The parts of the summary from top to bottom."""
    yield Text()
    if result.race is not None and result.race.dry_run:
        yield from plan_view(result)
        return
    if result.recommendation is None:
        yield from _no_recommendation(result)
    else:
        yield _headline(result, boxed, folder)
        yield Text()
        yield _candidates(result, width)
        yield from _why(result)
    yield from _listing("Requirements", requirement_lines(result))
    yield from _left(result)
    yield Text(race_line(result), style="dim")
    yield Text()


def _is_trained(result: Result, folder: Path | None) -> bool:
    with suppress(BadInput):  # a report that cannot be read is none of this
        return folder is not None and finished_report(folder, result) is not None
    return False


def _headline(result: Result, boxed: bool, folder: Path | None) -> RenderableType:
    decision = result.recommendation
    title = Text.assemble(
        (clean(decision.title, 60), "bold green"),
        (" at learning rate "),
        (content.rate(result.pick), "bold"),
        (f"   (confidence: {decision.confidence})" if not decision.chosen_over else "", "dim"),
    )
    facts = _grid()
    for label, text in headline.lines(result):
        facts.add_row(Text(label, style="dim"), Text(text))
    if result.files:
        facts.add_row(Text("files", style="dim"), Text("\n".join(paths_of_files(result, folder))))
    command = training_command(result, folder)
    if command and not _is_trained(result, folder):
        facts.add_row(Text("next", style="dim"), Text(command, style="bold"))
    if instead := choice_command(result, folder):
        facts.add_row(Text("or", style="dim"), Text(f"{instead}, or another one below"))
    for warning in decision.warnings:
        facts.add_row(Text("note", style="yellow"), Text(clean(warning)))
    subject = Text(content.subject_line(result), style="dim")
    body = Group(title, subject, Text(), facts)
    heading = content.verdict(decision)
    if not boxed:
        return Group(Text(heading), body)
    return Panel(body, box=ROUNDED, title=Text(heading), title_align="left", border_style="green", padding=(0, 1))


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    return table


def _candidates(result: Result, width: int) -> RenderableType:
    numbers, longest_method = _columns(result, width)
    has_reason = width >= WIDE_COLUMNS
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("method", overflow="ellipsis", no_wrap=True, max_width=longest_method)
    table.add_column("rate", no_wrap=True)
    shown = content.shown_candidates(result)
    numbers_of = [_numbers(candidate, result) for candidate in shown]
    widest_quality = max((len(cells["quality"]) for cells in numbers_of), default=0)
    table.add_column(Text(content.metric_name(result)), justify="right", min_width=widest_quality, max_width=16)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    if has_reason:
        table.add_column("why it stands there", ratio=1)
    for candidate, cells in zip(shown, numbers_of, strict=True):
        kind = content.mark(candidate, result)
        row = [_MARKS.get(kind, ""), clean(candidate.title, 60), content.rate(candidate), cells["quality"]]
        row += [cells[name] for name in numbers]
        if has_reason:
            row.append(clean(candidate.reason, 120) or content.mark_word(kind, result))
        table.add_row(*(Text(cell) for cell in row), style=_STYLES.get(kind, ""))
    return Group(table, _legend(shown, result))


def _columns(result: Result, width: int) -> tuple[list[str], int]:
    """The headings of the numbers that a terminal of that width has room for, and the longest name beside them."""
    has_drift = content.tells_drift(result)
    taken = NUMBERS_COLUMNS + (DRIFT_COLUMNS if has_drift else 0)
    if not (has_time := width >= taken + SHORTEST_METHOD):
        taken -= TIME_COLUMNS
    if not (has_interval := width >= taken + SHORTEST_METHOD):
        taken -= INTERVAL_COLUMNS
    is_shown = {
        "80 % interval": has_interval,
        "memory": True,
        "run time": has_time,
        "forgets": width >= WIDE_COLUMNS and content.tells_forgetting(result),
        "drift": has_drift,
    }
    longest_method = min(LONGEST_METHOD, max(SHORTEST_METHOD, width - taken))
    return [name for name, shown in is_shown.items() if shown], longest_method


def _legend(shown: Iterable[CandidateReport], result: Result) -> Text:
    """What the marks mean that occur."""
    used = {content.mark(c, result) for c in shown}
    return Text(
        "   ".join(f"{_MARKS[kind]} {content.mark_word(kind, result)}" for kind in _MARKS if kind in used), "dim"
    )


def _numbers(candidate: CandidateReport, result: Result) -> dict[str, str]:
    """The cells of a candidate by their columns' names."""
    value, interval = content.prediction_cell(candidate, content.compared_by(result))
    seconds = candidate.planned_run_s
    return {
        "quality": value,
        "80 % interval": interval,
        "memory": bytes_text(candidate.memory.peak_bytes) if candidate.memory else "unknown",
        "run time": duration_text(seconds) if seconds is not None else "unknown",
        "forgets": forgetting_text(candidate),
        "drift": content.drift_text(candidate),
    }


def _why(result: Result) -> Iterable[RenderableType]:
    decision = result.recommendation
    yield from _listing("Why", (r for r in decision.reasons if r != decision.gain_over_lora))
    yield from _listing("Alternatives", decision.alternatives)


def _listing(heading: str, lines: Iterable[str]) -> Iterable[RenderableType]:
    items = _grid()
    for line in lines:
        items.add_row(Text("-", style="dim"), Text(clean(line)))
    if items.row_count:
        yield Text(f"\n{heading}", style="bold")
        yield Padding(items, (0, 0, 0, 2))


def _left(result: Result) -> Iterable[RenderableType]:
    groups = content.left_the_race(result)
    if not groups:
        yield Text()
        return
    yield Text("\nLeft the race" if result.race else "\nLeft out", style="bold")
    table = _grid()
    for heading, members in groups:
        table.add_row(Text(heading, style="dim"), Text(_told(heading, members)))
    yield Padding(table, (0, 0, 1, 2))


def _told(heading: str, members: list[tuple[str, str]]) -> str:
    if heading == content.NOT_APPLICABLE:  # the same of every race on such a model
        return f"{listed([title for title, _ in members], NAMES_PER_GROUP)} (advisor inspect tells why)"
    return _members(members)


def _members(members: list[tuple[str, str]]) -> str:
    """The names by their reason; a reason that holds for several is said once, and the longest groups come first."""
    groups = sorted(content.by_reason(members).items(), key=lambda group: -len(group[1]))
    shown = [
        listed(titles, NAMES_PER_GROUP) + (f" ({reason})" if reason else "")
        for reason, titles in groups[:REASONS_PER_GROUP]
    ]
    left = sum(len(titles) for _, titles in groups[REASONS_PER_GROUP:])
    return "; ".join(shown) + (f" and {left} more" if left else "")


def _no_recommendation(result: Result) -> Iterable[RenderableType]:
    yield Text(f"No recommendation: {why_no_pick(result)}.", style="bold red")
    yield Text(content.subject_line(result), style="dim")
    yield Text(advice_without_pick(result))
