"""What is fuzzed: functions of bytes that must end, whatever the bytes are. An exception is a finding, unless it is the
refusal that the code under test promises.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from knowledge.errors import BadInput
from knowledge.importers import import_folder
from knowledge.schema import CurvePoint, RunRecord
from probes.data.dataset import prepare
from probes.data.reader import read_rows
from probes.data.skipped import SkipLedger
from probes.formats import all_formats
from probes.racing.journal import Journal
from tests.knowledge.suite_files import llm_run
from tests.probes.tokenizers import byte_tokenizer

MAX_LINE_BYTES = 256  # so that lines beyond the limit come up
ENDINGS = ("jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "csv.bz2", "json.xz", "jsonl.zst")
TASKS = ("causal-lm", "sequence-classification", "seq2seq-lm")
TOKENIZER = byte_tokenizer()
FINGERPRINT = "fuzzed"


@dataclass(frozen=True)
class Target:
    """`run(data)` raises where something is wrong; `seeds` are inputs from which a fuzzer goes on."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def _written(name: str, content: bytes) -> Path:
    path = _folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def read_any_file(data: bytes) -> None:
    """The first byte chooses the ending. Rows are objects, numbered upwards, or the file is refused by its name."""
    if not data:
        return
    path = _written(f"rows.{ENDINGS[data[0] % len(ENDINGS)]}", data[1:])
    ledger = SkipLedger(str(path), budget=1.0)
    try:
        rows = list(read_rows(path, ledger, max_line_bytes=MAX_LINE_BYTES))
    except BadInput as error:
        assert path.name in str(error)
        return
    numbers = [number for number, _ in rows]
    assert all(isinstance(row, dict) for _, row in rows)
    assert numbers == sorted(set(numbers)) and ledger.rows == len(rows)


def prepare_any_rows(data: bytes) -> None:
    """The first byte chooses the task. Rows of whatever format is detected become tokens, or are refused by name."""
    if not data:
        return
    path = _written("prepared.jsonl", data[1:])
    try:
        prepared = prepare(path, TOKENIZER, task=TASKS[data[0] % len(TASKS)], max_length_tokens=32, skip_budget=1.0)
    except BadInput as error:
        assert path.name in str(error)
        return
    assert len(prepared.train) and len(prepared.eval)


def resume_journal(data: bytes) -> None:
    """A journal is refused by its name and left as it was, or read; then what is added to it is read again."""
    path = _written("journal.jsonl", data)
    point = CurvePoint(step=7, eval_loss=1.0)
    try:
        with Journal(path, FINGERPRINT, resume=True) as journal:
            before = len(journal.curves)
            journal.add_point("added", point, "")
    except BadInput as error:
        assert path.parent.name in str(error) and path.read_bytes() == data
        return
    with Journal(path, FINGERPRINT, resume=True) as journal:
        assert point in journal.curves["added"].points and len(journal.curves) >= before


def import_any_result(data: bytes) -> None:
    """A result file is a run or has a reason why not; what can be told of a run can be written as JSON."""
    path = _written("results/run.json", data)
    report = import_folder(path.parent)
    assert len(report.records) + len(report.rejected) == 1 and all(report.rejected.values())
    for record in report.records:
        assert RunRecord.model_validate_json(record.model_dump_json()) == record


def _row_seeds() -> list[bytes]:
    rows = b'{"prompt": "1 + 1 =", "completion": " 2"}\n{"prompt": "", "completion": "\\u00e9"}\n'
    table = b'text,label\nwarm,good\n"a, b",bad\n'
    contents = [rows, b"[" + rows.replace(b"}\n{", b"},{").strip() + b"]", table, table.replace(b",", b"\t"), b"PAR1"]
    packed = [gzip.compress(rows)]
    return [bytes([number]) + content for number, content in enumerate([*contents, *packed])]


def _format_seeds() -> list[bytes]:
    """Two rows that differ, so that one is held out."""
    rows = [json.dumps(data_format.example).encode() for data_format in all_formats()]
    other = [row.replace(b"a", b"e").replace(b"o", b"u") for row in rows]
    return [bytes([task]) + b"\n".join(pair) + b"\n" for task in (0, 1) for pair in zip(rows, other, strict=True)]


def _journal_seeds() -> list[bytes]:
    path = _folder() / "seed.jsonl"
    path.unlink(missing_ok=True)
    with Journal(path, FINGERPRINT, resume=False) as journal:
        for step in (1, 2):
            journal.add_point("lora", CurvePoint(step=step, eval_loss=2.0 / step), "exact match")
        journal.add_plan("budget", {"fractions": [0.05, 0.1]})
    content = path.read_bytes()
    return [b"", content, content[:-9]]


def _result_seeds() -> list[bytes]:
    return [json.dumps(llm_run()).encode(), json.dumps(llm_run({"peft_type": "IA3"}, losses=(0.9,))).encode(), b"{}"]


TARGETS: Mapping[str, Target] = {
    "reader": Target(read_any_file, _row_seeds),
    "formats": Target(prepare_any_rows, _format_seeds),
    "journal": Target(resume_journal, _journal_seeds),
    "importers": Target(import_any_result, _result_seeds),
}
