"""Files are written whole or not at all, and what a user wrote or changed is never lost.

Beside the files of a folder, `.advisor.json` holds the hashes of what was written there. A file that is there
already and is not one of these is someone's own: it is moved aside to a name ending in `.bak` before the new one takes
its place, and a warning names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path

from knowledge.rights import usual_rights

MANIFEST = ".advisor.json"

logger = logging.getLogger("advisor")


def write_text(path: Path, text: str, *, executable: bool = False) -> Path:
    """Writes `text` as UTF-8 to `path` and returns it; folders are made as needed.

    Raises OSError (disk full, no permission) with what was there before untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode("utf-8")
    if (
        path.exists()
        and path.read_bytes() != content
        and _hash(path.read_bytes()) != _manifest(path.parent).get(path.name)
    ):
        kept = free_name(path)
        path.rename(kept)
        logger.warning("%s was changed by hand or is not ours: kept as %s", path, kept.name)
    replace_file(path, content, executable=executable)
    replace_file(
        path.parent / MANIFEST,
        json.dumps({**_manifest(path.parent), path.name: _hash(content)}, indent=1, sort_keys=True).encode(),
    )
    return path


def replace_file(path: Path, content: bytes, *, executable: bool = False) -> None:
    """Replaces `path` by `content` in one step: a reader sees the old or the new file, never a part."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
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


def _manifest(folder: Path) -> dict[str, str]:
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def free_name(path: Path) -> Path:
    """The first free name ending in .bak for what stands in the way at `path`."""
    number = 1
    while (candidate := path.with_name(f"{path.name}.{number}.bak")).exists():
        number += 1
    return candidate
