"""A small model and data, and `advisor` on them as a process that things can be done to."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests import zygote
from tests.advisor.tiny_run import save_tiny, write_rows
from tests.probes import stub_worker

REQUEST = ("--budget", "30", "--max-steps", "40", "--batch-size", "8", "--workers", "2", "--quiet")
METHODS = ("lora", "ia3", "ln-tuning")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data") / "sums.jsonl", "causal-lm")


class Advisor:
    """One `advisor` command that runs."""

    def __init__(self, zygote_path: str, arguments: list, folder: Path, environment: dict, **settings) -> None:
        self.output, self.messages, begun = (folder / name for name in ("stdout.txt", "stderr.txt", "begun"))
        begun.unlink(missing_ok=True)
        with self.output.open("w") as output, self.messages.open("w") as messages, Path(os.devnull).open() as nothing:
            streams = (nothing.fileno(), output.fileno(), messages.fileno())
            request = {"role": "advisor", "arguments": [str(a) for a in arguments], "environment": environment}
            self._process = zygote.Started(zygote_path, request | {"begun": str(begun)} | settings, streams)
        self.pid = self._process.pid
        while not begun.exists():
            time.sleep(0.005)

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):  # it may have ended by itself just before
            os.kill(self.pid, signal_number)

    def wait(self) -> int:
        return self._process.wait()

    def wait_until(self, condition) -> None:
        """Or until it has ended, or for a minute."""
        until = time.monotonic() + 60
        while not condition() and _is_running(self.pid) and time.monotonic() < until:
            time.sleep(0.01)

    @property
    def said(self) -> str:
        return self.output.read_text() + self.messages.read_text()


class Bench:
    """Starts `advisor recommend` on the small model, each time in the folder `out`, and looks at what came of it."""

    def __init__(self, zygote_path, model, data, folder: Path) -> None:
        self.zygote_path, self.model, self.data, self.folder = zygote_path, model, data, folder
        self.out, self.pids = folder / "out", folder / "pids"
        self.real_worker = zygote.worker_command(zygote_path)

    def stub(self, seconds: float = 0.0) -> list[str]:
        return [sys.executable, "-S", stub_worker.__file__, f"pids={self.pids}", f"seconds={seconds}"]

    def start(self, *options, worker=None, methods=METHODS, out=None, faults=None, **settings) -> Advisor:
        arguments = ["recommend", "--model", self.model, "--data", self.data, "--out", out or self.out, *REQUEST]
        arguments += [word for method in methods for word in ("--methods", method)]
        environment = {"ADVISOR_TEST_FAULTS": json.dumps(faults or {}), "ADVISOR_TEST_PIDS": str(self.pids)}
        return Advisor(
            self.zygote_path,
            [*arguments, *options],
            self.folder,
            environment,
            worker=worker or self.real_worker,
            **settings,
        )

    def run(self, *options, **settings) -> Advisor:
        advisor = self.start(*options, **settings)
        advisor.code = advisor.wait()
        return advisor

    def result(self, out=None) -> dict:
        return json.loads(((out or self.out) / "recommendation.json").read_text())

    def journal(self, out=None) -> list[dict]:
        """The records that were written whole."""
        path = (out or self.out) / "journal.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def workers_running(self) -> list[int]:
        """Process ids of workers that are still there a moment later."""
        pids = [int(pid) for pid in self.pids.read_text().split()] if self.pids.exists() else []
        for _ in range(50):
            if not (pids := [pid for pid in pids if _is_running(pid)]):
                break
            time.sleep(0.1)
        return pids


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def bench(zygote_path, model, data, tmp_path):
    return Bench(zygote_path, model, data, tmp_path)


def found(result: dict) -> dict:
    """What of a result another race of the same request finds too: everything but times and measured memory."""
    candidates = {
        (c["name"], c["learning_rate"]): (
            c["status"],
            [{key: value for key, value in point.items() if key != "elapsed_s"} for point in c["curve"]["points"]],
            c["predicted_loss"],
            c["forgetting"],
        )
        for c in result["candidates"]
    }
    decision = result["recommendation"]
    return {"candidates": candidates, "pick": (decision["name"], decision["learning_rate"])}
