"""Room on the disk, before a race and in the middle of it."""

import errno
import shutil
from collections import namedtuple

import pytest

from advisor.candidates import Candidate
from advisor.disk import LEAST_ROOM_BYTES, check_free_space, checkpoint_bytes, disk_errors_in_words
from advisor.gather import JOURNAL_FILE
from advisor.outcome import NotSaved, Recommendation
from knowledge.errors import BadInput, DiskFull
from knowledge.methods import get_method
from knowledge.schema import MemoryEstimate
from probes.checkpoint import MAX_BYTES
from tests.advisor.factories import result

Usage = namedtuple("Usage", "free")


def candidate(adapter_bytes):
    breakdown = {"weights": 10**12, "adapter": adapter_bytes, "optimizer": 2 * adapter_bytes}
    memory = MemoryEstimate(peak_bytes=1, low_bytes=1, high_bytes=1, breakdown=breakdown)
    return Candidate("lora@1", get_method("lora"), 1e-3, None, memory)


def test_a_race_begins_only_where_its_checkpoints_have_room(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(LEAST_ROOM_BYTES + 60_000_000))
    folder = tmp_path / "not" / "there"
    check_free_space(folder, [candidate(10_000_000)] * 2)
    assert not folder.parent.exists()
    with pytest.raises(DiskFull, match=r"has 110 MB of room.*may need 140 MB.*--out"):
        check_free_space(folder, [candidate(10_000_000)] * 3)


def test_a_checkpoint_that_is_too_large_to_be_kept_needs_no_room():
    assert checkpoint_bytes(candidate(10_000_000)) == 30_000_000
    assert checkpoint_bytes(candidate(MAX_BYTES)) == 0


def test_a_place_where_nothing_can_be_written_is_named_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"Nothing can be written to .*file/out: Not a directory"):
        check_free_space(tmp_path / "file" / "out")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "quota"), OSError("24 requested and 0 written")]
)
def test_a_write_that_finds_no_room_is_told_as_that(tmp_path, error):
    with pytest.raises(DiskFull, match="No room in"), disk_errors_in_words(tmp_path):
        raise error
    with pytest.raises(PermissionError), disk_errors_in_words(tmp_path):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize(
    ("error", "has_journal", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True, "No space left on device. Make room and repeat"),
        (
            OSError(errno.EISDIR, "Is a directory", "out/train.py"),
            False,
            "out/train.py: Is a directory. Put that right",
        ),
    ],
)
def test_files_that_could_not_be_written_are_told_with_what_is_kept(error, has_journal, words, tmp_path):
    if has_journal:
        (tmp_path / JOURNAL_FILE).touch()
    told = str(NotSaved(Recommendation(result()), tmp_path, error))
    assert words in told
    assert ("--resume, which goes on from the journal there" in told) == has_journal
