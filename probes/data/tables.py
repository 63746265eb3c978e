"""Tables of separated values with a header line, row by row."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

from knowledge.errors import BadInput
from probes.data.skipped import SkipLedger


def read_table(
    stream: BinaryIO, ledger: SkipLedger, max_line_bytes: int, *, tabs: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of CSV or, with `tabs`, TSV; every value is a string. The number is that of a row's last line.

    A quote that is never closed swallows all lines after it: each of them counts as a row that was skipped. Raises
    BadInput where the bytes are not UTF-8 and where two columns have one name.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="strict", newline="")
    first = _first_line(text, ledger.source)
    separator = "\t" if tabs else separator_of(first)
    reader = csv.reader(chain([first], text), delimiter=separator, strict=True)
    header: list[str] = []
    while True:
        before = reader.line_num
        try:
            fields = _next_fields(reader, max_line_bytes)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise _not_utf8(ledger.source, f"after line {reader.line_num}", error) from error
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
        elif is_of_several_lines(fields, separator):
            ledger.skip(before + 1, "not TSV", "a quote that begins a field", rows=reader.line_num - before)
        else:
            yield reader.line_num, dict(zip(header, fields, strict=True))


def separator_of(header):
    """What separates the names of a table's first line: a comma, or where there is none a semicolon (spreadsheets where
    the comma is of numbers), a tab or a bar."""
    bare = re.sub(r'"[^"]*"', "", header)  # what stands in quotes is of a name
    return next((mark for mark in ",;\t|" if mark in bare), ",")


def is_of_several_lines(fields, separator):
    """Whether two stray quotes have made one row of several: tables with tabs are mostly written without quotes."""
    return separator == "\t" and any("\t" in field and "\n" in field for field in fields)


def _first_line(text: io.TextIOWrapper, source: str) -> str:
    try:
        return text.readline()
    except UnicodeDecodeError as error:
        raise _not_utf8(source, "near its beginning", error) from error


def _not_utf8(source: str, place: str, error: UnicodeDecodeError) -> BadInput:
    return BadInput(f"{source} is not UTF-8 {place}: {error}. Save it as UTF-8, e.g. iconv -f latin1 -t utf-8.")


def _next_fields(reader: Iterator[list[str]], max_field_bytes: int) -> list[str]:
    """The limit holds for the whole process, where others read tables too: it is given back after each row."""
    limit_of_others = csv.field_size_limit(max_field_bytes)
    try:
        return next(reader)
    finally:
        csv.field_size_limit(limit_of_others)


def _in_words(error: csv.Error) -> str:
    if "expected after" in str(error):
        return "text behind a closing quote"
    return "a quote that is never closed" if "unexpected end" in str(error) else str(error)


def _check_header(header: list[str], source: str) -> None:
    twice = next((name for name, count in Counter(filter(None, header)).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{source} has two columns named {twice!r}. Rename one of them, or leave it out.")
