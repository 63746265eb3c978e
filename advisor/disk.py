"""Room on the disk: looked at before the work begins, and told in words when it runs out in the middle of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from advisor.candidates import Candidate
from advisor.text import bytes_text
from knowledge.errors import BadInput, DiskFull, is_full
from probes import checkpoint

LEAST_ROOM_BYTES = 50_000_000  # for the tokenised data, the journal, the logs and the report


def check_free_space(folder: Path, candidates: Sequence[Candidate] = ()) -> None:
    """Raises BadInput where no files can be written to `folder`, which need not be there yet, and DiskFull where there
    is not enough room for the checkpoints of `candidates` and the rest."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        _raise_if_full(error, folder)
        raise BadInput(f"Nothing can be written to {folder}: {error.strerror}. Give another --out folder.") from error
    needed_bytes = LEAST_ROOM_BYTES + sum(checkpoint_bytes(c) for c in candidates)
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < needed_bytes:
        raise DiskFull(
            f"{folder} has {bytes_text(free_bytes)} of room, and this race may need {bytes_text(needed_bytes)}, mostly "
            "for checkpoints. Make room, give another --out folder, or race fewer methods (--methods)."
        )


def checkpoint_bytes(candidate: Candidate) -> int:
    """What a probe's checkpoint takes: trained weights and optimizer state. Zero where it is too large to be kept, or
    its memory is not known."""
    parts = candidate.memory.breakdown if candidate.memory else {}
    size_bytes = parts.get("adapter", 0) + parts.get("optimizer", 0)
    return size_bytes if size_bytes <= checkpoint.MAX_BYTES else 0


@contextmanager
def disk_errors_in_words(folder: Path) -> Iterator[None]:
    """Turns the error of a write that found no room in `folder` into DiskFull."""
    try:
        yield
    except Exception as error:
        _raise_if_full(error, folder)
        raise


def _raise_if_full(error: Exception, folder: Path) -> None:
    if is_full(error):
        number = getattr(error, "errno", None)
        words = os.strerror(number) if number else str(error)
        raise DiskFull(f"No room in {folder}: {words}. Make some, or give another --out folder.") from error
