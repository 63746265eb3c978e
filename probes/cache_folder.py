"""Where what can be made again is kept: memory traces and converted models."""

from __future__ import annotations

from pathlib import Path

from knowledge.places import own_folder_of


def cache_folder() -> Path:
    """The folder that ADVISOR_CACHE_DIR names, else peft-advisor in the platform's folder for caches. It need not exist
    yet."""
    return own_folder_of("ADVISOR_CACHE_DIR", on_mac="Caches", xdg=("XDG_CACHE_HOME", ".cache"))
