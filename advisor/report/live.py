"""The race while it runs, on stderr: what each worker does, who leads, how much time is left.

On a terminal a panel is redrawn in place; elsewhere plain lines are printed, one a finished probe and one every
LINE_EVERY_S seconds in between; with `quiet` nothing at all. Implements probes.racing.observer.Observer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from advisor.text import clean, duration_text, plural, quality_text, rate_text

REDRAWS_PER_S = 4
LINE_EVERY_S = 15.0  # without a terminal: how often a running probe may report its progress
LEADERS_SHOWN = 5


@dataclass
class _Running:
    """What one worker does."""

    title: str
    learning_rate: float
    until_step: int
    first_step: int | None = None
    step: int = 0
    loss: float | None = None


@dataclass
class _Standing:
    """The last known result of one candidate."""

    title: str
    learning_rate: float
    eval_loss: float
    metric: float | None
    step: int


@dataclass
class _Rung:
    index: int
    steps: int
    candidates: int
    done: int = 0


@dataclass
class _State:
    workers: dict[int, _Running] = field(default_factory=dict)
    standings: dict[tuple[str, float], _Standing] = field(default_factory=dict)
    rung: _Rung | None = None
    message: str = ""
    failures: int = 0
    data_read_bytes: int = 0
    data_total_bytes: int = 0


class LiveRace:
    """Shows a race that may take `budget_s` seconds. Use as a context manager; every event method may be called at any
    time within. `metric_name` is only for display. `clock` returns seconds; tests give their own."""

    def __init__(
        self,
        budget_s: float,
        *,
        metric_name: str = "",
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._quiet = quiet
        self._budget_s = budget_s
        self._metric_name = metric_name
        self._clock = clock
        self._started_s = clock()
        self._last_line_s = -LINE_EVERY_S
        self._state = _State()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._started_s = self._clock()
        if not self._quiet and self._console.is_terminal:
            self._live = Live(
                get_renderable=self.render,
                console=self._console,
                refresh_per_second=REDRAWS_PER_S,
                transient=True,
                redirect_stdout=False,  # stdout carries the result alone
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def name_metric(self, name: str) -> None:
        """Gives the metric its name, once the data has told it."""
        self._metric_name = name

    def message(self, text: str) -> None:
        """What is being done outside of probes, e.g. reading the data."""
        self._state.message = clean(text, 300)
        self._line(clean(text, 300))

    def data_read(self, done_bytes: int, total_bytes: int) -> None:
        """How far a data file was read, called often. At its end the bar goes away."""
        self._state.data_read_bytes, self._state.data_total_bytes = done_bytes, total_bytes
        if self._clock() - self._last_line_s >= LINE_EVERY_S:
            self._line(f"  {100 * done_bytes / total_bytes:.0f} % of the data read")

    def rung_started(self, index: int, steps: int, candidates: int) -> None:
        self._state.rung = _Rung(index, steps, candidates)
        self._line(f"rung {index + 1}: {plural(candidates, 'candidate')} to step {steps}")

    def probe_started(self, worker: int, title: str, learning_rate: float, until_step: int) -> None:
        self._state.workers[worker] = _Running(clean(title, 60), learning_rate, until_step)

    def probe_progress(self, worker: int, step: int, loss: float) -> None:
        running = self._state.workers.get(worker)
        if running is None:
            return
        if running.first_step is None:
            running.first_step = step - 1
        running.step, running.loss = step, loss
        if self._clock() - self._last_line_s >= LINE_EVERY_S:
            self._line(
                f"  {running.title} at {rate_text(running.learning_rate)}: step {step}/{running.until_step}, "
                f"loss {loss:.3f}, {self._left_text()}"
            )

    def probe_finished(
        self,
        worker: int,
        title: str,
        learning_rate: float,
        eval_loss: float | None,
        metric: float | None,
        status: str,
    ) -> None:
        running = self._state.workers.pop(worker, None)
        if self._state.rung is not None:
            self._state.rung.done += 1
        name = f"{clean(title, 60)} at {rate_text(learning_rate)}"
        key = (clean(title, 60), learning_rate)
        if status == "finished" and eval_loss is not None:
            step = running.until_step if running else 0
            self._state.standings[key] = _Standing(*key, eval_loss, metric, step)
            self._line(f"  {name}: held-out loss {eval_loss:.3f}{self._metric_text(metric)}")
        else:
            self._state.failures += status != "finished"
            self._state.standings.pop(key, None)
            self._line(f"  {name}: {clean(status, 60)}")

    def probe_known(
        self, title: str, learning_rate: float, eval_loss: float | None, metric: float | None, step: int
    ) -> None:
        """What an earlier part of the race has done takes its place among the leaders, without a word."""
        if self._state.rung is not None:
            self._state.rung.done += 1
        if eval_loss is not None:
            key = (clean(title, 60), learning_rate)
            self._state.standings[key] = _Standing(*key, eval_loss, metric, step)

    def rung_finished(self, index: int, evaluated: int, failed: int) -> None:
        best = self._leaders()[:1]
        leader = f", best so far {best[0].title} at {rate_text(best[0].learning_rate)}" if best else ""
        self._line(f"rung {index + 1} done: {evaluated} evaluated, {failed} failed{leader}")

    def render(self) -> RenderableType:
        """The panel as it stands now."""
        parts: list[RenderableType] = [self._clock_line()]
        if self._state.data_read_bytes < self._state.data_total_bytes:
            parts += [Text(), self._reading_line()]
        if self._state.workers:
            parts += [Text(), self._workers_table()]
        leaders = self._leaders()[:LEADERS_SHOWN]
        if leaders:
            parts += [Text(), self._leaders_table(leaders)]
        if self._state.message:
            parts += [Text(), Text(self._state.message, style="dim", overflow="ellipsis", no_wrap=True)]
        return Panel(Group(*parts), title=self._heading(), title_align="left", border_style="cyan", padding=(0, 1))

    def _heading(self) -> Text:
        rung = self._state.rung
        if rung is None:
            return Text("Preparing")
        done = f"{rung.done} of {plural(rung.candidates, 'candidate')}"
        text = f"Probing: rung {rung.index + 1}, {done} done to step {rung.steps}"
        if self._state.failures:
            text += f", {self._state.failures} failed"
        return Text(text)

    def _clock_line(self) -> RenderableType:
        elapsed = self._clock() - self._started_s
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True)
        table.add_row(
            Text(f"{duration_text(elapsed)} gone", style="dim"),
            ProgressBar(total=max(1.0, self._budget_s), completed=min(elapsed, self._budget_s)),
            Text(self._left_text("at most ")),
        )
        return table

    def _reading_line(self) -> RenderableType:
        read, total = self._state.data_read_bytes, self._state.data_total_bytes
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_row(Text(f"{100 * read / total:3.0f} % of the data read", style="dim"), ProgressBar(total, read))
        return table

    def _workers_table(self) -> Table:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, justify="right")
        for _, running in sorted(self._state.workers.items()):
            first = running.first_step or 0
            table.add_row(
                Text(f"▶ {running.title}", style="cyan"),
                Text(rate_text(running.learning_rate)),
                ProgressBar(
                    total=max(1, running.until_step - first),
                    completed=max(0, running.step - first),
                    pulse=running.first_step is None,
                ),
                Text("loading" if running.loss is None else f"loss {running.loss:.3f}"),
            )
        return table

    def _leaders_table(self, leaders: list[_Standing]) -> Table:
        table = Table.grid(padding=(0, 2))
        for justify in ("right", "left", "left", "right", "right", "right"):
            table.add_column(justify=justify, no_wrap=True)
        for place, standing in enumerate(leaders, 1):
            metric = "" if standing.metric is None else quality_text(standing.metric, self._metric_name)
            table.add_row(
                Text(f"{place}.", style="dim"),
                Text(standing.title, style="bold green" if place == 1 else ""),
                Text(rate_text(standing.learning_rate)),
                Text(f"loss {standing.eval_loss:.3f}"),
                Text(metric),
                Text(f"step {standing.step}", style="dim"),
            )
        return table

    def _leaders(self) -> list[_Standing]:
        """Best first. Who went further in the race stands before who did not, for short probes flatter."""
        return sorted(self._state.standings.values(), key=lambda s: (-s.step, s.eval_loss, s.title, s.learning_rate))

    def _left_text(self, at_most: str = "") -> str:
        """A budget that is over is stretched until a first probe has ended: that is not to look as if all hung."""
        left_s = self._budget_s - (self._clock() - self._started_s)
        return f"{at_most}{duration_text(left_s)} left" if left_s > 0 else "over the budget"

    def _metric_text(self, metric: float | None) -> str:
        return (
            ""
            if metric is None
            else f", {clean(self._metric_name) or 'metric'} {quality_text(metric, self._metric_name)}"
        )

    def _line(self, text: str) -> None:
        """A line for logs, where no terminal shows the panel."""
        if self._quiet or self._live is not None:
            return
        self._last_line_s = self._clock()
        elapsed = round(self._last_line_s - self._started_s)
        self._console.file.write(f"[{elapsed // 60:3d}:{elapsed % 60:02d}] {text}\n")
        self._console.file.flush()
