"""Where what can be made again is kept: memory traces and converted models."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from knowledge.places import at_home


def cache_folder() -> Path:
    """The folder that ADVISOR_CACHE_DIR names, else peft-advisor in the platform's folder for caches. It need not exist
    yet."""
    if folder := os.environ.get("ADVISOR_CACHE_DIR"):
        return at_home(folder)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "peft-advisor"
