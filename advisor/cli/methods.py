"""`advisor methods`: the catalogue, or one method explained."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from knowledge.methods.base import Method

WIDE = 120  # columns: below, a table with everything would be cut


def command(
    name: Annotated[str | None, typer.Argument(help="a method to explain, e.g. 'lora'")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the entries as JSON")] = False,
) -> None:
    """List the methods that can be tried, or explain one of them."""
    from knowledge.methods import all_methods, catalogue_name, get_method

    methods = [get_method(catalogue_name(name))] if name else list(all_methods().values())
    if as_json:
        print(json.dumps([_as_json(method) for method in methods], indent=2))
    elif name:
        from shutil import get_terminal_size

        from advisor.report.method_page import method_page
        from knowledge.table import load

        print(method_page(methods[0], load(), get_terminal_size().columns))
    else:
        _print_catalogue(methods)


def _as_json(method: Method) -> dict[str, Any]:
    from knowledge.seen import matrix

    seen = {architecture: facts.model_dump() for architecture, facts in matrix().get(method.name, {}).items()}
    rate = method.default_learning_rate
    return {**method.model_dump(mode="json"), "default_learning_rate": rate, "seen": seen}


def _print_catalogue(methods: list[Method]) -> None:
    from knowledge.methods import uncatalogued_peft_types

    candidates = [method for method in methods if not method.special_purpose]
    _print_candidates(candidates)
    print(f"\n{len(candidates)} methods. `advisor methods NAME` explains one.")
    special = ", ".join(method.name for method in methods if method.special_purpose)
    print(f"Listed, but for a special purpose: {special}.")
    if unknown := uncatalogued_peft_types():
        print(f"Not catalogued: the installed PEFT also has {', '.join(unknown)}.")


def _print_candidates(methods: list[Method]) -> None:
    from rich.console import Console
    from rich.table import Table

    from advisor.text import rate_text

    # Rows are for reading and for grep: without a terminal they are never folded at 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    table = Table(box=None, pad_edge=False)
    columns = {
        "name": lambda method: method.name,
        "method": lambda method: method.title,
        "family": lambda method: method.family,
        "adapts": lambda method: "-" if method.targets == "none" else method.targets,
        "learning rates": lambda method: " ".join(rate_text(rate) for rate in method.learning_rates),
        "merges": lambda method: "yes" if method.capabilities.mergeable else "no",
        "vLLM": lambda method: method.capabilities.vllm,
        "quantised": lambda method: " ".join(method.capabilities.quantized) or "no",
    }
    shown = [name for name in columns if console.width >= WIDE or name not in ("method", "family", "quantised")]
    for heading in shown:
        table.add_column(heading, no_wrap=True)
    for method in methods:
        table.add_row(*(columns[heading](method) for heading in shown))
    console.print(table)
