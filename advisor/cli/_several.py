"""Options that take several values."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def several(values: Iterable[str] | None) -> list[str]:
    """The values of an option that may be given more than once, each with one value or some with commas."""
    given = [part.strip() for value in values or () for part in value.split(",") if part.strip()]
    if values and not given:  # as of a variable that is not set: not the same as no option
        raise typer.BadParameter("names nothing: give one or several, a,b or repeated, or leave the option out.")
    return given
