"""Options that name a place to write to."""

from __future__ import annotations

from pathlib import Path

from knowledge.places import at_home


def place(given: Path | None) -> Path | None:
    """The place, with `~` as the home folder where the shell left it; None where none was given."""
    return None if given is None else at_home(given)
