"""Places as people write them, and where their platform keeps the files of programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def at_home(place: str | Path) -> Path:
    """The place with `~` as the home folder also where no shell has put that in: in quotes, from Python, and in
    `--out=~/runs`. A name that only begins so, as that of an editor's copy, stays as it is."""
    try:
        return Path(place).expanduser()
    except RuntimeError:  # no user of that name, or one without a home
        return Path(place)


def own_folder_of(variable: str, *, on_mac: str, xdg: tuple[str, str]) -> Path:
    """The folder that an environment variable names, else peft-advisor where the platform has such files: on_mac, below
    ~/Library; xdg, an environment variable and what stands for it below the home folder. It need not exist yet."""
    if configured := os.environ.get(variable):
        return at_home(configured)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / on_mac
    else:
        base = Path(os.environ.get(xdg[0]) or Path.home() / xdg[1])
    return base / "peft-advisor"
