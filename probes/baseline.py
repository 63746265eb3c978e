"""Waits for the workers: the first that has the model loaded tells what the model does untuned."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from knowledge.errors import AdvisorError
from probes import interrupts
from probes.executors.base import Executor
from probes.schema import Baseline

# Looked at this often while nothing happens, so that the end of a budget is noticed in time.
TICK_S = 0.5


class WorkerFailed(AdvisorError):
    """No worker can start, so nothing can be probed."""


def await_baseline(
    executor: Executor, say: Callable[[str], None] = lambda words: None, until: float = math.inf
) -> Baseline:
    """The baseline of the first worker that is ready. What the workers wait for is told by `say`.

    Raises WorkerFailed when none can start, or none is ready by the time.monotonic() of `until`: one that hangs while
    it loads the model says nothing.
    """
    while True:
        interrupts.check()
        if time.monotonic() > until:
            raise WorkerFailed("No worker has loaded the model, and twice the budget is over. Give a larger --budget.")
        for event in executor.events(timeout_s=TICK_S):
            if event.fatal:
                raise WorkerFailed(f"No probe can run here: {event.fatal}")
            if event.waiting:
                say(event.waiting)
            if event.baseline:
                return event.baseline
