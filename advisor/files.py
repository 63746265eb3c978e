"""Files are written whole or not at all, and what a user wrote or changed is never lost.

Beside the files of a folder, `.advisor.json` holds the hashes of what was written there. A file that is there
already and is not one of these is someone's own: it is moved aside to a name ending in `.bak` before the new one takes
its place, and a warning names it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from knowledge.new_files import replace_file

MANIFEST = ".advisor.json"

logger = logging.getLogger("advisor")


def write_text(path: Path, text: str, *, executable: bool = False) -> Path:
    """Writes `text` as UTF-8 to `path` and returns it; folders are made as needed.

    Raises OSError (disk full, no permission) with what was there before untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode("utf-8")
    if path.exists() and path.read_bytes() != content:
        _keep_what_is_not_ours(path)
    replace_file(path, content, executable=executable)
    replace_file(
        path.parent / MANIFEST,
        json.dumps({**_manifest(path.parent), path.name: _hash(content)}, indent=1, sort_keys=True).encode(),
    )
    return path


def discard(path: Path) -> None:
    """Removes what `write_text` wrote there, if it is there; what was changed by hand since is moved aside."""
    if path.is_file():
        _keep_what_is_not_ours(path)
        path.unlink(missing_ok=True)


def names_written(folder: Path) -> set[str]:
    """Names of the files that `write_text` wrote to `folder`, as far as they are still there."""
    return {name for name in _manifest(folder) if (folder / name).is_file() and Path(name).name == name}


@contextmanager
def gone_after(error: type[BaseException], folder: Path) -> Iterator[None]:
    """Within it `folder` may be made and filled; where that ends with `error`, what was made of it goes again, folders
    above it too. One that was there before stays as it is, and empty if it was."""
    made = _not_there(folder)
    was_empty = bool(made) or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except error:
        if was_empty and folder.is_dir():
            for place in folder.iterdir():
                shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
        _remove_empty(made)
        raise


@contextmanager
def own_folder(wanted: Path) -> Iterator[Path]:
    """A new folder that nobody else takes: `wanted`, or the first free of `wanted`-2, -3 ... It goes again, and so do
    those above that were made for it, where nothing is written to it. One that cannot be made is for its writer to
    complain of."""
    above = _not_there(wanted.parent)
    folder = wanted
    with suppress(OSError):
        wanted.parent.mkdir(parents=True, exist_ok=True)
        folder = _first_free(wanted)
    try:
        yield folder
    finally:
        _remove_empty([folder, *above])


def _first_free(wanted: Path) -> Path:
    number, folder = 1, wanted
    while True:
        try:
            folder.mkdir()  # asking first whether it is there would give it to two who ask at once
            return folder
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")


def _not_there(folder: Path) -> list[Path]:
    """Of `folder` and those above it what would have to be made, the innermost first."""
    return [place for place in (folder, *folder.absolute().parents) if not place.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for place in folders:
        with suppress(OSError):  # not there, or by now with something of another race in it
            place.rmdir()


def _keep_what_is_not_ours(path: Path) -> None:
    if _hash(path.read_bytes()) != _manifest(path.parent).get(path.name):
        kept = move_aside(path)
        logger.warning("%s was changed by hand or is not ours: kept as %s", path, kept.name)


def _manifest(folder: Path) -> dict[str, str]:
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def move_aside(path: Path) -> Path:
    """Makes room at `path`: what stands there gets the first free name ending in .bak, which is returned."""
    number = 1
    while (kept := path.with_name(f"{path.name}.{number}.bak")).exists():
        number += 1
    return path.rename(kept)
