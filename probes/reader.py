"""Rows from a file or a hub dataset, one at a time, with line numbers and a record of what was skipped.

JSON Lines are read by a reader of our own: it has a byte limit for a line, so that a corrupt or endless line costs
neither memory nor the job, and it knows the number and the fault of every line that it leaves out.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from knowledge.errors import BadInput
from knowledge.places import at_home
from probes import hub
from probes.skipped import SkipLedger
from probes.streams import Watched, decompress

if TYPE_CHECKING:
    import pyarrow.parquet

MAX_LINE_BYTES = 16 * 2**20
MAX_JSON_BYTES = 512 * 2**20
NumberedRow = tuple[int, dict[str, Any]]

_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz"}
_FORMS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


def read_rows(
    source: str | Path,
    ledger: SkipLedger | None = None,
    *,
    split: str = "train",
    max_line_bytes: int = MAX_LINE_BYTES,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[NumberedRow]:
    """Yield (line number, row) from a JSONL, JSON, CSV or TSV file (also .gz, .bz2, .zst, .xz), Parquet or the hub.

    Line numbers count from 1; for JSON arrays, Parquet and the hub they are row numbers. Faulty lines go to `ledger`,
    whose budget is checked at the end. `on_progress(bytes_done, bytes_total)` is called now and then for local files.
    Raises BadInput where there is no such file, dataset or form, and where the file is empty or not text.
    """
    ledger = ledger if ledger is not None else SkipLedger(str(source))
    path = at_home(source)
    if path.is_file():
        rows = _read_file(path, ledger, max_line_bytes, on_progress)
    elif path.is_dir():
        raise BadInput(f"{source} is a folder. {_way_out(path)}")
    elif form_of(path)[0] is not None or str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise BadInput(
            f"No such file: {source}. Give a JSONL, JSON, CSV or Parquet file or a hub dataset id (owner/name)."
        )
    else:
        rows = _read_hub(str(source), split)
    for number, row in rows:
        ledger.rows += 1
        yield number, row
    ledger.check()


def _way_out(folder: Path) -> str:
    if saved := {"dataset_info.json", "dataset_dict.json"} & {p.name for p in folder.iterdir()}:
        rows = "load_from_disk(folder)" + ('["train"]' if "dataset_dict.json" in saved else "")
        return f"`datasets` saved it: write it as one file, `datasets.{rows}.to_json('my.jsonl')`."
    names = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_file() and form_of(p)[0])[:5])
    return f"Name one file in it{f', e.g. {names}' if names else ' (none in a form that can be read)'}."


def form_of(path: Path) -> tuple[str | None, str | None]:
    """(form, compression) by the name's endings."""
    compression = _COMPRESSIONS.get(path.suffix.lower())
    inner = path.with_suffix("") if compression else path
    return _FORMS.get(inner.suffix.lower()), compression


def _read_file(
    path: Path, ledger: SkipLedger, max_line_bytes: int, on_progress: Callable[[int, int], None] | None
) -> Iterator[NumberedRow]:
    form, compression = form_of(path)
    if form is None:
        known = ", ".join(_FORMS)
        raise BadInput(
            f"{path.name} has no ending that is known. Known: {known}, also with {', '.join(_COMPRESSIONS)}."
        )
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty (0 bytes).")
    if form == "parquet":
        if compression is not None:
            raise BadInput(f"{path} is a compressed Parquet file, which is read from its end. Decompress it first.")
        yield from _read_parquet(path)
        return
    with path.open("rb") as raw:
        stream: BinaryIO = Watched(raw, path.stat().st_size, on_progress)
        if compression is not None:
            stream = decompress(stream, compression, str(path))
        yield from _read_text(stream, form, ledger, max_line_bytes)


def _read_text(stream: BinaryIO, form: str, ledger: SkipLedger, max_line_bytes: int) -> Iterator[NumberedRow]:
    buffered = io.BufferedReader(stream, 2**20)
    head = buffered.peek(4)[:4]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in head:
        raise BadInput(f"{ledger.source} is not UTF-8 text. Convert it, e.g. `iconv -f UTF-16 -t UTF-8`.")
    if head.startswith(b"\xef\xbb\xbf"):
        buffered.read(3)
    if form == "json":
        yield from _read_json(buffered, ledger, max_line_bytes)
    elif form == "jsonl":
        yield from _read_jsonl(buffered, ledger, max_line_bytes)
    else:
        yield from _read_csv(buffered, ledger, max_line_bytes, "\t" if form == "tsv" else ",")


def _read_jsonl(stream: BinaryIO, ledger: SkipLedger, max_line_bytes: int) -> Iterator[NumberedRow]:
    for number, line in _lines(stream, ledger, max_line_bytes):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())  # bytes would be searched for UTF-16 first
        except RecursionError:
            ledger.skip(number, "nested too deeply")
        except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, integers of thousands of digits
            ledger.skip(number, "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON", str(error))
        else:
            if isinstance(row, dict):
                yield number, row
            else:
                ledger.skip(number, "not a JSON object", type(row).__name__)


def _lines(stream: BinaryIO, ledger: SkipLedger, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of at most `max_line_bytes`; of a longer one no more than that is ever held."""
    number = 0
    while line := stream.readline(max_line_bytes + 1):
        number += 1
        if len(line.rstrip(b"\r\n")) <= max_line_bytes:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(max_line_bytes)
        ledger.skip(number, f"longer than {max_line_bytes:,} bytes")


def _read_json(stream: BinaryIO, ledger: SkipLedger, max_line_bytes: int) -> Iterator[NumberedRow]:
    """A JSON array of objects, or {"data": [...]} with one array. JSON Lines under this ending are read as such."""
    if is_json_lines(stream.peek(2**16)):
        yield from _read_jsonl(stream, ledger, max_line_bytes)
        return
    content = stream.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise BadInput(
            f"{ledger.source} is one JSON value of more than {MAX_JSON_BYTES:,} bytes, which must be held as a whole. "
            "Convert it to JSON Lines, e.g. `jq -c '.[]'`."
        )
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{ledger.source} is not valid JSON: {error}. One object a line? Then name it .jsonl."
        ) from error
    arrays = [value] if isinstance(value, list) else []
    if isinstance(value, dict):
        arrays = [part for part in value.values() if isinstance(part, list)]
    if len(arrays) != 1:
        names = ", ".join(str(key) for key, part in value.items() if isinstance(part, list)) if arrays else ""
        seen = f"{len(arrays)} arrays ({names})" if arrays else "none"
        raise BadInput(
            f"{ledger.source} must hold one array of objects; it holds {seen}. Write the rows as one array, or one "
            "object a line."
        )
    for number, row in enumerate(arrays[0], 1):
        if isinstance(row, dict):
            yield number, row
        else:
            ledger.skip(number, "not a JSON object", type(row).__name__)


def is_json_lines(head: bytes) -> bool:
    """Whether a file that begins so has an object in its first line, and further lines."""
    first, _, rest = head.lstrip().partition(b"\n")
    return first.startswith(b"{") and bool(rest.strip()) and _is_object(first)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _next_fields(reader: Iterator[list[str]], max_field_bytes: int) -> list[str]:
    """The limit holds for the whole process, where others read tables too: it is given back after each row."""
    limit_of_others = csv.field_size_limit(max_field_bytes)
    try:
        return next(reader)
    finally:
        csv.field_size_limit(limit_of_others)


def _read_csv(stream: BinaryIO, ledger: SkipLedger, max_line_bytes: int, delimiter: str) -> Iterator[NumberedRow]:
    """CSV with a header line; every value is a string. The number of a row is that of its last line.

    A quote that is never closed swallows all lines after it: each of them counts as a row that was skipped.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="strict", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        before = reader.line_num
        try:
            fields = _next_fields(reader, max_line_bytes)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            place = f"after line {reader.line_num}" if reader.line_num else "near its beginning"
            raise BadInput(
                f"{ledger.source} is not UTF-8 {place}: {error}. Save it as UTF-8, e.g. iconv -f latin1 -t utf-8."
            ) from error
        except csv.Error as error:
            ledger.skip(before + 1, "not CSV", _in_words(error), rows=max(1, reader.line_num - before))
            continue
        if not fields:
            continue
        if not header:
            _check_header(fields, ledger.source)
            header = fields
        elif len(fields) != len(header):
            ledger.skip(reader.line_num, "wrong number of fields", f"{len(fields)} instead of {len(header)}")
        elif delimiter == "\t" and any("\t" in field and "\n" in field for field in fields):
            # Tables with tabs are mostly written without quotes: two stray ones have made one row of several.
            ledger.skip(before + 1, "not TSV", "a quote that begins a field", rows=reader.line_num - before)
        else:
            yield reader.line_num, dict(zip(header, fields, strict=True))


def _in_words(error: csv.Error) -> str:
    if "expected after" in str(error):
        return "text behind a closing quote"
    return "a quote that is never closed" if "unexpected end" in str(error) else str(error)


def _check_header(header: list[str], source: str) -> None:
    separator = next((mark for mark in ";\t|" if mark in header[0]), None)
    if len(header) == 1 and separator is not None:
        raise BadInput(
            f"{source} is no file of comma-separated values: its header is the one name {header[0]!r}. Is it separated "
            f"by {separator!r}? Convert it to commas, or name it .tsv where it is separated by tabs."
        )
    twice = next((name for name, count in Counter(filter(None, header)).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{source} has two columns named {twice!r}. Rename one of them, or leave it out.")


def _read_parquet(path: Path) -> Iterator[NumberedRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=_rows_at_once(file.metadata)):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError) as error:  # a damaged page is an OSError
        raise BadInput(f"{path} cannot be read as Parquet: {error}.") from error


def _rows_at_once(metadata: pyarrow.parquet.FileMetaData) -> int:
    """Rows of a Parquet file that are held together: few where each has an image."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    per_row = sum(group.total_byte_size for group in groups) / max(1, metadata.num_rows)
    return int(min(1000, max(1, MAX_LINE_BYTES / max(1, per_row))))


def _read_hub(dataset_id: str, split: str) -> Iterator[NumberedRow]:
    import datasets

    if not hub.reachable():
        raise BadInput(
            f"There is no file {dataset_id!r}, and the hub, where a data set may have that name, is offline."
        )
    datasets.disable_progress_bars()
    number = 0
    try:
        for number, row in enumerate(datasets.load_dataset(dataset_id, split=split, streaming=True), start=1):
            yield number, row
    except Exception as error:  # the hub's library raises many kinds: missing, gated, offline, several configurations
        reached = f"be read beyond row {number}" if number else "be opened"
        raise BadInput(
            f"The hub dataset {dataset_id!r} (split {split!r}) cannot {reached}: {error} "
            "Check the name and the network, or give a local file."
        ) from error
