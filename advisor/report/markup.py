"""HTML and SVG elements from plain values: every string is escaped unless it is Markup already.

So nothing from a model's name or a data file can become an element, an attribute or a script.
"""

from __future__ import annotations

from html import escape
from typing import Any

from advisor.text import printable

VOID_ELEMENTS = frozenset({"br", "hr", "img", "meta", "link"})


class Markup(str):
    """Text that is markup. Only `element`, `join` and constants of this package make it."""

    __slots__ = ()


def element(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """`<name attributes>children</name>`.

    Children that are not Markup are escaped, None is left out, lists are flattened. Of attribute names a trailing
    underscore goes and others become hyphens (`class_`, `stroke_width`); attributes that are None are left out.
    """
    settings = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID_ELEMENTS:
        return Markup(f"<{name}{settings}>")
    return Markup(f"<{name}{settings}>{join(children)}</{name}>")


def join(children: Any) -> Markup:
    """The children one after the other."""
    return Markup("".join(_child(child) for child in children))


def escaped(value: Any) -> str:
    """`value` as text that means nothing in HTML, without control characters."""
    return escape(printable(value), quote=True)


def _child(child: Any) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, list | tuple):
        return join(child)
    return escaped(child)


def _number(value: Any) -> Any:
    """Coordinates with two decimals at most: a page is read by people and compared by tests."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
