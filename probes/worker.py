"""The process that trains: reads jobs as JSON lines from stdin, writes events as JSON lines to stdout.

    python -m probes.worker

A process of its own, because a probe may run out of memory, be killed or hang, and none of that may touch the
race. JSON lines over pipes, because they need no pickling, no import of the caller's main module, and can be read
by a person. Messages in: {"context": ...} once, then {"job": ...}; end of input ends the worker, at once, for it means
that nobody waits for it any more. Messages out: {"baseline": ...}, {"step": ...}, {"point": ...}, {"outcome": ...},
{"fatal": ...}.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
from typing import Any, TextIO

from knowledge.errors import AdvisorError
from probes.schema import ProbeContext, ProbeJob


def words_of(error: Exception) -> str:
    """What is told of an error: the message where it is made for users, else with its kind."""
    return str(error) if isinstance(error, AdvisorError) else f"{type(error).__name__}: {error}"


def main() -> int:
    events = _claim_stdout()
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides

    def send(**message: Any) -> None:
        events.write(json.dumps(message, allow_nan=False) + "\n")
        events.flush()

    messages = _inbox()
    try:
        from probes.session import Session

        session = Session(ProbeContext.model_validate(messages.get()["context"]))
        send(baseline=session.baseline().model_dump(mode="json"))
    except Exception as error:
        send(fatal=words_of(error))
        raise  # the traceback goes to the worker's log
    while True:
        job = ProbeJob.model_validate(messages.get()["job"])
        outcome = session.run(
            job,
            on_step=lambda id, step, loss: send(step={"id": id, "step": step, "loss": loss}),
            on_point=lambda id, point: send(point={"id": id, **point.model_dump(mode="json")}),
        )
        send(outcome=outcome.model_dump(mode="json"))
        if outcome.status in ("failed", "out of memory"):
            return 0  # a fresh process for the next probe: memory and libraries may be in any state


def _inbox() -> queue.SimpleQueue[dict[str, Any]]:
    """What comes in, read beside the training, so that an orphan sees the end of its input while it trains."""
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    lines = os.fdopen(os.dup(0), "rb", buffering=0)  # without the lock of sys.stdin, which the end of a process needs

    def read() -> None:
        for line in lines:
            messages.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return messages


def _claim_stdout() -> TextIO:
    """Keeps stdout for events alone: whatever libraries print goes to stderr, the worker's log."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _die_with_parent() -> None:
    """On Linux the kernel kills this process when its parent dies (prctl(2), PR_SET_PDEATHSIG), even one that hangs;
    elsewhere the end of its input has to do."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
