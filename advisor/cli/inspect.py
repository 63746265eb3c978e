"""`advisor inspect`: model, data and its first row as it is read, device, methods that can apply. Loads no weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advisor.cli._several import several

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from advisor.example_row import ExampleRow
    from advisor.survey import Survey
    from knowledge.methods.base import Method

SCHEMA_VERSION = 1
LABELS_SHOWN = 12
Option = str | None


def command(
    model: Annotated[str, typer.Option(help="Hub id, local folder, GGUF file, or an alias such as 'llama'.")],
    data: Annotated[Option, typer.Option(help="JSONL, JSON, CSV, TSV or Parquet file, or a hub dataset id.")] = None,
    eval_data: Annotated[
        Option, typer.Option(help="Your own rows to hold out, as --data. Default: some of the data are held out.")
    ] = None,
    vram: Annotated[Option, typer.Option(help="Plan for a card with this much memory, e.g. 24GB.")] = None,
    gpu: Annotated[Option, typer.Option(help="Plan for this card, e.g. 'RTX 4090'.")] = None,
    format: Annotated[Option, typer.Option(help="Data format. Detected unless given.")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(callback=several, help="Your columns for the format's keys: text=review,label=stars."),
    ] = None,
    task: Annotated[
        Option, typer.Option(help="causal-lm, sequence-classification or seq2seq-lm. Found unless given.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest sequence in tokens.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
) -> None:
    """Look at model, data and device, and list the methods that can apply."""
    from advisor.request import make_request
    from advisor.survey import survey

    request = make_request(
        model=model,
        data=data,
        eval_data=eval_data,
        vram=vram,
        gpu=gpu,
        format=format,
        columns=columns,
        task=task,
        max_length_tokens=max_length,
        seed=seed,
        probe=False,
        trust_remote_code=trust_remote_code,
    )
    with _reading_bar() as on_progress:
        found = survey(request, _progress, on_progress)
    if json:
        import json as json_module

        print(json_module.dumps(as_dict(found), indent=2, allow_nan=False))
    else:
        from rich.console import Console

        show(found, Console())


def as_dict(found: Survey) -> dict[str, Any]:
    """The result as plain data; `schema_version` changes where a field is renamed or removed."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": found.model.model_dump(mode="json"),
        "data": found.data.profile.model_dump(mode="json") if found.data else None,
        "row": _example(found).model_dump(mode="json") if found.data else None,
        "device": found.device.model_dump(mode="json"),
        "methods": [
            {
                "name": method.name,
                "title": method.title,
                "family": method.family,
                "applies": reason is None,
                "reason": reason,
                "learning_rates": list(method.learning_rates_for(found.shape)),
            }
            for method, reason in _methods(found)
        ],
    }


def show(found: Survey, console: Console) -> None:
    """Print the tables for a person."""
    from advisor.text import clean

    console.print(_model_table(found))
    if found.data is not None:
        console.print(_data_table(found))
        console.print(_row_table(_example(found)))
    console.print(_device_table(found))
    apply = [method for method, reason in _methods(found) if reason is None]
    refused = [(method, reason) for method, reason in _methods(found) if reason is not None]
    console.print(f"{len(apply)} methods can apply: {', '.join(method.name for method in apply)}", style="bold")
    for method, reason in refused:
        console.print(f"  not {method.name}: {clean(reason)}", markup=False, highlight=False)


def _methods(found: Survey) -> list[tuple[Method, str | None]]:
    from knowledge.methods import all_methods

    return [(method, method.unsupported_reason(found.shape)) for method in all_methods().values()]


def _model_table(found: Survey) -> Table:
    from advisor.text import count_text

    model, shape = found.model, found.shape
    return _facts(
        "Model",
        [
            ("reference", model.reference),
            ("found as", f"{model.source}: {model.location}"),
            ("architecture", f"{model.model_type}, {shape.num_layers} layers, hidden size {shape.hidden_size}"),
            ("parameters", count_text(model.parameters)),
            ("task", model.task),
            ("linear layers", ", ".join(shape.linear_modules)),
        ],
    )


def _data_table(found: Survey) -> Table:
    from advisor.data_notes import notes_on
    from advisor.text import listed, plural

    assert found.data is not None
    profile = found.data.profile
    sampled = "" if profile.tokenised_rows >= profile.usable_rows else f" (of a sample of {profile.tokenised_rows:,})"
    lengths = (
        f"median {profile.length_p50_tokens}, 95 % up to {profile.length_p95_tokens}, "
        f"longest {profile.length_max_tokens}{sampled}"
    )
    unit = "" if found.data.keyed_by == "prompt" else ", by the whole text: too few different prompts are left"
    place = f" of the {profile.eval_path_rows:,} in {profile.eval_path}" if profile.eval_path else ""
    facts = [
        ("path", profile.path),
        ("format", profile.format),
        (
            "rows",
            f"{profile.rows:,} read, {profile.usable_rows:,} usable, {plural(profile.duplicate_rows, 'duplicate')}",
        ),
        ("split", f"{profile.train_rows:,} to train on, {profile.eval_rows:,} held out{place}{unit}"),
        ("length in tokens", lengths),
        ("judged by", profile.metric_name),
    ]
    if profile.columns:
        facts.insert(2, ("columns", ", ".join(f"{key} is {column}" for key, column in profile.columns.items())))
    if profile.label_total_tokens:
        labels = f"median {profile.label_p50_tokens} a row, {profile.label_total_tokens:,} in all"
        facts.append(("trained tokens", labels))
    if found.data.label_names:
        facts.append(("labels", listed(found.data.label_names, LABELS_SHOWN)))
        facts.append(("most frequent label", f"{100 * (profile.largest_class_share or 0):.1f} % of the held-out rows"))
    if profile.cut_rows:
        facts.append(("cut", f"{plural(profile.cut_rows, 'row')} longer than the limit"))
    facts += [("left out", f"{plural(count, 'row')}: {reason}") for reason, count in profile.dropped.items()]
    facts += [("note", note) for note in notes_on(profile)]
    return _facts("Data", facts)


def _example(found: Survey) -> ExampleRow:
    from advisor.example_row import example_row
    from probes.source import load_tokenizer

    assert found.data is not None
    return example_row(found.data, load_tokenizer(found.source))


def _row_table(row: ExampleRow) -> Table:
    from advisor.example_row import quoted

    facts = [("the model sees", quoted(row.text))]
    facts += [("it learns", ", ".join(map(quoted, row.trained)))] if row.trained else []
    facts += [("it learns", f"the class {row.label}")] if row.label else []
    return _facts("The first row", facts)


def _device_table(found: Survey) -> Table:
    from advisor.text import bytes_text

    device = found.device
    facts = [
        ("name", device.name),
        ("memory", f"{bytes_text(device.total_bytes)}, {bytes_text(device.free_bytes)} free"),
        ("trains in", ", ".join(device.dtypes)),
    ]
    if device.driver:
        facts.append(("driver", device.driver))
    facts += [("used by", f"{p.name} ({p.pid}), {bytes_text(p.used_bytes)}") for p in device.processes]
    facts += [("note", note) for note in device.notes]
    return _facts("Device", facts)


def _facts(title: str, facts: list[tuple[str, str]]) -> Table:
    """Names and values in two columns; the values come from outside, so they are never read as markup."""
    from rich.table import Table
    from rich.text import Text

    from advisor.text import clean

    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True, min_width=len("length in tokens"))
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(clean(value)))
    return table


def _progress(words: str) -> None:
    if sys.stderr.isatty():
        print(words, file=sys.stderr)


@contextmanager
def _reading_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while a data file is read; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    shown = sys.stderr.isatty()
    console = Console(stderr=True, quiet=not shown)  # Rich before 14.3 ends a disabled bar with an empty line
    with Progress(*columns, console=console, transient=True, disable=not shown) as bars:
        bar = bars.add_task("", total=None, visible=False)
        yield lambda done, total: bars.update(bar, completed=done, total=total, visible=done < total)
