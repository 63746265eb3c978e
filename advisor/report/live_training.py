"""A training run while it goes on, on stderr: step, loss, learning rate, time left, and the best so far.

On a terminal one line is redrawn in place under the messages; elsewhere plain lines are printed, one an evaluation and
one every LINE_EVERY_S seconds in between; with `quiet` nothing at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from advisor.report.live import LINE_EVERY_S
from advisor.text import clean, duration_text, quality_text, rate_text
from knowledge.schema import Curve, CurvePoint
from probes.schema import Schedule


class LiveTraining:
    """Shows one run. Use as a context manager; `begin` comes before `step` and `point`. `clock` returns seconds."""

    def __init__(
        self, *, quiet: bool = False, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True)
        self._quiet = quiet
        self._clock = clock
        self._started_s = clock()
        self._last_line_s = self._started_s
        self._schedule: Schedule | None = None
        self._rate, self._metric_name, self._stop_step = 0.0, "", 0
        self._first: tuple[int, float] | None = None
        self._best: CurvePoint | None = None
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            columns = (BarColumn(bar_width=None), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=self._console, transient=True, redirect_stdout=False, expand=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, schedule: Schedule, learning_rate: float, metric_name: str, so_far: Curve) -> None:
        """What will be trained, and the part of it that is done already."""
        self._schedule, self._rate, self._metric_name = schedule, learning_rate, metric_name
        self._stop_step = schedule.total_steps
        self._best = min(so_far.points, key=_loss, default=None)
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task("loading", total=self._stop_step)

    def message(self, text: str) -> None:
        """What is being done outside of training steps."""
        self._line(clean(text, 300))

    def step(self, step: int, loss: float) -> None:
        """One optimizer step is done."""
        now = self._clock()
        if self._first is None:
            self._first = step, now  # the first step compiles and warms up: time is counted from its end
        text = self._step_text(step, loss, now)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, description=text)
        elif now - self._last_line_s >= LINE_EVERY_S:
            self._line(text)

    def point(self, point: CurvePoint) -> None:
        """The held-out rows were evaluated."""
        if self._best is None or _loss(point) < _loss(self._best):
            self._best = point
        self._line(f"step {point.step}/{self._stop_step}: held-out {self._point_text(point)}")

    def _step_text(self, step: int, loss: float, now: float) -> str:
        assert self._schedule is not None and self._first is not None
        rate = self._rate * self._schedule.factor(step - 1)
        text = f"step {step}/{self._stop_step}  loss {loss:.3f}  rate {rate_text(rate)}"
        first_step, first_s = self._first
        if step > first_step:
            left_s = (now - first_s) / (step - first_step) * (self._stop_step - step)
            text += f"  {duration_text(left_s)} left"
        if self._best is not None and self._best.eval_loss is not None:
            text += f"  best {self._best.eval_loss:.3f} at {self._best.step}"
        return text

    def _point_text(self, point: CurvePoint) -> str:
        words = [] if point.eval_loss is None else [f"loss {point.eval_loss:.3f}"]
        if point.metric is not None:
            words.append(f"{clean(self._metric_name, 40)} {quality_text(point.metric, self._metric_name)}")
        return ", ".join(words) + (" (best so far)" if point is self._best and point.step < self._stop_step else "")

    def _line(self, text: str) -> None:
        if self._quiet:
            return
        self._last_line_s = self._clock()
        elapsed = round(self._last_line_s - self._started_s)
        line = f"[{elapsed // 60:3d}:{elapsed % 60:02d}] {text}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._console.file.write(line + "\n")
            self._console.file.flush()


def _loss(point: CurvePoint) -> float:
    return math.inf if point.eval_loss is None else point.eval_loss
