"""Reading: every form, every fault with its line number, the skip budget, and nothing that raises otherwise."""

import bz2
import csv
import gzip
import io
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.errors import BadInput
from probes.data.reader import _rows_at_once, read_rows
from probes.data.skipped import SkipLedger

ROWS = [{"text": "eins"}, {"text": "zwei äöü"}, {"text": 'three\nlines "quoted", with comma'}]


def read(path, budget=1.0, **options):
    ledger = SkipLedger(str(path), budget=budget)
    return list(read_rows(path, ledger, **options)), ledger


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def zstd(content):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", as_jsonl(ROWS)),
        ("a.ndjson", as_jsonl(ROWS).replace(b"\n", b"\r\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + as_jsonl(ROWS).rstrip(b"\n")),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json", json.dumps({"version": "1", "data": ROWS}, indent=2).encode()),
        ("a.json", json.dumps({"data": ROWS}).encode() + b"\n"),
        ("a.json", as_jsonl(ROWS)),
        ("a.jsonl.gz", gzip.compress(as_jsonl(ROWS), mtime=0)),
        ("a.jsonl.bz2", bz2.compress(as_jsonl(ROWS))),
        ("a.jsonl.zst", zstd(as_jsonl(ROWS))),
        ("a.jsonl.xz", lzma.compress(as_jsonl(ROWS))),
        ("a.jsonl.gz", b"".join(gzip.compress(as_jsonl([row])) for row in ROWS)),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
    ],
)
def test_forms_of_json(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    rows, ledger = read(tmp_path / name, budget=0.0)
    assert [row for _, row in rows] == ROWS
    assert [number for number, _ in rows] == [1, 2, 3]
    assert ledger.rows == 3


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("b.csv", ";"), ("c.csv", "\t"), ("d.csv", "|")]
)
@pytest.mark.parametrize("columns", [["text"], ["text", "of a ,;|\t kind"]])
def test_csv(tmp_path, name, separator, columns):
    written = [row | dict.fromkeys(columns[1:], "x") for row in ROWS]
    with (tmp_path / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=separator)
        writer.writeheader()
        writer.writerows(written)
    rows, _ = read(tmp_path / name, budget=0.0)
    assert [row for _, row in rows] == written
    assert [number for number, _ in rows] == [2, 3, 5], "the line a row ends on: the last one spans two"


def test_of_a_parquet_file_with_images_few_rows_are_held_at_once(tmp_path):
    held = {}
    for name, picture in {"text": b"", "pictures": bytes(2 * 2**20)}.items():
        table = pyarrow.Table.from_pylist([{"text": f"{i}", "image": picture + bytes([i])} for i in range(20)])
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet", use_dictionary=False, compression=None)
        held[name] = _rows_at_once(pyarrow.parquet.read_metadata(tmp_path / f"{name}.parquet"))
        assert [row["text"] for _, row in read_rows(tmp_path / f"{name}.parquet")] == [f"{i}" for i in range(20)]
    assert held == {"text": 1000, "pictures": 7}


def test_parquet(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    rows, _ = read(tmp_path / "a.parquet", budget=0.0)
    assert [row for _, row in rows] == ROWS


def test_faulty_lines_are_skipped_with_number_and_reason(tmp_path):
    lines = [
        b'{"text": "a"}',
        b'{"text": ',
        b'["a"]',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
        b"",
        b'{"text": "' + b"x" * 300_000 + b'"}',
        b'{"text": "b"}',
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    rows, ledger = read(path, max_line_bytes=200_000)
    assert rows == [(1, {"text": "a"}), (9, {"text": "b"})]
    assert ledger.skipped == {
        "not JSON": 2,
        "not a JSON object": 1,
        "not UTF-8": 1,
        "nested too deeply": 1,
        "longer than 200,000 bytes": 1,
    }
    assert ledger.first[0].startswith("line 2: not JSON") and ledger.first[1] == "line 3: not a JSON object (list)"


def test_an_endless_line_is_never_held(tmp_path):
    """A file of 64 MB without a line break, read with a limit of 1 kB: memory must not follow the file's size."""
    import tracemalloc

    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(b"x" * 10**6)
        file.write(b'\n{"text": "after"}\n')
    tracemalloc.start()
    rows, ledger = read(path, max_line_bytes=1000)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == [(2, {"text": "after"})] and ledger.skipped.total() == 1
    assert peak_bytes < 8 * 2**20


def test_the_skip_budget_is_a_limit(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_jsonl(ROWS[:1]) * 495 + b"broken\n" * 5)
    rows, _ = read(path, budget=0.01)
    assert len(rows) == 495
    path.write_bytes(as_jsonl(ROWS[:1]) * 494 + b"broken\n" * 6)
    with pytest.raises(BadInput) as caught:
        read(path, budget=0.01)
    assert "6 of 500" in str(caught.value) and "line 495: not JSON" in str(caught.value) and "1 %" in str(caught.value)


@pytest.mark.parametrize(("rows", "broken"), [(20, 2), (30, 3), (100, 3)])
def test_of_a_small_file_some_rows_are_passed_over_too(tmp_path, rows, broken):
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_jsonl(ROWS[:1]) * (rows - broken) + b"broken\n" * broken)
    assert len(read(path, budget=0.01)[0]) == rows - broken
    path.write_bytes(as_jsonl(ROWS[:1]) * (rows - broken - 1) + b"broken\n" * (broken + 1))
    with pytest.raises(BadInput, match=f"{broken + 1} of {rows}"):
        read(path, budget=0.01)


def test_a_file_that_is_broken_throughout_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"broken\n" * 100_000)
    ledger = SkipLedger(str(path))
    with pytest.raises(BadInput):
        list(read_rows(path, ledger))
    assert ledger.skipped.total() == 1000


def as_parquet(rows):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


PARQUET = as_parquet([{"text": f"row {i}"} for i in range(1000)])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "empty"),
        ("a.docx", b"x", "no ending that is known"),
        ("a.jsonl", '{"text": "a"}\n'.encode("utf-16"), "not UTF-8"),
        ("a.json", b'[{"text": ', "not valid JSON"),
        ("a.json", b'{"a": [1], "b": [2]}', r"2 arrays \(a, b\)"),
        ("a.parquet", b"PAR1 nonsense", "Parquet"),
        ("a.parquet", PARQUET[:50] + b"x" * 100 + PARQUET[150:], "Parquet"),
        ("a.parquet.gz", gzip.compress(PARQUET), "Decompress"),
        ("a.jsonl.gz", b"no gzip at all, but long enough to be read", "damaged"),
        ("a.jsonl.gz", gzip.compress(as_jsonl(ROWS * 10_000), mtime=0)[:500], "damaged"),
        ("a.jsonl.xz", b"no xz at all", "damaged"),
        ("a.jsonl.xz", lzma.compress(as_jsonl(ROWS * 10_000))[:100], "damaged"),
        ("a.csv", b"text\n\xff\xff\n", "not UTF-8"),
        ("b.csv", b"text,id,,text,\na,1,,b,\n", "two columns named 'text'"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=words):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'[\n{"text": "a"}\n]', r"jq -c '.\[\]'.* is read where the file is named \.json\."),
        ("b.jsonl", b'[{"text": "a"}]', r"jq -c '.\[\]'.* is read where the file is named \.json\."),
        ("a.tsv", b'text\tid\n"Yes" she said\t1\n', r'text behind a closing quote(.|\n)*"say ""hi"""'),
        ("a.csv", b'text,id\n"Yes,1\nno,2\n', "a quote that is never closed"),
    ],
)
def test_lines_that_are_not_of_the_form_say_how_they_would_be(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=words):
        read(tmp_path / name, budget=0.01)


def test_all_lines_that_an_open_quote_swallows_count(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text\n" + b"a\n" * 599 + b'"a\n' + b"a\n" * 399)
    with pytest.raises(BadInput, match=r"400 of 999 rows(.|\n)*line 601: not CSV"):
        read(tmp_path / "a.csv", budget=0.01)


def test_stray_quotes_of_a_table_with_tabs_swallow_no_rows_in_silence(tmp_path):
    lines = [f"text {i}\t{i % 2}\n" for i in range(400)]
    lines[10], lines[12] = '"hello\t1\n', 'foo"\t1\n'
    (tmp_path / "d.tsv").write_text("text\tlabel\n" + "".join(lines) + '"quoted, in one row"\t1\n')
    ledger = SkipLedger("d.tsv")
    rows = [row for _, row in read_rows(tmp_path / "d.tsv", ledger)]
    assert len(rows) == 398 and rows[-1]["text"] == "quoted, in one row"
    assert ledger.skipped == {"not TSV": 3}


def test_places_without_a_file_say_what_to_give(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    for place, words in [
        (tmp_path, "rows.jsonl"),
        (tmp_path / "missing.jsonl", "No such file"),
        ("./missing", "No such file"),
        ("missing.csv", "No such file"),
        ("~nobody-of-that-name/missing", "No such file"),
    ]:
        with pytest.raises(BadInput, match=words):
            read(place)


@pytest.mark.parametrize("of_splits", [False, True])
def test_a_folder_of_datasets_is_told_how_to_become_a_file(tmp_path, of_splits, monkeypatch):
    import datasets

    saved = datasets.Dataset.from_list(ROWS)
    (datasets.DatasetDict(train=saved) if of_splits else saved).save_to_disk(tmp_path / "saved")
    with pytest.raises(BadInput, match="write it as one file") as refused:
        read(tmp_path / "saved")
    code = str(refused.value).split("`")[-2].replace("folder", repr(str(tmp_path / "saved")))
    monkeypatch.chdir(tmp_path)
    eval(code, {"datasets": datasets})  # as it is told
    assert [row for _, row in read("my.jsonl")[0]] == ROWS


def test_progress_ends_at_the_file_size(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(as_jsonl(ROWS * 1000)))
    seen = []
    read(path, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (path.stat().st_size, path.stat().st_size)


def test_how_long_a_field_may_be_is_left_to_others_as_it_was(tmp_path):
    path, before = tmp_path / "a.csv", csv.field_size_limit()
    path.write_text("a,b\n" + "1,2\n" * 9)
    rows = read_rows(path, max_line_bytes=64)
    next(rows)
    assert csv.field_size_limit() == before
    assert len(list(rows)) == 8 and csv.field_size_limit() == before


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_give_rows_or_bad_input(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(content)
    try:
        rows, ledger = read(path, max_line_bytes=64)
    except BadInput:
        return
    lines = [line for line in content.split(b"\n") if line.strip()]
    assert all(isinstance(row, dict) for _, row in rows)
    assert len(rows) + ledger.skipped.total() >= len(lines) - 1
    assert [number for number, _ in rows] == sorted({number for number, _ in rows})


@settings(max_examples=200)
@given(st.sampled_from(["json", "csv", "tsv", "parquet", "jsonl.gz", "csv.zst"]), st.binary(max_size=200))
def test_any_bytes_under_any_ending_give_rows_or_bad_input(tmp_path_factory, ending, content):
    path = tmp_path_factory.getbasetemp() / f"fuzz.{ending}"
    path.write_bytes(content)
    try:
        rows, _ = read(path, max_line_bytes=64)
    except BadInput:
        return
    assert all(isinstance(row, dict) for _, row in rows)


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3), min_size=1))
def test_what_was_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    path.write_bytes(as_jsonl(rows))
    assert [row for _, row in read(path, budget=0.0)[0]] == rows
