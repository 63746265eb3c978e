"""Starts `advisor` and its workers in milliseconds: a process that has imported everything forks itself for each.

    python -m tests.zygote SOCKET            the process; prints a line when it is ready
    python tests/zygote.py SOCKET            as the command of a worker: becomes one, and ends as it ends

What is forked has the standard streams, the environment and the folder of whoever asked, in a session of its own, and
is killed for real by the tests, like any process. A worker by itself takes six seconds of a core to import.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STREAMS = (0, 1, 2)
MODULES = (
    "peft",  # with bitsandbytes, which brings torch's compiler
    "sklearn.ensemble",
    "transformers.core_model_loading",
    "transformers.generation.utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llama.tokenization_llama",
    "probes.adapters",
    "probes.checkpoint",
    "probes.data.dataset",
    "probes.evaluation",
    "probes.forgetting",
    "probes.latency",
    "probes.memory",
    "probes.session",
    "probes.training",
    "probes.worker",
)


@contextmanager
def running() -> Iterator[str]:
    """A zygote; gives the path of the socket at which it listens."""
    with tempfile.TemporaryDirectory(prefix="advisor-zygote-") as folder:
        path = f"{folder}/socket"
        command = [sys.executable, "-m", "tests.zygote", path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout and process.stdout.readline() == "ready\n"
            try:
                yield path
            finally:
                process.terminate()


def worker_command(path: str) -> list[str]:
    """What starts a worker that the zygote at `path` forks."""
    return [sys.executable, "-S", __file__, path]


class Started:
    """A process that the zygote forked."""

    def __init__(self, path: str, request: dict, streams: tuple[int, int, int] = STREAMS) -> None:
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(path)
        request = request | {
            "environment": dict(os.environ) | request.get("environment", {}),
            "folder": str(Path.cwd()),
        }
        socket.send_fds(self._connection, [json.dumps(request).encode()], streams)
        self.pid = int(self._connection.recv(64))

    def wait(self) -> int:
        """Its exit code; minus the number of the signal that killed it."""
        return int(self._connection.recv(64))


def run_advisor(path: str, arguments: list[str], folder: Path, environment: dict) -> subprocess.CompletedProcess:
    """`advisor ARGUMENTS`, ended; what it said lies in `folder` too."""
    output, messages = folder / "stdout.txt", folder / "stderr.txt"
    with output.open("w") as out, messages.open("w") as err, Path(os.devnull).open() as nothing:
        request = {"role": "advisor", "arguments": arguments, "environment": environment}
        request |= {"worker": worker_command(path), "begun": str(folder / "begun")}
        code = Started(path, request, (nothing.fileno(), out.fileno(), err.fileno())).wait()
    return subprocess.CompletedProcess(arguments, code, output.read_text(), messages.read_text())


def serve(path: str) -> None:
    _import_everything()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(path)
    server.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _start(connection)
            os._exit(0)
        connection.close()


def _import_everything() -> None:
    """What a worker or a race imports on its way: imported once here, it is there in every process that is forked."""
    for module in MODULES:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is there is neither looked through again nor, for that, copied


def _start(connection: socket.socket) -> None:
    """Forks what was asked for, tells its process id, waits, and tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, *_ = socket.recv_fds(connection, 1 << 20, 3)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(json.loads(message), streams)
    for stream in streams:
        os.close(stream)
    connection.send(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict, streams: list[int]) -> None:
    os.setsid()
    for number, stream in zip(STREAMS, streams, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode) for n, mode in zip(STREAMS, "rww", strict=True))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    code = 1
    try:
        from tests.faults import roles

        roles.ROLES[request["role"]](request)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(BrokenPipeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def stand_for_a_worker(path: str) -> None:
    """Waits for the worker that was forked in its place, and ends in the same way."""
    code = Started(path, {"role": "worker"}).wait()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    if __spec__ is None:
        stand_for_a_worker(sys.argv[1])
    else:
        serve(sys.argv[1])
