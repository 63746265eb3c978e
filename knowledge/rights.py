"""The rights of new files: those that the user's umask leaves, where a library writes for its owner alone."""

from __future__ import annotations

import os


def usual_rights(executable: bool = False) -> int:
    """The mode that a file made by `open` would have."""
    mask = os.umask(0)
    os.umask(mask)
    return (0o777 if executable else 0o666) & ~mask
