"""What Ctrl-C does when the measuring is over: what is known is still written down."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def finishing(say: Callable[[str], None]) -> Iterator[None]:
    """Within it a first Ctrl-C is answered through `say`, and what is being done goes on; a second one interrupts.

    For the seconds that a judgement takes, whose loss would cost a whole race. Outside of the main thread, where no
    signals arrive, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)

    def answer(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        say("writing down what was measured; Ctrl-C once more stops that too")

    signal.signal(signal.SIGINT, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
