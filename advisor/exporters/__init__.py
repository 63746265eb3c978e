"""Configs and scripts for trainers: one file per target, found by pkgutil. A new target is a new file here.

An exporter file defines
    NAME    what `--to` takes
    TITLE   as people write it
    export(folder, result) -> list of the paths written; raises NotExpressible where the target cannot say it

Exporters read the canonical PEFT config (the keys of adapter_config.json), the PlannedRun and the TrainingPlan, never
a method's name: so a new method needs no change here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from advisor.exporters.base import NotExpressible
from advisor.recommendation import Result
from knowledge.errors import BadInput, did_you_mean

__all__ = ["Exporter", "NotExpressible", "all_exporters", "get_exporter"]


@dataclass(frozen=True)
class Exporter:
    name: str
    title: str
    export: Callable[[Path, Result], list[Path]]


def all_exporters() -> dict[str, Exporter]:
    """Every exporter by its name."""
    found = {}
    for entry in pkgutil.iter_modules(__path__):
        if entry.name == "base" or entry.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{entry.name}")
        found[module.NAME] = Exporter(module.NAME, module.TITLE, module.export)
    return found


def get_exporter(name: str) -> Exporter:
    """The exporter of that name. Raises BadInput with the near names where there is none."""
    exporters = all_exporters()
    if (known := name.strip().lower()) not in exporters:
        raise BadInput(f"There is no export target {name!r}. {did_you_mean(known, list(exporters))}")
    return exporters[known]
