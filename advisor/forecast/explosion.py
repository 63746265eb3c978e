"""Notices a run that explodes without its loss ever becoming nan: it is stopped instead of trained to a useless end."""

from __future__ import annotations

from collections import deque

WINDOW_STEPS = 20
FACTOR = 2.0


class ExplosionWatch:
    """Tells when the mean training loss over WINDOW_STEPS is FACTOR times what it was at the beginning.

    The beginning is the first window of the run or the untuned model's held-out loss, whichever is higher: methods
    that train inputs start from a damaged model, and the first steps at a high rate may rise a little. A loss that is
    twice as high for so long has left everything behind that the base model knew.
    """

    def __init__(self, untuned_loss: float) -> None:
        self._start = untuned_loss
        self._recent: deque[float] = deque(maxlen=WINDOW_STEPS)
        self._seen = 0

    def exploded(self, loss: float) -> str | None:
        """Takes in the loss of the next step; the reason in words where the run should end."""
        self._recent.append(loss)
        self._seen += 1
        mean = sum(self._recent) / len(self._recent)
        if self._seen == WINDOW_STEPS:
            self._start = max(self._start, mean)
        if self._seen > WINDOW_STEPS and mean > FACTOR * self._start:
            return f"the training loss of the last {WINDOW_STEPS} steps is {mean:.3g}, it began at {self._start:.3g}"
        return None
