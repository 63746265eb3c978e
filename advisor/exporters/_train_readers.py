"""How the generated train.py reads each form of data: as probes/data/reader.py, but for its messages."""

from __future__ import annotations

READERS = {
    "jsonl": '''
def read_rows(path):
    """Yields the objects of a JSON Lines file; lines that are none are passed over."""
    with $opener as lines:
        for line in lines:
            try:
                row = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row
''',
    "json": '''
def read_rows(path):
    """Yields the objects of a JSON array, of the one array in an object, or of JSON Lines."""
    with $opener as file:
        text = file.read().removeprefix(b"\\xef\\xbb\\xbf")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = []
        for line in text.split(b"\\n"):
            try:
                value.append(json.loads(line))
            except (ValueError, RecursionError):  # blank, or none: passed over
                continue
    if isinstance(value, dict):
        arrays = [part for part in value.values() if isinstance(part, list)]
        value = arrays[0] if len(arrays) == 1 else [value]
    yield from (row for row in value if isinstance(row, dict))
''',
    "csv": '''
def read_rows(path):
    """Yields the lines of a table as {column: text}; faulty ones are passed over."""
    csv.field_size_limit($max_line_bytes)
    with $opener as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        first = text.readline()
        separator = $separator
        reader = csv.reader(chain([first], text), delimiter=separator, strict=True)
        header = []
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                continue
            if not header:
                header = fields
            elif len(fields) == len(header) and not is_of_several_lines(fields, separator):
                yield dict(zip(header, fields, strict=True))
''',
    "parquet": '''
def read_rows(path):
    """Yields the rows of a Parquet file."""
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000):
        yield from batch.to_pylist()
''',
    "hub": '''
def read_rows(path):
    """Yields the rows of a dataset on the Hugging Face hub, or of its copy in the cache where HF_HUB_OFFLINE=1."""
    name, subset, split = hub_place(path)
    streaming = not datasets.config.HF_HUB_OFFLINE
    yield from with_class_names(datasets.load_dataset(name, subset, split=split, streaming=streaming))
''',
}
READERS["tsv"] = READERS["csv"]  # with another $separator
