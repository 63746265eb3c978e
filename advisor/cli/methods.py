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
    head = [f"{method.title}  ({method.name}, {method.family})", "", method.summary, ""]
    if method.special_purpose:
        return "\n".join([*head, f"Paper           {method.paper}", f"Not a candidate: {method.special_purpose}."])
    lines = [
        *head,
        f"Paper           {method.paper}",
        f"Settings        {settings}",
        f"Adapts          {method.targets.replace('none', 'the input or the whole model')}",
        f"Learning rates  {', '.join(rate_text(rate) for rate in method.learning_rates)}",
        f"Source          {method.settings_source}",
        f"Seen working    {_architectures(method)}",
        "",
        *(f"{'+' if good else '-'} {text}" for good, text in _abilities(method)),
        "",
        *_standing(method, load()),
    ]
    return "\n".join(lines)


def _as_json(method: Method) -> dict[str, Any]:
    from knowledge.seen import matrix

    seen = {architecture: facts.model_dump() for architecture, facts in matrix().get(method.name, {}).items()}
    rate = method.default_learning_rate
    return {**method.model_dump(mode="json"), "default_learning_rate": rate, "seen": seen}


def _architectures(method: Method) -> str:
    """The tiny architectures of the contract tests on which it works, and the others."""
    from knowledge.seen import matrix, quantized_columns

    row = {column: seen for column, seen in matrix().get(method.name, {}).items() if column not in quantized_columns()}
    works = [architecture for architecture, facts in row.items() if facts.works]
    refused = [architecture for architecture in row if architecture not in works]
    return ", ".join(works) + (f" (not {', '.join(refused)})" if refused else "")


def _abilities(method: Method) -> list[tuple[bool, str]]:
    """What a user would ask first, as (good news?, text)."""
    from knowledge.methods.base import QUANTIZED_BASES

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
    if can.quantized:
        kinds = " or ".join(QUANTIZED_BASES[kind] for kind in can.quantized)
        abilities.append((True, f"trains on a base in {kinds}"))
    else:
        abilities.append((False, "needs a base that is not quantised"))
    if (error := _lora_error(method)) is not None:
        near = "exactly" if error < 0.005 else f"with an error of {error:.0%}"
        abilities.append((error < 0.005, f"can be converted {near} to a LoRA of rank 16 (on a tiny Llama)"))
    if method.cost == "high":
        abilities.append((False, "takes several times as long per step as LoRA, or far more memory"))
    if not can.identity_start:
        abilities.append((False, "starts from changed outputs: early losses look worse than the base model's"))
    if not method.supports_conv1d:
        abilities.append((False, "does not work on the Conv1D layers of GPT-2"))
    if method.needs_batches:
        abilities.append((False, "needs training batches for its initialisation"))
    if method.reference_only:
        abilities.append((False, "is measured for comparison and never recommended over an adapter"))
    return abilities


def _lora_error(method: Method) -> float | None:
    from knowledge.seen import matrix

    return facts.lora_error if (facts := matrix().get(method.name, {}).get("llama")) else None


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
    for heading in ("name", "method", "family", "adapts", "learning rates", "merges", "vLLM", "quantised"):
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
            " ".join(method.capabilities.quantized) or "no",
        )
    console.print(table)
