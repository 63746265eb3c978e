"""Putting tables of runs together: the same run is taken once, and none is overwritten in silence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from knowledge.schema import RunRecord


@dataclass(frozen=True)
class MergeReport:
    """How many records a merge added and found already there; `conflicts` names those of which the stored one differs,
    which stay as they are unless they are to be replaced."""

    added: int
    unchanged: int
    conflicts: tuple[str, ...]


def record_id(record: RunRecord) -> str:
    """Twelve hex digits that name one run: its benchmark, its experiment and the moment it was made."""
    key = "\n".join((record.benchmark, record.experiment, record.created_at))
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def merged(
    stored: Mapping[str, RunRecord], new: Iterable[RunRecord], replace: bool
) -> tuple[list[RunRecord], MergeReport]:
    """The records to be written over those that are `stored` under their ids, and what was done with each.

    A stored record that differs from a new one of the same id stays as it is, unless `replace`.
    """
    written: dict[str, RunRecord] = {}
    added, unchanged, conflicts = 0, 0, []
    for record in new:
        key = record_id(record)
        known = written.get(key) or stored.get(key)
        if known == record:
            unchanged += 1
            continue
        if known is None:
            added += 1
        else:
            conflicts.append(f"{record.benchmark}: {record.experiment} ({record.created_at})")
            if not replace:
                continue
        written[key] = record
    return list(written.values()), MergeReport(added, unchanged, tuple(conflicts))
