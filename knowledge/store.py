"""The user's own table of finished runs: one SQLite file in the user's data folder. Nothing is sent anywhere.

SQLite because several programs may write at once and none may lose what another wrote, and because a crash in the
middle of writing leaves either all of it or nothing. A record is kept as JSON under its id; what is asked for by SQL
is the id alone. Tables to share and to ship are JSON lines (knowledge/table.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import ValidationError

from knowledge.errors import BadInput, first_fault
from knowledge.schema import RunRecord
from knowledge.table_merge import MergeReport, merged, record_id

STORE_FILE = "runs.sqlite3"
LAYOUT = 1
WAIT_S = 30.0  # for another program that writes at this moment


class RunStore:
    """The runs in one SQLite file, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def runs(self) -> tuple[RunRecord, ...]:
        """All runs in the order of their ids; none where there is no file. Raises BadInput where it is no store."""
        if not self.path.exists():
            return ()
        with self._open() as connection:
            return tuple(self._read(connection).values())

    def add(self, new: Iterable[RunRecord], replace: bool = False) -> MergeReport:
        """Adds runs, so that adding the same ones again changes nothing.

        A stored run that differs from a new one of the same id stays and is reported, unless `replace`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")  # what is read now is not changed by others until it is written
            changed, report = merged(self._read(connection), new, replace)
            connection.executemany(
                "INSERT OR REPLACE INTO runs (id, record) VALUES (?, ?)",
                [(record_id(record), record.model_dump_json(exclude_defaults=True)) for record in changed],
            )
            connection.commit()
        return report

    def _read(self, connection: sqlite3.Connection) -> dict[str, RunRecord]:
        found = {}
        for id, text in connection.execute("SELECT id, record FROM runs ORDER BY id"):
            try:
                found[id] = RunRecord.model_validate_json(text)
            except ValidationError as error:
                raise BadInput(
                    f"{self.path}: run {id} is no record that this version reads: {first_fault(error)}. "
                    "A newer advisor may have written it: update, or move the file aside."
                ) from None
        return found

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)) as connection:
                self._prepare(connection)
                yield connection
        except sqlite3.Error as error:
            raise BadInput(
                f"{self.path} cannot be used as the table of your own runs: {error}. "
                "Move it aside, or name another folder in ADVISOR_DATA_DIR."
            ) from None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if layout > LAYOUT:
            raise BadInput(
                f"{self.path} was written by a newer advisor (layout {layout}, this one knows {LAYOUT}): update it, or "
                "name another folder in ADVISOR_DATA_DIR."
            )
        if layout < LAYOUT:
            connection.execute("CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, record TEXT NOT NULL)")
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
