"""The progress view: on a terminal, in a log, and silent."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from advisor.report.live import LINE_EVERY_S, LiveRace
from probes.racing.observer import Observer


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def a_race(live: Observer, clock: Clock) -> None:
    """Two rungs with a failure; the second probe of worker 1 is still running at the end."""
    live.message("reading my.jsonl")
    live.rung_started(0, 20, 3)
    live.probe_started(0, "LoRA", 1e-4, 20)
    live.probe_started(1, "OFT [bold]", 3e-4, 20)
    for step in range(1, 21):
        clock.now_s += 2
        live.probe_progress(0, step, 2.0 - step / 20)
    live.probe_finished(0, "LoRA", 1e-4, 1.125, 0.25, "finished")
    live.probe_finished(1, "OFT [bold]", 3e-4, 1.0, 0.3, "finished")
    live.probe_started(0, "IA³\x1b[31m", 5e-3, 20)
    live.probe_finished(0, "IA³\x1b[31m", 5e-3, None, None, "diverged")
    live.rung_finished(0, 2, 1)
    live.rung_started(1, 60, 2)
    live.probe_started(1, "LoRA", 1e-4, 60)
    live.probe_progress(1, 41, 0.9)


def test_in_a_resumed_race_who_was_ahead_before_is_the_best_so_far():
    console = Console(file=io.StringIO(), width=100)
    with LiveRace(900, console=console, clock=Clock()) as live:
        live.rung_started(0, 20, 2)
        live.probe_known("LoRA", 1e-3, 1.0, None, 20)
        live.probe_started(0, "OFT", 3e-4, 20)
        live.probe_finished(0, "OFT", 3e-4, 1.5, None, "finished")
        assert "2 of 2 candidates done" in live._heading().plain
        live.rung_finished(0, 2, 0)
    shown = console.file.getvalue()
    assert "best so far LoRA at 1e-3" in shown and "LoRA at 1e-3: held-out loss" not in shown


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_panel_shows_who_runs_who_leads_and_the_time(columns):
    clock = Clock()
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    with LiveRace(900, metric_name="exact match", console=console, clock=clock) as live:
        a_race(live, clock)
        console.file.truncate(0)
        console.print(live.render())
        shown = console.file.getvalue()
    assert "rung 2, 0 of 2" in shown
    assert "1. " in shown and "loss 1.000" in shown and "30.0 %" in shown
    assert "loss 0.900" in shown
    assert "14 min left" in shown
    assert "OFT [bold]" in shown  # markup of others is shown, not obeyed
    assert all(len(line) <= columns for line in console_lines(live, columns))


def console_lines(live: LiveRace, columns: int) -> list[str]:
    plain = Console(file=io.StringIO(), width=columns, color_system=None)
    plain.print(live.render())
    return plain.file.getvalue().splitlines()


def test_without_a_terminal_there_are_plain_lines_at_a_sane_rate():
    clock, stream = Clock(), io.StringIO()
    with LiveRace(900, metric_name="exact match", console=Console(file=stream, width=80), clock=clock) as live:
        a_race(live, clock)
    lines = stream.getvalue().splitlines()
    assert "\x1b" not in stream.getvalue()
    assert lines[:2] == ["[  0:00] reading my.jsonl", "[  0:00] rung 1: 3 candidates to step 20"]
    assert "[  0:40]   LoRA at 1e-4: held-out loss 1.125, exact match 25.0 %" in lines
    assert "[  0:40]   IA³ [31m at 5e-3: diverged" in lines
    assert "[  0:40] rung 1 done: 2 evaluated, 1 failed, best so far OFT [bold] at 3e-4" in lines
    assert sum("step " in line and "left" in line for line in lines) <= 40 / LINE_EVERY_S


def test_beyond_the_budget_no_time_is_left_to_tell():
    clock, stream = Clock(), io.StringIO()
    with LiveRace(30, console=Console(file=stream, width=80), clock=clock) as live:
        a_race(live, clock)
        assert any("over the budget" in line for line in console_lines(live, 60))
    assert "loss 1.600, 14 s left" in stream.getvalue()
    assert "loss 1.200, over the budget" in stream.getvalue() and " 0.0 s left" not in stream.getvalue()


def test_quiet_is_silent():
    clock = Clock()
    for terminal in (True, False):
        console = Console(file=io.StringIO(), width=80, force_terminal=terminal)
        with LiveRace(900, quiet=True, console=console, clock=clock) as live:
            a_race(live, clock)
        assert console.file.getvalue() == ""


def test_an_exception_leaves_the_terminal_in_order():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with pytest.raises(KeyboardInterrupt), LiveRace(900, console=console) as live:
        live.rung_started(0, 20, 3)
        raise KeyboardInterrupt
    assert console.file.getvalue().rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in console.file.getvalue()


@pytest.mark.parametrize("columns", [60, 80])
def test_a_long_read_has_a_bar_of_its_own(columns):
    clock = Clock()
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    with LiveRace(900, console=console, clock=clock) as live:
        live.data_read(250, 1000)
        assert any("25 % of the data read" in line for line in console_lines(live, columns))
        live.data_read(1000, 1000)
        assert not any("of the data read" in line for line in console_lines(live, columns))


def test_a_long_read_is_told_in_a_log_at_a_sane_rate():
    clock, stream = Clock(), io.StringIO()
    with LiveRace(900, console=Console(file=stream, width=80), clock=clock) as live:
        live.message("reading my.jsonl")
        for percent in range(101):
            clock.now_s += LINE_EVERY_S / 10
            live.data_read(percent, 100)
    lines = [line for line in stream.getvalue().splitlines() if "of the data read" in line]
    assert len(lines) == 10 and lines[0].endswith("  9 % of the data read")
