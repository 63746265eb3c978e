"""The user's own table: nothing is lost between programs, versions and crashes, and what is broken is named."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest

from knowledge.errors import BadInput
from knowledge.importers.peft_method_comparison import read
from knowledge.store import LAYOUT, RunStore
from knowledge.table_merge import MergeReport
from tests.knowledge.suite_files import llm_run


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "deep" / "runs.sqlite3")


def run(name: str = "lora", **changes):
    return read(llm_run(experiment=name, **changes))


def test_a_store_that_is_not_there_is_empty_and_reading_makes_none(store):
    assert store.runs() == ()
    assert not store.path.exists()


def test_what_is_added_is_read_again_and_only_once(store):
    assert store.add([run("a"), run("b"), run("a")]) == MergeReport(added=2, unchanged=1, conflicts=())
    assert RunStore(store.path).runs() == store.runs()
    assert sorted(r.experiment for r in store.runs()) == ["a", "b"]
    assert store.add([run("b")]) == MergeReport(added=0, unchanged=1, conflicts=())


def test_a_differing_run_is_replaced_only_when_asked(store):
    store.add([run(accuracy=0.4)])
    assert len(store.add([run(accuracy=0.5)]).conflicts) == 1
    assert store.runs() == (run(accuracy=0.4),)
    store.add([run(accuracy=0.5)], replace=True)
    assert store.runs() == (run(accuracy=0.5),)


def test_programs_that_write_at_once_lose_nothing(store):
    code = (
        "import sys; from pathlib import Path; from knowledge.store import RunStore; from tests.knowledge.test_store "
        "import run; s = RunStore(Path(sys.argv[1])); [s.add([run(f'{sys.argv[2]}-{i}')]) for i in range(10)]"
    )
    programs = [subprocess.Popen([sys.executable, "-c", code, str(store.path), str(n)]) for n in range(3)]
    assert [program.wait(timeout=120) for program in programs] == [0, 0, 0]
    assert len(store.runs()) == 30


def test_a_failure_in_the_middle_leaves_what_was_there(store):
    store.add([run("a")])

    def breaks():
        yield run("b")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.add(breaks())
    assert [r.experiment for r in store.runs()] == ["a"]


def test_what_is_no_store_is_named_with_a_way_out(store):
    store.path.parent.mkdir()
    store.path.write_bytes(b"not a database, but long enough to be taken for one" * 50)
    with pytest.raises(BadInput, match=r"runs\.sqlite3 cannot be used .* ADVISOR_DATA_DIR"):
        store.runs()


def test_stores_and_records_of_a_newer_version_are_left_alone(store):
    store.add([run("a")])
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE runs SET record = json_set(record, '$.invented_later', 1)")
    with pytest.raises(BadInput, match="newer advisor may have written it"):
        store.runs()
    with sqlite3.connect(store.path) as connection:
        connection.execute(f"PRAGMA user_version = {LAYOUT + 1}")
    with pytest.raises(BadInput, match="written by a newer advisor"):
        store.add([run("b")])
