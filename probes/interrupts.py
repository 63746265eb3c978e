"""Ctrl-C, and SIGTERM, with which a cluster takes a machine back: neither gets lost, and what is known is written down.

Python raises KeyboardInterrupt wherever the main thread happens to be. In callbacks of weak references, of which every
import has some, it drops it, and libraries make other errors of it. So it is raised once more, and remembered.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_AFTER_S = 0.05  # a callback is over by then

_asked = threading.Event()


def listen() -> None:
    """From now on both signals raise KeyboardInterrupt and are remembered. For the main thread of a command."""
    _asked.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.unraisablehook = _raise_again


def _interrupt(number: int, frame: FrameType | None) -> None:
    _asked.set()
    raise KeyboardInterrupt


def _raise_again(dropped: sys.UnraisableHookArgs) -> None:
    """Instead of a traceback on the terminal about an interrupt that Python could not raise where it came."""
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    again = threading.Timer(AGAIN_AFTER_S, _interrupt_main_thread)
    again.daemon = True
    again.start()


def _interrupt_main_thread() -> None:
    if not asked():  # a check was faster: what follows must not be interrupted again
        return
    if hasattr(signal, "pthread_kill"):  # reaches a system call that waits, too
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


def asked() -> bool:
    """Whether there was an interrupt that nobody has answered yet: an error may be what became of it."""
    return _asked.is_set()


def check() -> None:
    """Raises KeyboardInterrupt where one was asked for and has got lost. For loops that wait."""
    if asked():
        raise KeyboardInterrupt


def answered() -> None:
    """Says that what was asked for has been done: from here on errors are errors again."""
    _asked.clear()


@contextmanager
def finishing(say: Callable[[str], None]) -> Iterator[None]:
    """Within it a first Ctrl-C is answered through `say`, and what is being done goes on; a second one interrupts. So
    does SIGTERM, where `listen` has been called.

    For the seconds that a judgement takes, whose loss would cost a whole race. Outside of the main thread, where no
    signals arrive, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, *([signal.SIGTERM] if signal.getsignal(signal.SIGTERM) is _interrupt else [])]
    previous = {number: signal.getsignal(number) for number in numbers}

    def give_back() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def answer(number: int, frame: FrameType | None) -> None:
        give_back()
        say("writing down what was measured; Ctrl-C once more stops that too")

    for number in numbers:
        signal.signal(number, answer)
    try:
        yield
    finally:
        give_back()
