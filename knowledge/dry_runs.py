"""Memory estimates of well-known models at default settings, worked out beforehand.

With them the first answer about such a model takes seconds, not a minute of dry runs. Each is what
`probes.memory.estimate_peak` says under exactly these versions of the libraries; under others, and for every other run,
the dry run is done. The file is written by `python -m tests.contracts.write_dry_runs`, and held against fresh dry runs
by tests/contracts/test_dry_runs.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from knowledge.schema import MemoryEstimate, Record

DRY_RUNS = "dry_runs.json"


class DryRuns(Record):
    """The file. `estimates` are kept as JSON objects: of a thousand, an answer wants ten."""

    versions: Mapping[str, str]
    estimates: Mapping[str, Mapping[str, Any]]


def known_estimate(run: str, versions: Mapping[str, str]) -> MemoryEstimate | None:
    """The stored estimate of the run of that hash (see probes/memory/cache.py), if it was made with these versions.

    A local part of a version ('+cu130') names how a library was built, not what it does, so it does not count.
    """
    stored = _stored()
    found = stored.estimates.get(run)
    if found is None or any(_public(versions[name]) != made_with for name, made_with in stored.versions.items()):
        return None
    return MemoryEstimate.model_validate(found)


def as_file(estimates: Mapping[str, MemoryEstimate], versions: Mapping[str, str]) -> str:
    """The content of the file, one line for each estimate."""
    lines = [f"{json.dumps(run)}: {estimates[run].model_dump_json(exclude_defaults=True)}" for run in sorted(estimates)]
    made_with = json.dumps({name: _public(version) for name, version in versions.items()})
    return f'{{"versions": {made_with},\n"estimates": {{\n' + ",\n".join(lines) + "\n}}\n"


@cache
def _stored() -> DryRuns:
    return DryRuns.model_validate_json(files("knowledge").joinpath("data", DRY_RUNS).read_text(encoding="utf-8"))


def _public(version: str) -> str:
    return version.partition("+")[0]
