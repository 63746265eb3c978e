"""The command line. One file per command: a module here with `command` (a function) or `app` (a group) is found
and added under its NAME, or its file's name. What a command needs beyond the standard library and Typer it imports
inside the function, so that `advisor --help` answers at once.
"""

from __future__ import annotations

import errno
import importlib
import logging
import pkgutil
import sys
from typing import NoReturn

import typer

# What is wrong with a place that the user named, and not with this program.
_WRONG_PLACE = {
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
}


def build() -> typer.Typer:
    """The Typer application with every command of this package."""
    application = typer.Typer(
        name="advisor",
        help="Which PEFT method, with which settings, for this model, this data and this GPU: measured, not guessed.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    application.callback()(_options)
    for found in pkgutil.iter_modules(__path__):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{found.name}")
        name = getattr(module, "NAME", found.name)
        if hasattr(module, "app"):
            application.add_typer(module.app, name=name)
        else:
            application.command(name)(module.command)
    return application


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `advisor` command; exits with the codes documented in the README."""
    from knowledge.errors import AdvisorError, BadInput, DiskFull, is_full
    from probes import interrupts

    # It warns on every CPU machine that an optional kernel is missing, in the middle of our progress display.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    interrupts.listen()
    try:
        build()(args=arguments, prog_name="advisor", standalone_mode=True)
    except KeyboardInterrupt:
        _end_interrupted()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # Typer and Rich end so where the reader went away
            sys.exit(0)
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):  # which Typer takes for itself
            _end_interrupted()
        raise
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: no traceback about it
        sys.exit(0)
    except Exception as error:
        if interrupts.asked():
            _end_interrupted()
        if isinstance(error, OSError) and error.filename is not None and error.errno in _WRONG_PLACE:
            error = BadInput(f"{error.filename} cannot be used: {error.strerror}. Give another place.")
        if not isinstance(error, AdvisorError) and is_full(error):
            error = DiskFull(f"No room is left on the disk: {error}. Make some and repeat the command.")
        if not isinstance(error, AdvisorError):
            raise
        from advisor.text import printable

        print(f"advisor: {printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)


def _end_interrupted() -> NoReturn:
    print("advisor: interrupted", file=sys.stderr)
    sys.exit(130)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"advisor {version('peft-advisor')}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass
