"""What the study writes down: one result for each candidate, as JSON.

A running study keeps one file for each candidate in its own folder; `collect` joins them to one small file of JSON
lines for each task in `results/`, which is what is kept, analysed and continued from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from knowledge.schema import CurvePoint, Finite, Record, Task
from probes.schema import ProbeStatus, Schedule

RESULTS = Path(__file__).parent / "results"

Protocol = Literal["full", "short", "branch"]
"""`full`: the planned run, whose beginning is the prefix probe. `short`: a complete schedule of a fraction of its
length. `branch`: constant rate after warm-up, the last quarter decayed to zero."""


class StudyRun(Record):
    """One training of a candidate under one protocol."""

    protocol: Protocol
    fraction: Finite
    """Length in parts of the full run."""
    schedule: Schedule
    status: ProbeStatus
    reason: str = ""
    points: tuple[CurvePoint, ...] = ()
    trained_steps: int = 0
    """Steps done by this run itself: a branch continues the trunk's checkpoint."""
    duration_s: Finite = 0.0
    """Wall time with wrapping and evaluation."""
    cpu_s: Finite = 0.0
    """Processor time of the same: what the run costs where other work shares the machine."""
    train_share: Finite = 0.0
    """Part of `duration_s` inside training steps."""

    @property
    def final_loss(self) -> float | None:
        return self.points[-1].eval_loss if self.points and self.status == "finished" else None


class StudyResult(Record):
    """All trainings of one candidate: a method at one learning rate with one seed."""

    study: Literal[1] = 1
    """Version of this layout; the benchmark table's importer knows the file by it."""
    task: str
    benchmark: str
    kind: Task
    model: str
    method: str
    learning_rate: Finite
    seed: int
    peft_config: Mapping[str, Any] | None
    weight_decay: Finite
    optimizer: str
    batch_size: int
    max_steps: int
    max_length_tokens: int
    label_mean_tokens: Finite
    train_rows: int
    eval_rows: int
    metric_name: str
    baseline_loss: Finite
    baseline_metric: Finite | None
    trainable_parameters: int | None
    adapter_bytes: int | None
    peak_bytes: int | None
    """Most memory that the process held during the full run, on the CPU its resident memory."""
    runs: tuple[StudyRun, ...]
    device: str
    threads: int
    versions: Mapping[str, str]
    created_at: str
    is_compared: bool = True
    """Whether the task's methods and protocols are compared, see tasks.py."""

    @property
    def candidate(self) -> str:
        return candidate_name(self.method, self.learning_rate, self.seed)

    def run(self, protocol: Protocol, fraction: float) -> StudyRun | None:
        return next((r for r in self.runs if r.protocol == protocol and abs(r.fraction - fraction) < 1e-9), None)


def candidate_name(method: str, learning_rate: float, seed: int) -> str:
    return f"{method}-lr{learning_rate:g}-seed{seed}"


def write(result: StudyResult, folder: Path) -> None:
    """Writes folder/TASK/CANDIDATE.json; a crash in between leaves no file."""
    path = folder / result.task / f"{result.candidate}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(_line(result), encoding="utf-8")
    partial.replace(path)


def read_running(folder: Path) -> list[StudyResult]:
    """The results in the folder of a running study."""
    return [StudyResult.model_validate_json(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*/*.json"))]


def read_collected(folder: Path = RESULTS) -> list[StudyResult]:
    """The results that are kept: one file of JSON lines for each task."""
    files = sorted(folder.glob("*.jsonl"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [StudyResult.model_validate_json(line) for line in lines]


def collect(running: Path, kept: Path = RESULTS) -> int:
    """Adds the results of a running study to those that are kept; returns how many are new."""
    old = {(r.task, r.candidate): r for r in read_collected(kept)}
    found = {(r.task, r.candidate): r for r in read_running(running)}
    everything = found | old
    kept.mkdir(parents=True, exist_ok=True)
    for task in sorted({task for task, _ in everything}):
        lines = [_line(result) for (of, _), result in sorted(everything.items()) if of == task]
        partial = kept / f"{task}.jsonl.partial"
        partial.write_text("".join(lines), encoding="utf-8")
        partial.replace(kept / f"{task}.jsonl")
    return len(everything) - len(old)


def _line(result: StudyResult) -> str:
    return result.model_dump_json(exclude_none=True, exclude={"is_compared"} if result.is_compared else None) + "\n"
