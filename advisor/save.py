"""Writes a recommendation to a folder: adapter config, a script that trains it, everything as JSON, and the report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from advisor.exporters import get_exporter
from advisor.exporters.base import NotExpressible
from advisor.files import discard, names_written, write_text
from advisor.recommendation import SCHEMA_VERSION, Result
from advisor.report.html import write_report
from advisor.training.training_report import REPORT_FILE
from knowledge.errors import BadInput, first_fault

DEFAULT_TARGETS = ("peft", "script")
RESULT_FILE = "recommendation.json"
HTML_FILE = "report.html"

logger = logging.getLogger("advisor")


def save(result: Result, folder: Path, targets: tuple[str, ...] = DEFAULT_TARGETS) -> Result:
    """Writes the files and returns the result with their names in `files`.

    A target that cannot express the recommendation is left out: what adds no adapter has no config of one, and an
    answer without data has no run to write a script for. What an earlier recommendation in that folder had of it goes,
    and what was exported of another run.
    """
    names: list[str] = []
    left_over = _left_over(folder, result)
    if result.pick is not None:
        for target in targets:
            try:
                names += [path.name for path in get_exporter(target).export(folder, result)]
            except NotExpressible:
                continue
    result = result.model_copy(update={"files": (*names, RESULT_FILE, HTML_FILE)})
    for name in sorted(left_over - {*result.files}):
        discard(folder / name)
        logger.warning("%s is no more: it was of another recommendation", folder / name)
    write_text(folder / RESULT_FILE, result.model_dump_json(indent=2) + "\n")
    write_report(folder / HTML_FILE, result, folder)
    return result


def _left_over(folder: Path, result: Result) -> set[str]:
    """The files of an earlier recommendation in that folder that `result` may have no use for."""
    try:
        earlier = load(folder)
    except BadInput:
        return set()
    if _run(earlier) == _run(result):
        return {Path(name).name for name in earlier.files}
    return names_written(folder) - {REPORT_FILE}  # which tells itself what was trained


def _run(result: Result) -> tuple[Any, ...]:
    """What configs and scripts are made of."""
    pick = result.pick
    chosen = pick and (pick.name, pick.learning_rate, pick.peft_config)
    return chosen, result.planned_run, result.training


def load(folder: Path) -> Result:
    """The result that `save` wrote; raises BadInput where there is none or it is of another schema version."""
    path = folder / RESULT_FILE
    if not path.is_file():
        raise BadInput(f"{folder} holds no {RESULT_FILE}. Give the --out folder of an earlier `advisor recommend`.")
    try:
        result = Result.model_validate_json(path.read_text(encoding="utf-8"))
        if result.schema_version != SCHEMA_VERSION:
            raise ValueError(f"it is of version {result.schema_version}")
        return result
    except ValueError as error:
        raise BadInput(
            f"{path} is no recommendation of schema version {SCHEMA_VERSION}: {first_fault(error)}. "
            "It may have been written by another version of advisor: install that, or run `advisor recommend` again."
        ) from None
