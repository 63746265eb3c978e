"""Readers of published result files. One module per outside format, found by pkgutil: the only place to add one.

A module offers `recognises(content) -> bool` and `read(content) -> RunRecord`; both get the parsed JSON of one file.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from knowledge.errors import BadInput, first_fault
from knowledge.schema import RunRecord


class NotARun(ValueError):
    """The file holds no finished run; the message says why in words."""


class Importer(Protocol):
    """What each module of this package offers."""

    FORMAT: str

    def recognises(self, content: Any) -> bool:
        """Whether this importer is made for the content. Must not raise, whatever the JSON holds."""

    def read(self, content: Any) -> RunRecord:
        """The run as a record. Raises NotARun with the reason where there is none."""


@dataclass
class ImportReport:
    """What a folder held: records in order of their files, and every file that was left out with the reason."""

    records: list[RunRecord] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)


@contextmanager
def as_not_a_run() -> Iterator[None]:
    """Turns whatever broken content makes of a reader into NotARun, with the reason in words."""
    try:
        yield
    except KeyError as error:
        raise NotARun(f"field {error} is missing") from None
    except ValidationError as error:
        raise NotARun(first_fault(error)) from None
    except (TypeError, AttributeError, ValueError, LookupError, ArithmeticError) as error:
        raise NotARun(str(error)) from None


def importers() -> Iterator[Importer]:
    """All importers, in alphabetical order of their modules."""
    for module in pkgutil.iter_modules(__path__):
        yield import_module(f"{__name__}.{module.name}")


def import_folder(folder: Path) -> ImportReport:
    """Reads every JSON file below `folder`. A file that cannot be used is counted with its reason, never fatal.

    Raises BadInput where the folder is missing or holds no JSON file at all.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder. Give a folder with result files (*.json, searched below it too).")
    paths = sorted(folder.rglob("*.json"))
    if not paths:
        raise BadInput(f"{folder} holds no *.json file. Give a folder with result files, e.g. a suite's 'results'.")
    return import_files(paths, folder)


def import_files(paths: Iterable[Path], folder: Path) -> ImportReport:
    """Reads the files, which lie below `folder`: what is left out is named from there."""
    report = ImportReport()
    known = list(importers())
    for path in paths:
        try:
            report.records.append(_read(path, known))
        except NotARun as error:
            report.rejected[str(path.relative_to(folder))] = str(error)
    return report


def _read(path: Path, known: list[Importer]) -> RunRecord:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, numbers without end
        raise NotARun(f"not readable as JSON: {error}") from None
    for importer in known:
        if importer.recognises(content):
            return importer.read(content)
    raise NotARun(f"not a known result format (known: {', '.join(i.FORMAT for i in known)})")
