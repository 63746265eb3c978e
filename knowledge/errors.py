"""Errors a user can act on. Each carries the exit code of the command line.

A message names what was wrong, the value seen, what would be valid, and the next step.
"""

from __future__ import annotations

import errno
import os


class AdvisorError(Exception):
    """Base of all errors that are shown as a message instead of a traceback."""

    exit_code = 1


class BadInput(AdvisorError):
    """The request, the data or an option cannot be used as given."""

    exit_code = 2


class NothingFits(AdvisorError):
    """No candidate is left: memory, requirements, or no probe was valid."""

    exit_code = 3


class NoModelAccess(AdvisorError):
    """The model cannot be reached: gated, missing, or offline."""

    exit_code = 4


class DiskFull(AdvisorError):
    """There is no room for what is to be written."""

    # Full device, exceeded quota, and a limit on the size of files: for the user all the same.
    ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: BaseException) -> bool:
    """Whether a write found no room. NumPy tells of a short write without an error number, shutil of many files at
    once, and safetensors in words."""
    if getattr(error, "errno", None) is not None:
        return isinstance(error, OSError) and error.errno in DiskFull.ERRNOS
    words = str(error)
    if isinstance(error, OSError) and " requested and " in words:
        return True
    is_of_files = isinstance(error, OSError) or type(error).__name__ == "SafetensorError"
    return is_of_files and any(os.strerror(number) in words for number in DiskFull.ERRNOS)


def first_fault(error: Exception) -> str:
    """Of the faults that pydantic found the first, by its field, and how many more; of another error its first line."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return next(iter(str(error).splitlines()), type(error).__name__)
    first, *more = error.errors()
    field = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return (f"{field}: {message}" if field else message) + (f" (and {len(more)} more)" if more else "")


def did_you_mean(name: str, known: list[str]) -> str:
    """A closing sentence that offers the nearest known names, or lists them where none is near."""
    from difflib import get_close_matches

    by_lower_case = {k.lower(): k for k in known}
    near = get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(repr(by_lower_case[n]) for n in near)}?"
    return f"Known: {', '.join(sorted(known))}."
