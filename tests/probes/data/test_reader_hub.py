"""Datasets of the hub, from one that answers as the real one does where that matters."""

import os
import subprocess
import sys

import pytest

from knowledge.errors import BadInput
from probes.data.reader import read_rows
from probes.data.skipped import SkipLedger
from tests.probes.hub_server import ROWS_BYTES, running_hub

ROWS = [{"text": "eins"}, {"text": "zwei"}, {"text": "drei"}]
FIRST_ROWS = """
import itertools
from probes.data.reader import read_rows
from probes.data.skipped import SkipLedger
rows = read_rows("good/rows", SkipLedger("good/rows"))
print([(number, row["completion"]) for number, row in itertools.islice(rows, 3)])
"""


def read(source):
    return list(read_rows(source, SkipLedger(source)))


def test_without_a_connection_a_missing_file_is_named_at_once(monkeypatch):
    monkeypatch.setattr("probes.hub.reachable", lambda: False)
    monkeypatch.setattr("probes.hub.stay_offline", lambda: None)
    with pytest.raises(BadInput, match=r"no file 'my/data'.*offline.*cache"):
        read("my/data")


@pytest.mark.parametrize("said", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["out of reach", "offline"])
def test_what_the_cache_has_of_a_hub_dataset_is_read_without_the_hub(tmp_path, said):
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    with running_hub() as hub:
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
        load = "import datasets; datasets.load_dataset('good/rows')"
        subprocess.run([sys.executable, "-c", load], env=environment, check=True)
    done = subprocess.run(
        [sys.executable, "-c", FIRST_ROWS], capture_output=True, text=True, env=environment | said, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[(1, '2'), (2, '2'), (3, '2')]\n"


def test_a_hub_dataset_that_cannot_be_opened_is_bad_input(monkeypatch):
    import datasets

    monkeypatch.setattr("probes.hub.reachable", lambda: True)

    def unreachable(name, subset, split, streaming):
        raise ConnectionError(f"cannot reach {name}, {split}")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(BadInput, match=r"owner/name.*cannot reach owner/name, train.*owner/name:SUBSET:SPLIT"):
        read("owner/name")


def test_of_a_hub_dataset_only_what_is_read_is_fetched(tmp_path):
    """From a hub that answers as the real one does, in a process of its own that takes it for the hub."""
    online = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    with running_hub() as hub:
        environment = online | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", FIRST_ROWS], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "[(1, '2'), (2, '2'), (3, '2')]\n"
        assert 0 < hub.bytes_sent < ROWS_BYTES * 0.6


def test_a_hub_that_is_lost_on_the_way_is_bad_input(monkeypatch):
    import datasets

    monkeypatch.setattr("probes.hub.reachable", lambda: True)

    def load_dataset(name, subset, split, streaming):
        yield from ROWS[:2]
        raise ConnectionError("gone")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(BadInput, match=r"owner/name.*cannot be read beyond row 2: gone"):
        read("owner/name")


@pytest.mark.parametrize(
    ("source", "subset", "split"),
    [
        ("owner/name", None, "train"),
        ("owner/name:main", "main", "train"),
        ("owner/name:main:test", "main", "test"),
        ("owner/name::train[:10%]", None, "train[:10%]"),
    ],
)
def test_a_hub_dataset_streams(monkeypatch, source, subset, split):
    import datasets

    monkeypatch.setattr("probes.hub.reachable", lambda: True)
    asked = {}

    def load_dataset(name, subset, split, streaming):
        asked.update(name=name, subset=subset, split=split, streaming=streaming)
        return iter(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read(source) == list(enumerate(ROWS, 1))
    assert asked == {"name": "owner/name", "subset": subset, "split": split, "streaming": True}


def test_classes_on_the_hub_have_their_names(monkeypatch):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}, {"text": "of a test set", "label": -1}]
    stream = datasets.Dataset.from_list(rows, features=features).to_iterable_dataset()
    monkeypatch.setattr("probes.hub.reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream)
    assert [row["label"] for _, row in read("owner/name")] == ["yes", "no", None]
