"""`estimate_memory`: peak memory of methods on a model, what fits a card, and what would make the rest fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from advisor.memory.method_memory import MethodMemory, Subject
from advisor.memory.reach import cheapest_change, find_reach
from knowledge.diffusion_models import known_image_generator
from knowledge.errors import BadInput
from knowledge.methods import all_methods, catalogue_name, get_method
from knowledge.methods.base import Method
from knowledge.schema import PlannedRun, Record
from knowledge.shape import ModelShape
from probes.data.columns import Columns, columns_of
from probes.parallel import map_on_cores
from probes.schema import DeviceReport

SCHEMA_VERSION = 1
ASSUMED_TOKENS = 512  # of a row, without data


class MemoryReport(Record):
    """What `advisor estimate --json` prints."""

    schema_version: int = SCHEMA_VERSION
    model: str
    parameters: int
    planned_run: PlannedRun
    device: DeviceReport
    methods: tuple[MethodMemory, ...]

    def to_dataframe(self) -> Any:
        """One row per method, sizes in bytes."""
        import pandas

        rows = []
        for method in self.methods:
            row = method.model_dump(exclude={"memory", "reach"})
            if method.memory:
                row |= {
                    "peak_bytes": method.memory.peak_bytes,
                    "low_bytes": method.memory.low_bytes,
                    "high_bytes": method.memory.high_bytes,
                }
                row |= dict(method.memory.breakdown)
            rows.append(row)
        return pandas.DataFrame(rows)


class Rows(NamedTuple):
    """Where rows are and how they are read."""

    path: str
    format: str | None
    columns: Columns


def estimate_memory(
    model: str | Path,
    methods: str | Iterable[str] = "all",
    *,
    data: str | Path | None = None,
    format: str | None = None,
    columns: Mapping[str, str] | Iterable[str] | None = None,
    batch_size: int = 8,
    gradient_accumulation_steps: int = 1,
    max_length_tokens: int | None = None,
    dtype: str = "bfloat16",
    quantize: str = "none",
    gradient_checkpointing: bool = False,
    task: str | None = None,
    gpu: str | None = None,
    vram: str | None = None,
    max_batch: bool = False,
    trust_remote_code: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> MemoryReport:
    """Peak GPU memory of fine-tuning `model` with each method, without a GPU and without weights.

    model: an alias such as 'llama', a hub id, a folder; well-known ones need no network.
    methods: 'all', a name, or names.
    data: a dataset whose real lengths are used; else every row counts as `max_length_tokens` long.
    format, columns: how its rows are read, where that is not to be found out; see `recommend`.
    max_length_tokens: default: with data what `advisor recommend` plans, rows up to what the model reads; else 512.
    gpu, vram: the card to judge for; default: the one that is here. Without any, each method's smallest card is named.
    max_batch: also find the largest batch and the longest sequence that fit.

    Raises BadInput for what is not understood and for image generators, NoModelAccess where a config cannot be reached.
    """
    from advisor.survey import check_length, longest_tokens

    model, chosen = str(model), _choose(methods)
    device, limit_bytes = _card(gpu, vram, max_batch)
    if task == "text-to-image" or (task is None and known_image_generator(model)):
        raise BadInput(
            "Memory is estimated for language models and classifiers. For an image generator, "
            "`advisor recommend --no-probe` tells what published runs needed."
        )
    rows = None if data is None else Rows(str(data), format, columns_of(columns))
    config, run_task = _config(model, task, rows, trust_remote_code)
    longest = longest_tokens(config)
    limit_tokens = max_length_tokens or (min(ASSUMED_TOKENS, longest) if rows is None else longest)
    run = _checked_run(
        task=run_task,
        batch_size=batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        max_length_tokens=limit_tokens,
        dtype=dtype,
        quantization=quantize,
        gradient_checkpointing=gradient_checkpointing,
    )
    check_length(config, limit_tokens)
    lengths = None if rows is None else _row_lengths(rows, model, run, trust_remote_code)
    if lengths is not None and max_length_tokens is None:
        run = run.model_copy(update={"max_length_tokens": max(2, int(lengths.max()))})
    shape, parameters = _shape(config, run)
    lines = []
    for line in map_on_cores(partial(_line, config, shape, lengths, run, limit_bytes, max_batch), chosen):
        say(f"dry run: {line.title} ({len(lines) + 1} of {len(chosen)})")
        lines.append(line)
    return MemoryReport(model=model, parameters=parameters, planned_run=run, device=device, methods=tuple(lines))


def _card(gpu: str | None, vram: str | None, max_batch: bool) -> tuple[DeviceReport, int | None]:
    """The card to judge for and what may be used of it, None where there is none."""
    from probes.device import detect

    if gpu is not None and vram is not None:
        raise BadInput("--vram and --gpu both name the card to judge for: give one of them.")
    device = detect(vram, gpu)
    # The peaks are those of PyTorch on a CUDA card; the memory of this machine's processor says nothing about them.
    limit_bytes = None if device.kind == "cpu" else device.limit_bytes
    if max_batch and limit_bytes is None:
        raise BadInput("No GPU is here that could be filled: name one with --gpu 'RTX 4090', or give --vram 24GB.")
    return device, limit_bytes


def _checked_run(**fields: Any) -> PlannedRun:
    try:
        return PlannedRun(max_steps=1000, **fields)
    except ValidationError as error:
        problems = "; ".join(f"{_option(p['loc'][0])}: {p['msg']} (seen: {p['input']!r})" for p in error.errors())
        raise BadInput(f"The run cannot be estimated: {problems}") from None


def _option(field: str | int) -> str:
    """As the command line calls it."""
    from advisor.request import OPTIONS

    return {**OPTIONS, "quantization": "--quantize"}.get(str(field), f"--{str(field).replace('_', '-')}")


def _line(
    config: Any,
    shape: ModelShape,
    lengths_tokens: np.ndarray | None,
    run: PlannedRun,
    limit_bytes: int | None,
    max_batch: bool,
    method: Method,
) -> MethodMemory:
    """A method's line of the table with all that is asked about it."""
    subject = Subject(config, shape, method, lengths_tokens)
    line = subject.line(run, limit_bytes)
    if line.memory and max_batch and limit_bytes:
        line = line.model_copy(update={"reach": find_reach(subject, run, limit_bytes)})
    if line.verdict == "does not fit" and limit_bytes:
        line = line.model_copy(update={"change": cheapest_change(subject, run, limit_bytes)})
    return line


def _choose(methods: str | Iterable[str]) -> list[Method]:
    names = list(map(catalogue_name, [methods] if isinstance(methods, str) else methods))
    return list(all_methods().values()) if names == ["all"] else [get_method(name) for name in names]


def _config(model: str, task: str | None, rows: Rows | None, trust_remote_code: bool) -> tuple[Any, Any]:
    """The model's config, from the known architectures or from where the model is, and the task it is made for."""
    from advisor.survey import task_of
    from probes.source import check_full_precision, load_config, resolve_model

    source = resolve_model(model, trust_remote_code=trust_remote_code, need="config")
    config = load_config(source)
    check_full_precision(source, config)
    return config, task or (task_of(config, None) if rows is None else task_of(config, *rows))


def _shape(config: Any, run: PlannedRun) -> tuple[ModelShape, int]:
    from probes.memory.build import build_base
    from probes.shape import model_shape

    try:
        base = build_base(config, run.model_copy(update={"quantization": "none"}))
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"There is no {config.model_type} model for {run.task}: {reason} Give another --task.") from None
    shape = model_shape(base, run.task).model_copy(update={"quantization": run.quantization, "dtype": run.dtype})
    return shape, sum(p.numel() for p in base.parameters())


def _row_lengths(rows: Rows, model: str, run: PlannedRun, trust_remote_code: bool) -> np.ndarray:
    from probes.data.dataset import prepare
    from probes.memory.batches import row_lengths
    from probes.source import load_tokenizer, resolve_model

    tokenizer = load_tokenizer(resolve_model(model, trust_remote_code=trust_remote_code, need="tokenizer"))
    path, format, columns = rows
    prepared = prepare(
        path, tokenizer, task=run.task, max_length_tokens=run.max_length_tokens, format=format, columns=columns
    )
    return np.array(row_lengths(prepared.train, run.task))
