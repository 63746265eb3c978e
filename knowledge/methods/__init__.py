"""The method catalogue. To add a method, add a file here (or an entry to its family's file): nothing else.

Each module lists its entries in `METHODS`; modules are found by themselves.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

from knowledge.errors import BadInput, did_you_mean
from knowledge.methods.base import Method


@cache
def all_methods() -> dict[str, Method]:
    """Every method by name, in order of their files and of the entries in a file."""
    methods: dict[str, Method] = {}
    for module in sorted(iter_modules(__path__), key=lambda found: found.name):
        for method in getattr(import_module(f"{__name__}.{module.name}"), "METHODS", ()):
            if method.name in methods:
                raise ValueError(f"two methods are named {method.name!r}; the second is in {module.name}.py")
            methods[method.name] = method
    return methods


def get_method(name: str) -> Method:
    """The method of that name. Raises BadInput with the nearest names where there is none."""
    try:
        return all_methods()[name]
    except KeyError:
        raise BadInput(f"There is no method {name!r}. {did_you_mean(name, list(all_methods()))}") from None


def catalogue_name(text: str) -> str:
    """The catalogue's name of the method that a person means by its name or its title ('LoRA+'), in any case of the
    letters; the text itself where there is none."""
    return _names().get(text.strip().lower(), text)


@cache
def _names() -> dict[str, str]:
    return {alias.lower(): name for name, method in all_methods().items() for alias in (method.title, name)}


def uncatalogued_peft_types() -> tuple[str, ...]:
    """Adapter types of the installed PEFT that the catalogue has no entry for: a newer PEFT than this catalogue.

    Reads the source of PEFT's enumeration, because importing PEFT takes seconds. Empty where it cannot be read.
    """
    spec = find_spec("peft")
    if spec is None or spec.origin is None:
        return ()
    source = Path(spec.origin).parent / "utils" / "peft_types.py"
    known = {method.peft_type for method in all_methods().values()}
    return tuple(name for name in _enumeration_members(source, "PeftType") if name not in known)


def _enumeration_members(source: Path, class_name: str) -> list[str]:
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return []
    members = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    return [s.targets[0].id for body in members for s in body if isinstance(s, ast.Assign)]
