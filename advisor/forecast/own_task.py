"""Knows a task again: which runs of the table are of the very data, model and length of run that are asked for."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.versions import library_versions
from knowledge.era import software_era
from knowledge.schema import PlannedRun
from probes.metrics import code_fingerprint

if TYPE_CHECKING:
    from advisor.survey import Survey
    from probes.data.dataset import PreparedData

PIECES, PIECE_BYTES = 16, 1 << 16


def suite_of_survey(survey: Survey) -> str:
    """The name of what is asked for; empty without data."""
    metric = survey.request.metric
    return suite_name(survey.data, survey.model.location, survey.planned_run, metric) if survey.data else ""


def benchmark_of_survey(survey: Survey) -> str:
    """The name under which runs of it, made with the software that is here, stand in the benchmark table."""
    return f"{suite_of_survey(survey)}/{software_era(library_versions())}"


def suite_name(data: PreparedData, model: str, run: PlannedRun, metric: str | None) -> str:
    """Names the task of a run: runs of one name end at losses and metrics that compare. Data, held-out rows, model, the
    length of the run and the code of an own metric are part of it; seed, precision and device are not.

    Two local models of one name differ by their weights, wherever they lie. The name tells the data file's and the
    model's own names and a hash, no rows and no folders.
    """
    content = hashlib.sha256()
    for array in data.eval.arrays.values():
        content.update(array.tobytes())
    content.update(repr(_weights(Path(model))).encode())
    defined_by = (
        *(data.profile.rows, data.profile.duplicate_rows, run.task, run.max_steps, run.rows_per_step),
        *(run.max_length_tokens, run.scheduler, run.warmup_fraction, run.max_grad_norm, run.quantization),
        # Without these, names are as they were before there were any.
        *filter(None, [data.profile.content_key, code_fingerprint(metric)]),
    )
    content.update(repr(defined_by).encode())
    return f"{_short(Path(data.profile.path).stem)}-{content.hexdigest()[:8]}/{_short(Path(model).name)}"


def _weights(place: Path) -> list[tuple[int, str]]:
    """Size and hash of pieces of each file of weights: all of them would take seconds. Nothing for an id of the hub."""
    files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    return [(file.stat().st_size, _hash_of_pieces(file)) for file in files]


def _hash_of_pieces(path: Path) -> str:
    content, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        for i in range(PIECES):
            file.seek(max(0, (size - PIECE_BYTES) * i // (PIECES - 1)))
            content.update(file.read(PIECE_BYTES))
    return content.hexdigest()


def _short(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:40].lower() or "data"
