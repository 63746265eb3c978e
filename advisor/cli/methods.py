"""`advisor methods`: the catalogue, or one method explained."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from knowledge.methods.base import Method
    from knowledge.schema import RunRecord


def command(
    name: Annotated[str | None, typer.Argument(help="a method to explain, e.g. 'lora'")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the entries as JSON")] = False,
) -> None:
    """List the methods that can be tried, or explain one of them."""
    from knowledge.methods import all_methods, get_method

    methods = [get_method(name)] if name else list(all_methods().values())
    if as_json:
        print(json.dumps([_as_json(method) for method in methods], indent=2))
    elif name:
        print(explanation(methods[0]))
    else:
        _print_catalogue(methods)


def explanation(method: Method) -> str:
    """What the method is, what it is tried with, what it can do, and how it did in the benchmark table."""
    from advisor.text import rate_text
    from knowledge.table import load

    settings = ", ".join(f"{key}={value}" for key, value in method.settings.items()) or "PEFT's defaults"
    lines = [
        f"{method.title}  ({method.name}, {method.family})",
        "",
        method.summary,
        "",
        f"Paper           {method.paper}",
        f"Settings        {settings}",
        f"Adapts          {method.targets.replace('none', 'the input or the whole model')}",
        f"Learning rates  {', '.join(rate_text(rate) for rate in method.learning_rates)}",
        f"Source          {method.settings_source}",
        "",
        *(f"{'+' if good else '-'} {text}" for good, text in _abilities(method)),
        "",
        *_standing(method, load()),
    ]
    return "\n".join(lines)


def _as_json(method: Method) -> dict[str, Any]:
    return {**method.model_dump(mode="json"), "default_learning_rate": method.default_learning_rate}


def _abilities(method: Method) -> list[tuple[bool, str]]:
    """What a user would ask first, as (good news?, text)."""
    can = method.capabilities
    serving = {
        "adapter": (True, "vLLM serves it as an adapter"),
        "merged": (True, "vLLM serves it after merging"),
        "no": (False, "vLLM cannot serve it"),
    }
    if method.peft_type is None:
        merging = (True, "leaves no adapter: the trained weights are part of the model")
    elif can.mergeable:
        merging = (True, "merges into the base model: no cost at inference")
    else:
        merging = (False, "cannot be merged into the base model in general")
    abilities = [merging, serving[can.vllm]]
    if not can.identity_start:
        abilities.append((False, "starts from changed outputs: early losses look worse than the base model's"))
    if not method.supports_conv1d:
        abilities.append((False, "does not work on the Conv1D layers of GPT-2"))
    if method.needs_batches:
        abilities.append((False, "needs training batches for its initialisation"))
    if method.reference_only:
        abilities.append((False, "is measured for comparison and never recommended over an adapter"))
    return abilities


def _standing(method: Method, records: tuple[RunRecord, ...]) -> list[str]:
    """Its best run in each benchmark beside the best of all methods."""
    from advisor.text import bytes_text, quality_text
    from knowledge.table import by_benchmark

    lines = []
    for benchmark, runs in by_benchmark(records).items():
        ranked = sorted((r for r in runs if r.metric is not None), key=lambda r: -r.metric)
        mine = next((r for r in ranked if r.method == method.name), None)
        if mine is None:
            continue
        lines.append(
            f"Benchmark       {benchmark}: {quality_text(mine.metric, mine.metric_name)} {mine.metric_name}, "
            f"{bytes_text(mine.peak_bytes)}, rank {1 + ranked.index(mine)} of {len(ranked)} runs "
            f"(best: {ranked[0].method} {quality_text(ranked[0].metric, ranked[0].metric_name)})"
        )
    return lines or ["Benchmark       no run in the table"]


def _print_catalogue(methods: list[Method]) -> None:
    from rich.console import Console
    from rich.table import Table

    from advisor.text import rate_text

    # Rows are for reading and for grep: without a terminal they are never folded at 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "method", "family", "adapts", "learning rates", "merges", "vLLM"):
        table.add_column(heading, no_wrap=heading in ("name", "method"))
    for method in methods:
        table.add_row(
            method.name,
            method.title,
            method.family,
            "-" if method.targets == "none" else method.targets,
            " ".join(rate_text(rate) for rate in method.learning_rates),
            "yes" if method.capabilities.mergeable else "no",
            method.capabilities.vllm,
        )
    console.print(table)
    print(f"\n{len(methods)} methods. `advisor methods NAME` explains one.")
