"""Traces are kept in memory and on disk, and so is what their replay says of a whole run: an equal run on equal library
versions is traced and replayed once. What comes with the package (knowledge/dry_runs.py) need not be even that.

A trace is stored as arrays in one .npz file without pickled objects, an estimate as JSON, in the cache folder. A file
that cannot be read counts as absent; a folder that cannot be written costs only the time of doing it again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache as memoize
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np

from knowledge.dry_runs import known_estimate
from knowledge.schema import MemoryEstimate, PlannedRun
from probes.cache_folder import cache_folder
from probes.memory.bases import config_facts
from probes.memory.template import Length, Step, Template

LIBRARIES = ("torch", "transformers", "peft")
# What of a planned run changes a traced step; the rest concerns how many steps there are.
TRACED_FIELDS = ("task", "batch_size", "dtype", "quantization", "gradient_checkpointing")

_in_memory: dict[str, Template] = {}


def key(config: Any, run: PlannedRun, lengths: Sequence[Length], **settings: Any) -> str:
    """'RUN-CODE': hashes of what is traced - the model, the run, the settings - and of what traces it."""
    traced = {
        "config": config_facts(config),
        "run": {name: getattr(run, name) for name in TRACED_FIELDS},
        "accumulates": run.gradient_accumulation_steps > 1,
        "lengths": lengths,
        "settings": settings,
    }
    return f"{_hash(traced)}-{code_hash()}"


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_json_stand_in).encode()).hexdigest()[:32]


def fetch(key: str, trace: Callable[[], Template]) -> Template:
    """The template of that key, traced now if it is not known yet."""
    template = _in_memory.get(key)
    if template is None:
        path = _path(key, ".npz")
        template = _read(path)
        if template is None:
            template = trace()
            _write(path, template)
        _in_memory[key] = template
    return template


def fetch_estimate(key: str, replay: Callable[[], MemoryEstimate]) -> MemoryEstimate:
    """The estimate of that key, replayed now if it is not known yet."""
    if known := known_estimate(key.partition("-")[0], traced_versions()):
        return known
    path = _path(key, ".json")
    with suppress(OSError, ValueError):  # pydantic's errors are ValueErrors
        return MemoryEstimate.model_validate_json(path.read_text(encoding="utf-8"))
    estimate = replay()
    with suppress(OSError), _whole_or_not_at_all(path) as file:
        file.write(estimate.model_dump_json().encode())
    return estimate


def estimates_of_this_code() -> dict[str, MemoryEstimate]:
    """The estimates in the cache folder that this very code made, by the hash of their run."""
    paths = sorted((cache_folder() / "memory").glob(f"*-{code_hash()}.json"))
    return {p.stem.partition("-")[0]: MemoryEstimate.model_validate_json(p.read_text(encoding="utf-8")) for p in paths}


def _path(key: str, suffix: str) -> Path:
    return cache_folder() / "memory" / f"{key}{suffix}"


@contextmanager
def _whole_or_not_at_all(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that appears under its name when all is written: readers see a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        temporary = Path(file.name)
        try:
            yield file
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    temporary.replace(path)


def _json_stand_in(value: Any) -> Any:
    """A JSON stand-in for what JSON does not know; functions count by where they are defined and what they are
    bound to."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if callable(value):
        bound_to = getattr(value, "__self__", None)
        return [value.__module__, value.__qualname__, repr(bound_to)]
    return str(value)


def traced_versions() -> dict[str, str]:
    """Of the libraries whose code is traced."""
    return {name: version(name) for name in LIBRARIES}


@memoize
def code_hash() -> str:
    """Of the code that makes traces, ours and the libraries': what it traced before it changed must not be read."""
    folder = Path(__file__).parent
    sources = [*sorted(folder.glob("*.py")), folder.parent / "forward.py", folder.parent / "adapters.py"]
    return _hash(
        {
            "sources": [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources],
            "versions": traced_versions() | {"peft-advisor": version("peft-advisor")},
        }
    )


def _read(path: Path) -> Template | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            steps = tuple(
                Step(**{field: stored[f"step{i}_{field}"] for field in Step.__dataclass_fields__})
                for i in range(facts["steps"])
            )
            return Template(
                stored["persistent_bytes"],
                stored["persistent_kinds"],
                steps,
                tuple(map(tuple, facts["exponents"])),
                facts["loader_bytes"],
                tuple(facts["notes"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _write(path: Path, template: Template) -> None:
    facts = {
        "steps": len(template.steps),
        "exponents": template.exponents,
        "loader_bytes": template.loader_bytes,
        "notes": template.notes,
    }
    arrays = {
        f"step{i}_{field}": getattr(step, field)
        for i, step in enumerate(template.steps)
        for field in Step.__dataclass_fields__
    }
    with suppress(OSError), _whole_or_not_at_all(path) as file:
        np.savez_compressed(
            file,
            facts=json.dumps(facts),
            persistent_bytes=template.persistent_bytes,
            persistent_kinds=template.persistent_kinds,
            **arrays,
        )
