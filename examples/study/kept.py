"""Lines of JSON that several processes add to, each of them once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

Line = dict[str, Any]


def read(path: Path) -> list[Line]:
    """What is kept there; nothing where nothing is yet."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def add_once(path: Path, out: Path, name: str, is_it: Callable[[Line], bool], train: Callable[[], Line]) -> None:
    """Adds what `train` returns to the lines of `path`, unless it stands there or another process, with the same folder
    `out`, is at it under that name."""
    try:
        with FileLock(out / f"{name}.lock").acquire(timeout=0):
            if not any(map(is_it, read(path))):
                line = json.dumps(train(), separators=(",", ":")) + "\n"
                with FileLock(out / "kept.lock"), path.open("a", encoding="utf-8") as file:
                    file.write(line)
    except Timeout:
        pass
