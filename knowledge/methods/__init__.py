"""The method catalogue. To add a method, add a file here (or an entry to its family's file): nothing else.

Each module lists its entries in `METHODS`; modules are found by themselves.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
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
