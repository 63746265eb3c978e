"""What measuring brings to light: device, model, data, and the jobs and events of probes.

Like knowledge/schema.py, importing this costs nothing: no torch, no transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from knowledge.schema import Record


class DatasetProfile(Record):
    """What the training data looks like, after formatting and tokenising with the model's tokenizer."""

    path: str
    format: str = Field(description="detected or given format, e.g. 'prompt-completion'")
    rows: int
    usable_rows: int = Field(description="rows left after the filters in `dropped`")
    train_rows: int
    eval_rows: int
    duplicate_rows: int
    length_p50_tokens: int
    length_p95_tokens: int
    length_max_tokens: int
    label_p50_tokens: int
    label_total_tokens: int
    dropped: Mapping[str, int] = Field(default_factory=dict, description="why rows were left out, with counts")
    metric_name: str = Field(description="exact match, accuracy or token accuracy: what suits the labels")


class ModelReport(Record):
    """The model as it was found."""

    reference: str = Field(description="as the user gave it")
    source: Literal["hub", "local folder", "gguf file", "known architecture"]
    location: str
    model_type: str
    parameters: int
    task: str


class ProcessReport(Record):
    pid: int
    name: str
    used_bytes: int | None


class DeviceReport(Record):
    """The device that trains, or the one that is planned for."""

    kind: Literal["cuda", "mps", "cpu"]
    name: str
    total_bytes: int = Field(description="GPU memory; on a CPU the machine's memory")
    free_bytes: int
    limit_bytes: int = Field(description="what a run may use: --vram where given, else total_bytes")
    planned: bool = Field(False, description="True where --vram or --gpu stands for a card that is not here")
    processes: tuple[ProcessReport, ...] = ()
    driver: str | None = None
    notes: tuple[str, ...] = ()
