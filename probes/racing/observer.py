"""What one can watch of a race while it runs. A progress display has these methods; this one watches nothing."""

from __future__ import annotations


class Observer:
    """Told of every event in the order in which it happens, from the thread that runs the race."""

    def message(self, text: str) -> None: ...

    def data_read(self, done_bytes: int, total_bytes: int) -> None: ...

    def rung_started(self, index: int, steps: int, candidates: int) -> None: ...

    def probe_started(self, worker: int, title: str, learning_rate: float, until_step: int) -> None: ...

    def probe_progress(self, worker: int, step: int, loss: float) -> None: ...

    def probe_finished(
        self,
        worker: int,
        title: str,
        learning_rate: float,
        eval_loss: float | None,
        metric: float | None,
        status: str,
    ) -> None: ...

    def probe_known(
        self, title: str, learning_rate: float, eval_loss: float | None, metric: float | None, step: int
    ) -> None:
        """A probe of this rung that an earlier part of the race has done."""

    def rung_finished(self, index: int, evaluated: int, failed: int) -> None: ...
