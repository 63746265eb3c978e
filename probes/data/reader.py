"""Rows from a file or a dataset of the hub, one at a time, with line numbers and a record of what was skipped.

JSON Lines are read by a reader of our own: it has a byte limit for a line, so that a corrupt or endless line costs
neither memory nor the job, and it knows the number and the fault of every line that it leaves out.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from knowledge.errors import BadInput
from knowledge.places import at_home
from probes import hub
from probes.data.skipped import SkipLedger
from probes.data.streams import Watched, decompress
from probes.data.tables import read_table

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
    max_line_bytes: int = MAX_LINE_BYTES,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[NumberedRow]:
    """Yield (line number, row) from a JSONL, JSON, CSV or TSV file (also .gz, .bz2, .zst, .xz), Parquet or the hub.

    source: a path, or `owner/name`, `owner/name:subset` or `owner/name:subset:split` on the hub. Line numbers count
    from 1; for JSON arrays, Parquet and the hub they are row numbers. Faulty lines go to `ledger`, whose budget is
    checked at the end. `on_progress(bytes_done, bytes_total)` is called now and then for local files.
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
            f"No such file: {source}. Give a JSONL, JSON, CSV or Parquet file or a hub dataset id (owner/name, "
            "owner/name:subset)."
        )
    else:
        rows = _read_hub(str(source))
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
            f"{path.name} has no ending that is known. Known: {known}, also with {', '.join(_COMPRESSIONS)}. Rename "
            "the file by what is in it, or convert it."
        )
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty (0 bytes). Was it written to its end? Give a file with rows.")
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
        yield from read_table(buffered, ledger, max_line_bytes, tabs=form == "tsv")


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
        raise BadInput(f"{path} cannot be read as Parquet: {error}. Write or download it again.") from error


def _rows_at_once(metadata: pyarrow.parquet.FileMetaData) -> int:
    """Rows of a Parquet file that are held together: few where each has an image."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    per_row = sum(group.total_byte_size for group in groups) / max(1, metadata.num_rows)
    return int(min(1000, max(1, MAX_LINE_BYTES / max(1, per_row))))


def hub_place(source):
    """(dataset id, subset or None, split) of `owner/name`, `owner/name:subset` or `owner/name:subset:split`."""
    name, _, rest = source.partition(":")
    subset, _, split = rest.partition(":")
    return name, subset or None, split or "train"


def with_class_names(rows):
    """The rows of a dataset with the names of its classes in place of their numbers, where it has any (the features
    `datasets.ClassLabel`); a class that is not known, -1, is none. Other rows as they are."""
    features = getattr(rows, "features", None) or {}
    names = {column: feature.names for column, feature in features.items() if hasattr(feature, "int2str")}
    for row in rows:
        numbers = {column: row[column] for column in names if isinstance(row.get(column), int)}
        found = {column: names[column][n] if 0 <= n < len(names[column]) else None for column, n in numbers.items()}
        yield {**row, **found} if found else row


def _read_hub(source: str) -> Iterator[NumberedRow]:
    import datasets

    online = hub.reachable()
    if not online:
        hub.stay_offline()
    datasets.disable_progress_bars()
    name, subset, split = hub_place(source)
    number = 0
    try:
        # What an earlier load_dataset left in the cache can be read without the hub, but not streamed.
        rows = with_class_names(datasets.load_dataset(name, subset, split=split, streaming=online))
        for number, row in enumerate(rows, start=1):
            yield number, row
    except Exception as error:  # the hub's library raises many kinds: missing, gated, offline, several configurations
        if not online:
            raise BadInput(
                f"There is no file {source!r}. The hub, where a data set may have that name, is offline, and the cache "
                f"of datasets does not give it: {error}"
            ) from error
        reached = f"be read beyond row {number}" if number else "be opened"
        raise BadInput(
            f"The hub dataset {name!r} ({f'subset {subset!r}, ' if subset else ''}split {split!r}) cannot {reached}: "
            f"{error} Name a subset as {name}:SUBSET and a split as {name}:SUBSET:SPLIT; or check the name and the "
            "network, or give a local file."
        ) from error
