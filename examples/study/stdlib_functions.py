"""Functions of Python's standard library: their heads and the first lines of their documentation.

Read from the source files of the running interpreter, so the rows follow its version (the study's: 3.11).
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from knowledge.errors import AdvisorError

LONGEST = 90  # characters of a head or a line
FEWEST_WORDS, FEWEST_LETTERS = 3, 4  # of a line, of a name: below, there is nothing to say
# Packages that come with some interpreters and not with others, or that hold no library.
LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "ensurepip"}


class LibraryInParts(AdvisorError):
    """This Python comes without parts of its library."""


class Function(NamedTuple):
    """Its name, its head (`join(a, *p)`), the first line of its documentation, and the package or module it is in."""

    name: str
    head: str
    line: str
    package: str


def functions() -> tuple[Function, ...]:
    """No name and no line twice."""
    return _functions_of(Path(sysconfig.get_path("stdlib")))


@cache
def _functions_of(library: Path) -> tuple[Function, ...]:
    found: list[Function] = []
    names: set[str] = set()
    lines: set[str] = set()
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if LEFT_OUT & set(parts[:-1]):
            continue
        for name, head, line in _documented(path.read_text(encoding="utf-8", errors="replace")):
            is_short = len(line.split()) < FEWEST_WORDS or len(name) < FEWEST_LETTERS
            if is_short or name in names or line.casefold() in lines or max(len(head), len(line)) > LONGEST:
                continue
            names.add(name)
            lines.add(line.casefold())
            found.append(Function(name, head, line, parts[0].removesuffix(".py")))
    return tuple(found)


def _documented(source: str) -> Iterator[tuple[str, str, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (text := ast.get_docstring(node)):
            arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
            yield node.name.strip("_"), f"{node.name}({arguments})", text.strip().splitlines()[0].strip()
