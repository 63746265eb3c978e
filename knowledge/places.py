"""Places as people write them."""

from __future__ import annotations

from pathlib import Path


def at_home(place: str | Path) -> Path:
    """The place with `~` as the home folder also where no shell has put that in: in quotes, from Python, and in
    `--out=~/runs`. A name that only begins so, as that of an editor's copy, stays as it is."""
    try:
        return Path(place).expanduser()
    except RuntimeError:  # no user of that name, or one without a home
        return Path(place)
