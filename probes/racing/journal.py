"""The append-only record of a race: what was measured survives any death of the process.

One JSON object per line, written through to the disk. A crash can only cut the last line; the next opening drops
the torn tail before anything is appended, so that no later record is lost behind it. One race at a time may hold
a journal.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from knowledge.errors import BadInput, DiskFull, first_fault
from knowledge.schema import Curve, CurvePoint
from probes.schema import ProbeOutcome

FORMAT_VERSION = 1
_BEFORE_THE_FIRST_PROBE = (b'{"journal"', b'{"plan"', b'{"device"')  # how the lines of these records begin


class InUse(BadInput):
    """Another process is writing to the folder."""


class OtherRace(BadInput):
    """The journal is of a race with another model, data, metric or planned run."""


def is_in_use(path: Path) -> bool:
    """Whether a process holds the journal in `path`, which need not exist yet."""
    lock = _lock(path)
    if not Path(lock.lock_file).exists():
        return False  # and taking the lock would make the file
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def check_free(path: Path, *, resume: bool) -> None:
    """Raises what opening the journal in `path` would, before anything costly is done for it: InUse where a process
    holds it, BadInput where a race is there that is not to be resumed."""
    if is_in_use(path):
        raise _taken(path)
    if not resume and _is_race(path):
        raise _already_there(path)


def _is_race(path: Path) -> bool:
    """Whether anything was measured, or is there that nobody here wrote. What a race decides before that is nothing to
    lose: as where its model could not be loaded."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return any(line.strip() and not line.startswith(_BEFORE_THE_FIRST_PROBE) for line in file)


def _already_there(path: Path) -> BadInput:
    return BadInput(f"{path.parent} already holds a race. Continue it with --resume, or give another --out folder.")


def _taken(path: Path) -> InUse:
    return InUse(f"Another race is writing to {path.parent}. Wait for it to end, or give another --out folder.")


def _lock(path: Path) -> FileLock:
    """The lock of the journal in `path`."""
    return FileLock(path.with_suffix(".lock"))


class Journal:
    """Measurements of one race in `path`, keyed by candidate id. Use as a context manager: it holds a lock.

    `fingerprint` names what the measurements depend on beside the candidate (model, data, seed ...). A journal of
    another fingerprint is refused rather than mixed in or overwritten. With `read_only` nothing is written, no lock
    taken and nothing made of what is not there: what is added lasts as long as the object.
    """

    def __init__(self, path: Path, fingerprint: str, *, resume: bool, read_only: bool = False) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.curves: dict[str, Curve] = {}
        self.outcomes: dict[str, list[ProbeOutcome]] = {}
        self.plans: dict[str, Any] = {}
        """What was decided before the race began, as JSON by what it was decided for."""
        self.device = ""
        """The kind of device that the probes ran on; '' where none is on record."""
        self.probing_s = 0.0
        """Wall time that probes took, in this call and in those before, had all workers been busy all the time."""
        self._resume, self._read_only = resume, read_only
        self._lock = _lock(path)
        self._file: Any = None

    def __enter__(self) -> Journal:
        if self._read_only:
            if self._resume and _is_race(self.path):
                self._read()
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise _taken(self.path) from None
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._read_only:
            return
        self._file.close()
        self._lock.release()

    def goes_on_with(self, device: str) -> None:
        """Keeps the kind of `device` that probes run on. Raises BadInput where those on record ran on another kind,
        whose memory, times and rounding cannot be compared."""
        if self.device and self.device != device:
            raise BadInput(
                f"The probes in {self.path.parent} ran on {self.device!r}, and here they would on {device!r}: what was "
                "measured cannot be compared. Go on where the race began, or give another --out folder."
            )
        if not self.device:
            self.device = device
            self._write({"device": device})

    def add_point(self, id: str, point: CurvePoint, metric_name: str) -> None:
        self._remember_point(id, point, metric_name)
        self._write({"point": point.model_dump(mode="json"), "id": id, "metric_name": metric_name})

    def add_outcome(self, outcome: ProbeOutcome, workers: int = 1) -> None:
        """workers: how many there were when it was found."""
        self._remember_outcome(outcome, workers)
        self._write({"outcome": outcome.model_dump(mode="json"), "workers": workers})

    def add_plan(self, decided_for: str, plan: Any) -> None:
        """Keeps a plan, so that a race that is resumed goes by the one that it began with: plans depend on how fast
        the machine was found to be, which is never twice the same."""
        self.plans[decided_for] = plan
        self._write({"plan": plan, "decided_for": decided_for})

    def _open(self) -> None:
        if not self._resume:
            if _is_race(self.path):
                raise _already_there(self.path)
            self.path.unlink(missing_ok=True)
        elif self.path.exists() and self.path.stat().st_size > 0:
            intact = self._read()
            with self.path.open("r+b") as file:
                file.truncate(intact)
        # Unbuffered: what a full disk refuses must not come again at the next write or when the file is closed.
        self._file = self.path.open("ab", buffering=0)
        if self.path.stat().st_size == 0:
            self._write({"journal": FORMAT_VERSION, "fingerprint": self.fingerprint})

    def _read(self) -> int:
        """Takes in all whole lines and returns the length in bytes of what is intact."""
        *lines, torn = self.path.read_bytes().split(b"\n")
        intact = 0
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                if number == 1:
                    self._check_header(record)
                else:
                    self._take(record)
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                if number == len(lines) > 1 and not torn:
                    break  # garbage at the very end, as a power cut may leave it
                raise BadInput(
                    f"{self.path}, line {number}, is damaged: {first_fault(error)}. "
                    "Remove that line, or give another --out folder."
                ) from error
            intact += len(line) + 1
        return intact

    def _check_header(self, record: dict[str, Any]) -> None:
        if record.get("journal") != FORMAT_VERSION or record.get("fingerprint") != self.fingerprint:
            raise OtherRace(
                f"{self.path} belongs to a race with another model, data, metric or planned run. "
                "Repeat that request to resume it, or give another --out folder."
            )

    def _take(self, record: dict[str, Any]) -> None:
        if "point" in record:
            self._remember_point(record["id"], CurvePoint.model_validate(record["point"]), record["metric_name"])
        elif "outcome" in record:
            self._remember_outcome(ProbeOutcome.model_validate(record["outcome"]), record.get("workers", 1))
        elif "device" in record:
            self.device = record["device"]
        elif "plan" in record:
            self.plans[record["decided_for"]] = record["plan"]

    def _remember_outcome(self, outcome: ProbeOutcome, workers: int) -> None:
        self.outcomes.setdefault(outcome.id, []).append(outcome)
        self.probing_s += outcome.duration_s / workers

    def _remember_point(self, id: str, point: CurvePoint, metric_name: str) -> None:
        # A probe that had to start over repeats its first points: the newer measurement of a step replaces the older.
        # One that goes on at a point evaluates it once more, without the training that led there.
        points = self.curves.get(id, Curve()).points
        kept = [p for p in points if p.step != point.step]
        if point.train_loss is None and len(kept) < len(points):
            before = next(p for p in points if p.step == point.step)
            point = point.model_copy(update={"train_loss": before.train_loss})
        self.curves[id] = Curve(points=tuple(sorted([*kept, point], key=lambda p: p.step)), metric_name=metric_name)

    def _write(self, record: dict[str, Any]) -> None:
        if self._read_only:
            return
        left = (json.dumps(record, allow_nan=False) + "\n").encode()
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno not in DiskFull.ERRNOS:
                raise
            raise DiskFull(
                f"No room for {self.path}: {error.strerror}. Make some, then go on from here with --resume."
            ) from error
