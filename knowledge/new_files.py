"""New files: whole or not at all, and with the rights that the user's umask leaves."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def replace_file(path: Path, content: bytes, *, executable: bool = False) -> None:
    """Replaces `path` by `content` in one step: a reader sees the old or the new file, never a part. Its folder must be
    there. Raises OSError (disk full, no permission) with what was there before untouched."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # nobody knows the other name
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(usual_rights(executable))  # mkstemp's files are private
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def usual_rights(executable: bool = False) -> int:
    """The mode that a file made by `open` would have, where a library writes for its owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    return (0o777 if executable else 0o666) & ~mask
