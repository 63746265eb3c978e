"""`advisor recommend`: the main job."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli._several import several

if TYPE_CHECKING:
    from advisor.outcome import Recommendation

Text = str | None


def command(
    model: Annotated[str, typer.Option(help="Hub id, local folder, GGUF file, or an alias such as 'llama'.")],
    data: Annotated[Text, typer.Option(help="JSONL, JSON, CSV, TSV or Parquet file, or a hub dataset id.")] = None,
    eval_data: Annotated[
        Text, typer.Option(help="Your own rows to hold out, as --data. Default: some of the data are held out.")
    ] = None,
    budget: Annotated[
        float, typer.Option(help="Minutes for all of it: loading (and download), planning, probing.")
    ] = 15.0,
    vram: Annotated[Text, typer.Option(help="Plan for a card with this much memory, e.g. 24GB.")] = None,
    gpu: Annotated[Text, typer.Option(help="Plan for this card, e.g. 'RTX 4090'.")] = None,
    objective: Annotated[str, typer.Option(help="accuracy, balanced, memory or speed.")] = "balanced",
    require: Annotated[
        list[str] | None,
        typer.Option(
            callback=several,
            help="mergeable, vllm, quantized, multi-adapter, edge, convertible[=10%], max-adapter-size=50MB, "
            "max-forgetting=0.1, max-latency-overhead=5%; a,b or repeated.",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(callback=several, help="Race only these, a,b or repeated. Default: all that the budget reaches."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(callback=several, help="Leave these methods out, a,b or repeated.")
    ] = None,
    task: Annotated[
        Text, typer.Option(help="causal-lm, sequence-classification, seq2seq-lm or text-to-image. Found unless given.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data in the run you plan. Default 3.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps of the run you plan.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Rows per forward pass. Default 8; where memory asks for it in parts, accumulated."),
    ] = None,
    gradient_accumulation: Annotated[int, typer.Option(help="Forward passes per optimizer step.")] = 1,
    scheduler: Annotated[
        str, typer.Option(help="How the learning rate falls after the warm-up: cosine, linear or constant.")
    ] = "cosine",
    warmup: Annotated[
        float, typer.Option(help="Share of the run you plan in which the learning rate rises, at most 0.5.")
    ] = 0.03,
    max_length: Annotated[
        int | None,
        typer.Option(help="Longest row in tokens, longer ones are cut. Default: as the model reads, at most 2048."),
    ] = None,
    format: Annotated[
        Text,
        typer.Option(help="prompt-completion, messages, alpaca, sharegpt, text-label or text. Detected unless given."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            callback=several,
            help="Your columns for the format's keys: text=review,label=stars; a,b or repeated. Only these are read.",
        ),
    ] = None,
    metric: Annotated[
        Text,
        typer.Option(help="exact-match, token-accuracy, accuracy, macro-f1, or FILE.py:FUNCTION, whose code is run."),
    ] = None,
    quantize: Annotated[
        str, typer.Option(help="Base weights: none, nf4, int8, or auto: nf4 where they do not fit otherwise.")
    ] = "auto",
    gradient_checkpointing: Annotated[bool, typer.Option(help="Trade time for memory.")] = False,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Train nothing: table and dry run only.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show plan, time and memory. Loads and measures the model, trains nothing."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Probe workers. Default: one a GPU, else one a core up to 4.")
    ] = None,
    executor: Annotated[str, typer.Option(help="Where probes run: process (here) or ray (a cluster).")] = "process",
    ray_address: Annotated[Text, typer.Option(help="Head of the Ray cluster, as HOST:PORT.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the race in --out.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the results. Default: runs/MODEL-TIME.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
) -> None:
    """Find the method, settings and learning rate for a model and data."""
    from advisor.api import run
    from advisor.files import own_folder
    from advisor.outcome import NotSaved
    from advisor.request import make_request

    request = make_request(
        model=model,
        data=data,
        eval_data=eval_data,
        budget_minutes=budget,
        vram=vram,
        gpu=gpu,
        objective=objective,
        require=tuple(require or ()),
        methods=tuple(methods or ()),
        exclude=tuple(exclude or ()),
        task=task,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        gradient_accumulation_steps=gradient_accumulation,
        scheduler=scheduler,
        warmup_fraction=warmup,
        max_length_tokens=max_length,
        format=format,
        columns=columns,
        metric=metric,
        quantize=quantize,
        gradient_checkpointing=gradient_checkpointing,
        probe=not no_probe,
        workers=workers,
        executor=executor,
        ray_address=ray_address,
        seed=seed,
        trust_remote_code=trust_remote_code,
    )
    is_default = out is None and not dry_run and not resume
    try:
        with own_folder(_default_folder(model)) if is_default else nullcontext(out) as place:
            recommendation = run(
                request, out=place, resume=resume, dry_run=dry_run, show_progress=not quiet, command=_command_line()
            )
    except NotSaved as error:
        _show(error.recommendation, json)
        raise
    _show(recommendation, json)
    _end(recommendation, dry_run)


def _end(recommendation: Recommendation, dry_run: bool) -> None:
    """Leaves with the exit code of what came of it, and says on stderr why that is not 0."""
    from advisor.text import printable
    from knowledge.errors import NothingFits

    race = recommendation.result.race
    if race and race.ended_by:
        print(f"advisor: {printable(race.ended_by)}", file=sys.stderr)
        raise typer.Exit(1)
    if race and race.interrupted:
        if recommendation.folder:
            place = f"--out {shlex.quote(str(recommendation.folder))} --resume"
            words = f"advisor: interrupted. The same command with {place} goes on from here."
            print(printable(words), file=sys.stderr)
        raise typer.Exit(130)
    if recommendation.result.recommendation is None and not dry_run:
        raise typer.Exit(NothingFits.exit_code)


def _show(recommendation: Recommendation, as_json: bool) -> None:
    if as_json:
        print(recommendation.to_json())
    else:
        recommendation.print_summary()


def _default_folder(model: str) -> Path:
    """runs/MODEL-TIME under the current folder."""
    import re
    from datetime import datetime

    name = re.sub(r"\.gguf$", "", Path(model).name, flags=re.IGNORECASE)  # what else is behind a dot is of the name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "model"
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _command_line() -> str:
    """The command as it was typed, so that a report says how to repeat it."""
    return shlex.join(["advisor", *sys.argv[1:]])
