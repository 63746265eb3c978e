"""`advisor estimate`: peak memory of methods on a model. No GPU, no weights, and for well-known models no network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli._several import several
from advisor.limits import MAX_COUNT, MAX_LENGTH_TOKENS

if TYPE_CHECKING:
    from rich.table import Table

    from advisor.memory.estimate import MemoryReport
    from advisor.memory.method_memory import MethodMemory

Text = str | None

COLORS = {"fits": "green", "fits with risk": "yellow", "does not fit": "red"}
ALL_COLUMNS = 120  # width of a terminal that has room for what the peaks are made of


def command(
    model: Annotated[str, typer.Option(help="Hub id, local folder, GGUF file, or an alias such as 'llama'.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            callback=several, help="Only these methods, a,b or repeated: seconds each. Default: all, minutes."
        ),
    ] = None,
    data: Annotated[Text, typer.Option(help="Use the lengths of this dataset's rows.")] = None,
    format: Annotated[Text, typer.Option(help="Format of the data. Detected unless given.")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(callback=several, help="Columns of the data for the format's keys: text=review,label=stars."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Sequences per forward pass.")] = 8,
    gradient_accumulation: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Forward passes per optimizer step.")
    ] = 1,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=MAX_LENGTH_TOKENS,
            help="Longest sequence in tokens. Default: with --data what the model reads, at most 2048; else 512.",
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    quantize: Annotated[str, typer.Option(help="Base weights: none, nf4 or int8.")] = "none",
    gradient_checkpointing: Annotated[bool, typer.Option(help="Trade time for memory.")] = False,
    task: Annotated[Text, typer.Option(help="causal-lm, sequence-classification or seq2seq-lm.")] = None,
    gpu: Annotated[Text, typer.Option(help="Judge for this card, e.g. 'RTX 4090'.")] = None,
    vram: Annotated[Text, typer.Option(help="Judge for a card with this much memory, e.g. 24GB.")] = None,
    max_batch: Annotated[bool, typer.Option("--max-batch", help="Also find the largest batch and length.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
) -> None:
    """Estimate the peak GPU memory of methods on a model."""
    from advisor.memory.estimate import estimate_memory

    show_progress = not quiet and sys.stderr.isatty()
    report = estimate_memory(
        model,
        method or "all",
        data=data,
        format=format,
        columns=columns,
        batch_size=batch_size,
        gradient_accumulation_steps=gradient_accumulation,
        max_length_tokens=max_length,
        dtype=dtype,
        quantize=quantize,
        gradient_checkpointing=gradient_checkpointing,
        task=task,
        gpu=gpu,
        vram=vram,
        max_batch=max_batch,
        trust_remote_code=trust_remote_code,
        say=_say if show_progress else lambda message: None,
    )
    if json:
        print(report.model_dump_json(indent=2))
    else:
        _show(report)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _show(report: MemoryReport) -> None:
    from rich.console import Console
    from rich.markup import escape

    from advisor.text import clean

    console = Console()
    run, device = report.planned_run, report.device
    console.print(
        f"[bold]{escape(clean(report.model))}[/bold], {report.parameters / 1e9:.2f} B parameters: {run.dtype}, "
        f"batch {run.batch_size} x {run.max_length_tokens} tokens"
        + (f", {run.quantization} base" if run.quantization != "none" else "")
        + (", gradient checkpointing" if run.gradient_checkpointing else "")
    )
    if device.kind == "cpu":
        card = "no GPU here: name a card with --gpu or --vram to be told what fits"
    else:
        card = f"judged for {device.name}, where a run may use {device.limit_bytes / 1e9:.1f} GB"
    console.print(f"{card}; sizes in GB (1e9 bytes)\n")
    estimated = [line for line in report.methods if line.memory]
    if estimated:
        wide = console.width >= ALL_COLUMNS
        console.print(_table(estimated, wide=wide))
        if not wide:
            console.print(f"[dim]From {ALL_COLUMNS} columns on, and with --json: what each peak is made of.[/dim]")
    for line in report.methods:
        if line.memory is None:
            why = escape(clean(line.reason, 400))
            console.print(f"[dim]{line.title}: {line.verdict}. {why}[/dim]", highlight=False)
        elif line.change:
            console.print(f"{line.title} would fit with {escape(line.change)}.", highlight=False)


def _table(lines: list[MethodMemory], *, wide: bool) -> Table:
    """Smallest peak first. What the peak is made of is shown where the terminal has room for it."""
    from rich.table import Table

    from probes.memory.kinds import BREAKDOWN

    with_reach = any(line.reach for line in lines)
    judged = any(line.verdict in COLORS for line in lines)
    table = Table(box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("peak", "low", "high", *(BREAKDOWN if wide else ())):
        table.add_column(heading, justify="right")
    if with_reach:
        table.add_column("max batch", justify="right")
        table.add_column("max length", justify="right")
    table.add_column("" if judged else "fits from")
    for line in sorted(lines, key=lambda line: line.memory.peak_bytes if line.memory else 0):
        memory = line.memory
        assert memory is not None
        sizes = [memory.peak_bytes, memory.low_bytes, memory.high_bytes]
        sizes += [memory.breakdown.get(kind, 0) for kind in BREAKDOWN] if wide else []
        reach = [str(value or "-") for value in line.reach.model_dump().values()] if line.reach else []
        color = COLORS.get(line.verdict)
        verdict = f"[{color}]{line.verdict}[/{color}]" if color else line.smallest_card or "no single card"
        table.add_row(line.title, *(f"{size / 1e9:.2f}" for size in sizes), *reach, verdict)
    return table
