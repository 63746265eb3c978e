"""The end of the Ray executor that lives on a node: an actor with a local executor of one worker process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from probes import checkpoint
from probes.executors.base import Event
from probes.executors.process import ProcessExecutor
from probes.forgetting import TEXTS_FILE
from probes.schema import ProbeContext, ProbeJob

# What decides the figures of a probe: they are compared across nodes.
VERSIONS_OF = ("peft-advisor", "torch", "transformers", "peft")

# An event, and the file that goes with it: the base model's texts with a baseline, the checkpoint with an outcome.
Heard = tuple[Event, bytes | None]


def installed_versions() -> dict[str, str]:
    """Versions of what decides the figures of a probe, on this machine."""
    return {name: version(name) for name in VERSIONS_OF}


class Seat:
    """One worker process, in a temporary folder with its own copy of the prepared data. `data` holds the content of
    its files by their paths, `versions` what is installed where the race is conducted."""

    def __init__(
        self,
        context: ProbeContext,
        data: Mapping[str, bytes],
        versions: Mapping[str, str],
        command: Sequence[str] | None,
    ) -> None:
        self._root = tempfile.TemporaryDirectory(prefix="advisor-seat-")
        folder = Path(self._root.name)
        for path, content in data.items():
            (folder / "data" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "data" / path).write_bytes(content)
        self._context = context.model_copy(
            update={"data_folder": str(folder / "data"), "work_folder": str(folder)},
        )
        self._executor = ProcessExecutor(1, command=command)
        self._fault = _differences(versions, installed_versions())
        if not self._fault:
            self._executor.start(self._context)

    def work(self, for_s: float, job: ProbeJob | None = None, stored: bytes | None = None) -> list[Heard]:
        """What happens within about `for_s` seconds, or until a job has ended. With `job` that is begun first, from
        the checkpoint whose content is `stored`, if there is one."""
        if self._fault:
            return [(Event(0, fatal=self._fault), None)]
        if job:
            self._lay_down(job.id, stored)
            self._executor.submit(job)
        heard: list[Heard] = []
        until = time.monotonic() + for_s
        for event in self._executor.events(timeout_s=for_s):
            heard.append((event, self._file_of(event)))
            if event.outcome or event.baseline or time.monotonic() > until:
                break
        return heard

    def close(self) -> None:
        """Ends the worker process and clears up."""
        self._executor.close()
        self._root.cleanup()

    def _checkpoint_of(self, id: str) -> Path:
        return Path(self._context.work_folder) / id / checkpoint.FILE

    def _lay_down(self, id: str, stored: bytes | None) -> None:
        path = self._checkpoint_of(id)
        path.unlink(missing_ok=True)  # of an earlier try here, whose end nobody heard of
        if stored is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stored)

    def _file_of(self, event: Event) -> bytes | None:
        if event.baseline:
            path = Path(self._context.data_folder) / TEXTS_FILE
        elif event.outcome:
            path = self._checkpoint_of(event.outcome.id)
        else:
            return None
        return path.read_bytes() if path.exists() else None


def _differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Words for what is installed otherwise here; '' where all is equal."""
    other = [f"{name} {found[name]} instead of {wanted[name]}" for name in wanted if found[name] != wanted[name]]
    return f"this node has {', '.join(other)}: install the same versions on all nodes" if other else ""
