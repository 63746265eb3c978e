"""Options that take several values."""

from __future__ import annotations

from collections.abc import Iterable


def several(values: Iterable[str] | None) -> list[str]:
    """The values of an option that may be given more than once, each with one value or some with commas."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]
