"""Whatever stands in a file from outside, the answer is a result or an error that names the file; never a traceback.

The line reader has its own such tests in tests/probes/data/test_reader.py, the data formats in test_formats.py.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from advisor.save import RESULT_FILE, load
from knowledge.errors import BadInput
from knowledge.importers import NotARun, import_folder, importers
from knowledge.schema import CurvePoint, RunRecord
from probes.data.dataset import PreparedData, prepare
from probes.racing.journal import Journal
from tests.advisor import factories
from tests.contracts.test_formats import json_values, near_rows
from tests.knowledge.suite_files import llm_run
from tests.probes.tokenizers import byte_tokenizer

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
any_json = json_values | st.just(float("nan")) | st.just(float("inf")) | st.just(10**400)
TOKENIZER = byte_tokenizer()


@st.composite
def spoilt(draw, whole):
    """`whole` (parsed JSON) with one to three of its parts, at any depth, replaced by anything or left out."""
    spoilt = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        part = spoilt
        while True:
            places = list(part) if isinstance(part, dict) else list(range(len(part)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(part[place], dict | list) and draw(st.booleans()):
                part = part[place]
                continue
            if draw(st.booleans()):
                part[place] = draw(any_json)
            else:
                del part[place]
            break
    return spoilt


@pytest.mark.parametrize("importer", list(importers()), ids=lambda i: i.__name__)
@given(content=any_json)
def test_an_importer_reads_a_run_or_says_why_not(importer, content):
    assert importer.recognises(content) in (True, False)
    with pytest.raises(NotARun):
        importer.read(content)


@settings(max_examples=300)
@given(content=spoilt(llm_run()))
def test_a_spoilt_run_is_a_record_or_has_a_reason(content):
    for importer in importers():
        if importer.recognises(content):
            try:
                assert isinstance(importer.read(content), RunRecord)
            except NotARun as error:
                assert str(error)


@in_one_folder
@given(content=st.binary(max_size=60) | any_json.map(lambda value: json.dumps(value).encode()))
@example(content=b"[" * 100_000)
@example(content=b"9" * 10_000)
def test_a_folder_of_results_survives_any_file(tmp_path, content):
    (tmp_path / "good.json").write_text(json.dumps(llm_run()))
    (tmp_path / "odd.json").write_bytes(content)
    report = import_folder(tmp_path)
    assert len(report.records) == 1 and list(report.rejected) == ["odd.json"]


def a_journal(path: Path) -> list[bytes]:
    path.unlink(missing_ok=True)
    with Journal(path, "race", resume=False) as journal:
        for step in (1, 2):
            journal.add_point("lora", CurvePoint(step=step, eval_loss=2.0 / step), "exact match")
    return path.read_bytes().splitlines(keepends=True)


odd_lines = st.binary(max_size=40) | any_json.map(lambda value: json.dumps(value).encode())


@in_one_folder
@given(place=st.integers(0, 3), odd=odd_lines)
@example(place=0, odd=b"3")
@example(place=1, odd=b'{"point": 3, "id": "lora", "metric_name": ""}')
def test_a_journal_with_an_odd_line_loses_nothing_that_stands_before_it(tmp_path, place, odd):
    """It is read without the odd line, or refused with the file's name and left as it was."""
    path = tmp_path / "journal.jsonl"
    lines = a_journal(path)
    content = b"".join([*lines[:place], odd.replace(b"\n", b"") + b"\n", *lines[place:]])
    path.write_bytes(content)
    try:
        with Journal(path, "race", resume=True) as journal:
            kept = len(journal.curves["lora"].points) if "lora" in journal.curves else 0
    except BadInput as error:
        assert str(path) in str(error) and path.read_bytes() == content
    else:
        assert kept == 2


@settings(in_one_folder, max_examples=60)
@given(content=spoilt(json.loads(factories.result().model_dump_json())))
def test_a_spoilt_recommendation_is_read_or_refused(tmp_path, content):
    (tmp_path / RESULT_FILE).write_text(json.dumps(content))
    try:
        load(tmp_path)
    except BadInput as error:
        assert RESULT_FILE in str(error)


@in_one_folder
@given(content=st.binary(max_size=60))
def test_a_recommendation_of_any_bytes_is_refused(tmp_path, content):
    (tmp_path / RESULT_FILE).write_bytes(content)
    with pytest.raises(BadInput, match=RESULT_FILE):
        load(tmp_path)


@in_one_folder
@given(rows=st.lists(near_rows, min_size=1, max_size=12))
def test_rows_near_the_formats_are_prepared_or_refused(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for task in ("causal-lm", "sequence-classification", "seq2seq-lm"):
        try:
            data = prepare(path, TOKENIZER, task=task, max_length_tokens=32, skip_budget=1.0)
        except BadInput as error:
            assert str(path) in str(error)
        else:
            assert isinstance(data, PreparedData) and len(data.train) and len(data.eval)
