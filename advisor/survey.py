"""The first station: what is there? Model, data, device and the planned run, before anything is trained.

Everything that can be wrong with the request shows here, in seconds, before weights are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from advisor.request import Request
from knowledge.errors import BadInput
from knowledge.methods.base import ModelShape
from knowledge.schema import PlannedRun, Task
from probes.schema import DeviceReport, ModelReport

if TYPE_CHECKING:
    from probes.data.columns import Columns
    from probes.data.dataset import PreparedData
    from probes.source import ModelSource

DEFAULT_EPOCHS = 3.0  # what TRL and transformers.TrainingArguments use too
DEFAULT_BATCH_SIZE = 8
LONGEST_DEFAULT_TOKENS = 2048
# Families whose positions are counted from behind the id of the padding token (transformers,
# create_position_ids_from_input_ids), so that so many places are never used.
COUNTS_FROM_PAD = (
    *("camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm"),
    *("xlm-roberta", "xlm-roberta-xl", "xmod"),
)


@dataclass(frozen=True)
class Survey:
    """What was found. `data` is None where the answer comes from the table alone."""

    request: Request
    source: ModelSource
    config: Any  # transformers.PretrainedConfig
    model: ModelReport
    shape: ModelShape
    data: PreparedData | None
    device: DeviceReport
    planned_run: PlannedRun
    pad_token: str | None
    uses_chat_template: bool


def survey(
    request: Request, say: Callable[[str], None], on_progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Looks at model, data and device. `on_progress(bytes_done, bytes_total)` is called while a data file is read.
    Raises NoModelAccess and BadInput."""
    from probes.device import detect
    from probes.metrics import check_metric
    from probes.source import empty_model

    device = detect(request.vram, request.gpu)
    if device.taken:
        say(f"{device.name}: {device.taken}")
    say(f"reading the model's configuration: {request.model}")
    source, config = _find_model(request)
    task = request.task or task_of(config, request.data, request.format, request.columns)
    limit_tokens = request.max_length_tokens or longest_tokens(config)
    check_length(config, limit_tokens)
    if request.metric is not None:
        check_metric(request.metric, task)
    data, tokenizer = None, None
    if request.data is not None:
        say(f"reading and tokenising {' and '.join(filter(None, [request.data, request.eval_data]))}")
        data, tokenizer = _read_data(request, source, task, limit_tokens, on_progress)
        check_tokens(config, data, tokenizer)
    meta = empty_model(source, config, task, num_labels=len(data.label_names) or None if data else None)
    planned_run = plan(request, task, data, device, limit_tokens)
    shape = _shape(meta, source, planned_run)
    model = ModelReport(
        reference=request.model,
        source=source.kind,
        location=source.location,
        model_type=shape.model_type,
        parameters=sum(p.numel() for p in meta.parameters()),
        task=task,
    )
    return Survey(
        *(request, source, config, model, shape, data, device, planned_run),
        pad_token=tokenizer.pad_token if tokenizer and tokenizer.pad_token_was_missing else None,
        uses_chat_template=bool(getattr(tokenizer, "chat_template", None)),
    )


def _find_model(request: Request) -> tuple[ModelSource, Any]:
    """The model, with all of it that the request needs in reach, and its config."""
    from probes.source import check_full_precision, load_config, resolve_model

    need = "weights" if request.probe else "tokenizer" if request.data is not None else "config"
    source = resolve_model(request.model, trust_remote_code=request.trust_remote_code, need=need)
    config = load_config(source)
    check_full_precision(source, config)
    return source, config


def _read_data(
    request: Request,
    source: ModelSource,
    task: Task,
    limit_tokens: int,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[PreparedData, Any]:
    """The data as token ids, judged by the metric that was asked for, and the tokenizer that made them."""
    from probes.data.dataset import prepare
    from probes.metrics import title
    from probes.source import load_tokenizer

    tokenizer = load_tokenizer(source)
    data = prepare(
        request.data,
        tokenizer,
        task=task,
        max_length_tokens=limit_tokens,
        format=request.format,
        columns=request.columns,
        eval_path=request.eval_data,
        seed=request.seed,
        on_progress=on_progress,
    )
    return data if request.metric is None else data.judged_by(title(request.metric)), tokenizer


def _shape(meta: Any, source: ModelSource, run: PlannedRun) -> ModelShape:
    """What methods ask of the model, as the run will have it: also of a classifier which layers are drawn anew."""
    from probes.shape import drawn_poolers, model_shape
    from probes.source import stored_names

    shape = model_shape(meta, run.task)
    stored = stored_names(source) if run.task == "sequence-classification" else None
    heads = shape.head_modules + (drawn_poolers(meta, stored) if stored else ())
    return shape.model_copy(update={"quantization": run.quantization, "dtype": run.dtype, "head_modules": heads})


def plan(
    request: Request, task: Task, data: PreparedData | None, device: DeviceReport, limit_tokens: int
) -> PlannedRun:
    """The fine-tune that the user will do, with what they left open filled in from data and device. Rows are cut at
    `limit_tokens`, as in the probes; of a file that was sampled also at the longest row of the sample, for which its
    memory is told: hardly any row is longer."""
    epochs, max_steps, batch_size = request.epochs, request.max_steps, request.batch_size or DEFAULT_BATCH_SIZE
    longest = data.profile.length_max_tokens if data else request.max_length_tokens or 512
    if max_steps is None:
        epochs = epochs or DEFAULT_EPOCHS
        rows = data.profile.train_rows if data else 1000
        rows_per_step = batch_size * request.gradient_accumulation_steps
        max_steps = max(1, math.ceil(rows * epochs / rows_per_step))
    return PlannedRun(
        task=task,
        max_steps=max_steps,
        epochs=epochs,
        batch_size=batch_size,
        gradient_accumulation_steps=request.gradient_accumulation_steps,
        max_length_tokens=min(longest, limit_tokens),
        scheduler=request.scheduler,
        warmup_fraction=request.warmup_fraction,
        dtype="float32" if device.kind == "cpu" else device.dtypes[0],
        quantization="none" if request.quantize == "auto" else request.quantize,  # advisor.memory.fitting decides
        gradient_checkpointing=request.gradient_checkpointing,
        seed=request.seed,
    )


def task_of(config: Any, data: str | None, format: str | None = None, columns: Columns | None = None) -> Task:
    """The task that model and data are made for: rows with class labels are for classification, whatever the model."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if data is not None and _has_class_labels(data, format, columns):
        return "sequence-classification"
    if getattr(config, "is_encoder_decoder", False):
        return "seq2seq-lm"
    # transformers can build some encoders as decoders too; without `is_decoder` they would see what they predict.
    is_encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    of_its_own_code = getattr(config, "auto_map", None) or ()
    is_decoder = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or "AutoModelForCausalLM" in of_its_own_code
    if is_encoder or not is_decoder:
        return "sequence-classification"
    return "causal-lm"


def _has_class_labels(data: str, format: str | None, columns: Columns | None) -> bool:
    from probes.data.scan import format_of

    try:
        return format_of(data, format, columns).classification
    except BadInput:
        return False  # reading all of it will say what is wrong, with line numbers


def check_length(config: Any, max_length_tokens: int) -> None:
    """Raises BadInput where rows may be longer than the model has places for."""
    positions = position_limit(config)
    if positions and max_length_tokens > positions:
        raise BadInput(
            f"Rows of up to {max_length_tokens} tokens are longer than the model can read, which has {positions} "
            f"positions. Give --max-length {positions} or less: longer rows are cut."
        )


def check_tokens(config: Any, data: PreparedData, tokenizer: Any) -> None:
    """Raises BadInput where the data holds a token that the model has no embedding for."""
    from probes.source import embeddings_of

    embeddings = embeddings_of(config)
    highest = max(int(rows.tokens.max(initial=0)) for rows in (data.train, data.eval))
    if highest >= embeddings:
        raise BadInput(
            f"The data holds the token {tokenizer.convert_ids_to_tokens(highest)!r}, number {highest}, and the model "
            f"has embeddings for {embeddings}: the tokenizer was given tokens that the model does not know. Give the "
            "tokenizer that came with the model, or save the model after resize_token_embeddings(len(tokenizer))."
        )


def position_limit(config: Any) -> int | None:
    """How many tokens a model that numbers its positions has places for; None for one that rotates by them, which can
    be asked for more, and where its config does not say."""
    rotates = any(getattr(config, name, None) for name in ("rope_parameters", "rope_scaling", "rope_theta"))
    return None if rotates else max_positions(config)


def max_positions(config: Any) -> int | None:
    """How many tokens the model has positions for; None where its config does not say."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in COUNTS_FROM_PAD:
        return positions - (config.pad_token_id or 0) - 1
    return positions if positions and positions > 0 else None  # XLNet's are -1, for it has no limit


def longest_tokens(config: Any) -> int:
    """Of a row, by default: what the model can read, up to LONGEST_DEFAULT_TOKENS."""
    return min(LONGEST_DEFAULT_TOKENS, max_positions(config) or LONGEST_DEFAULT_TOKENS)
