"""Makes of a trained adapter what a server loads: a merged model, or a LoRA where it must stay an adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from advisor.exporters.base import Recommended, model_location, recommended
from advisor.files import move_aside
from advisor.recommendation import Result
from advisor.save import load
from advisor.text import bytes_text
from advisor.training.final_run import model_source, read_data
from advisor.training.serving import classify_with, serve_adapter, serve_model
from advisor.training.training_report import ADAPTER_FOLDER, REPORT_FILE, finished_report
from knowledge.errors import BadInput
from knowledge.schema import DType, Record
from probes.device import free_host_bytes
from probes.merging import SAME_CHANGE, Agreement, CannotMerge, MergeInputs, convert, merge

Form = Literal["model", "lora"]
FOLDERS: dict[Form, str] = {"model": "merged", "lora": "lora"}
DEFAULT_RANK = 32
ROWS = 8  # held-out rows on which the outputs are compared
NEEDED_BYTES_PER_PARAMETER = 5  # float32 and room to work


MAY_BE_MISSING = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


class Merging(Record):
    """What `advisor merge` wrote, and how near it is to the base with the adapter."""

    schema_version: int = 1
    form: Form = Field(description="a whole model, or a LoRA adapter")
    folder: str
    dtype: DType
    rank: int | None = Field(None, description="of the LoRA")
    agreement: Agreement
    serve: str | None = Field(description="the command of vLLM")
    notes: tuple[str, ...] = ()


def merge_recommended(
    folder: Path,
    *,
    form: Form | None = None,
    rank: int = DEFAULT_RANK,
    dtype: DType | None = None,
    out: Path | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Merging:
    """Merges the adapter that lies in a recommendation's folder into its full-precision base, and compares the outputs.

    form: None takes the merged model where the method can be merged, else a LoRA of `rank` where it can be converted.
    dtype: of the written weights; None is the base's own.
    Raises CannotMerge where neither is possible, and BadInput where something is missing or in the way.
    """
    facts = recommended(load(folder))
    adapter = folder / ADAPTER_FOLDER
    if not any(adapter.glob("*.safetensors")):
        raise BadInput(f"{folder} holds no adapter yet. `advisor train {folder}` makes one.")
    if (folder / REPORT_FILE).is_file() and finished_report(folder, facts.result) is None:
        raise BadInput(
            f"The adapter in {adapter} is of another recommendation than {folder} holds now ({facts.pick.title}). "
            f"`advisor train {folder} --force` trains this one, and moves that aside."
        )
    _check_memory(facts)
    place, base_dtype = _merge_inputs(facts, folder, adapter)
    chosen = dtype or base_dtype
    if form != "lora":
        target = _free_target(out or folder / FOLDERS["model"], force, folder)
        say(f"merging into the base in full precision, in {chosen}")
        try:
            agreement = _write(target, lambda made: merge(place, made, chosen), facts)
            return _merging(facts, "model", target, chosen, agreement)
        except CannotMerge as error:
            if form == "model":
                raise CannotMerge(f"{error} {_alternative(facts, folder)}") from None
            say(f"{error} Trying a LoRA instead.")
    target = _free_target(out or folder / FOLDERS["lora"], force, folder)
    say(f"converting to a LoRA of rank {rank}")
    try:
        agreement = _write(target, lambda made: convert(place, made, rank), facts)
    except CannotMerge as error:
        if form == "lora" and facts.pick.capabilities.get("mergeable"):
            raise CannotMerge(f"{error} It can be merged: --to model.") from None
        raise CannotMerge(f"{error} {_alternative(facts, folder)}") from None
    return _merging(facts, "lora", target, "float32", agreement, rank)


def _check_memory(facts: Recommended) -> None:
    needed, free = NEEDED_BYTES_PER_PARAMETER * facts.result.model.parameters, free_host_bytes()
    if needed > free:
        raise BadInput(
            f"Merging is done in float32 on the processor and needs {bytes_text(needed)} of memory; "
            f"{bytes_text(free)} are free. Use a machine with more, or serve the adapter unmerged."
        )


def _merge_inputs(facts: Recommended, folder: Path, adapter: Path) -> tuple[MergeInputs, DType]:
    """What merging needs, and the dtype that the base is stored in."""
    from probes.data.dataset import PreparedData
    from probes.source import load_config, load_model, load_tokenizer

    # What was recommended without probes has no data of its own yet.
    has_data = (folder / "data" / "prepared.json").exists()
    data = PreparedData.load(folder / "data") if has_data else read_data(facts, lambda message: None)
    source, task = model_source(facts), facts.result.planned_run.task
    labels = len(data.label_names) or None

    def load_base():
        model = load_model(source, task=task, dtype="float32", num_labels=labels)
        if data.label_names:
            model.config.id2label = dict(enumerate(data.label_names))
            model.config.label2id = {name: i for i, name in enumerate(data.label_names)}
        return model

    pad_token_id = load_tokenizer(source).pad_token_id
    place = MergeInputs(load_base, adapter, data.eval.first(ROWS), task, pad_token_id, source.trust_remote_code)
    own = str(load_config(source).dtype or "float32").removeprefix("torch.")
    return place, own if own in ("float32", "bfloat16", "float16") else "float32"


def _free_target(target: Path, force: bool, folder: Path) -> Path:
    for used in (Path.cwd(), folder.resolve()):
        if target.resolve() in (used, *used.parents):  # which is not to be moved aside, nor to be replaced
            raise BadInput(f"{target} is {used} or around it. Use --out to name a folder of its own.")
    if target.exists() and (target.is_file() or any(target.iterdir())) and not force:
        raise BadInput(f"{target} already exists. Use --force to move it aside, or --out to name another folder.")
    return target


def _write(target: Path, make: Callable[[Path], Agreement], facts: Recommended) -> Agreement:
    """Makes the files beside `target` and moves them to their place when they are whole."""
    import shutil

    from probes.source import load_tokenizer

    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        load_tokenizer(model_source(facts)).save_pretrained(partial)  # what is made is read from there again
        agreement = make(partial)
        _copy_processors(facts, partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if target.exists():
        move_aside(target)
    partial.rename(target)
    return agreement


def _copy_processors(facts: Recommended, target: Path) -> None:
    """What a model that sees or hears too reads its images by: servers look for it."""
    import shutil

    from transformers.utils import cached_file

    source = model_source(facts)
    for name in PROCESSORS if source.kind in ("local folder", "hub") else ():
        found = cached_file(source.location, name, **MAY_BE_MISSING)
        if found is not None:
            shutil.copyfile(found, target / name)


def _merging(
    facts: Recommended, form: Form, target: Path, dtype: DType, agreement: Agreement, rank: int | None = None
) -> Merging:
    notes = []
    if facts.result.planned_run.quantization != "none":
        notes.append("trained on a quantized base, merged into the full-precision one: compare both on your own data")
    if form == "model" and agreement.change_error > SAME_CHANGE:
        notes.append(f"{dtype} rounds away a part of what the adapter learned; --dtype float32 keeps it")
    if form == "lora" and agreement.change_error > SAME_CHANGE:
        notes.append("a part of what the adapter learned is lost; a higher --rank keeps more of it")
    return Merging(
        form=form,
        folder=str(target),
        dtype=dtype,
        rank=rank,
        agreement=agreement,
        serve=_serve_command(facts.result, target, rank),
        notes=tuple(notes),
    )


def _serve_command(result: Result, target: Path, rank: int | None) -> str | None:
    """`rank` is None of a whole model."""
    if result.planned_run.task == "sequence-classification" and rank is None and not result.trusts_model_code:
        return classify_with(target)
    if result.planned_run.task != "causal-lm":
        return None
    if rank is None:
        return serve_model(target, trusts_code=result.trusts_model_code)
    return serve_adapter(model_location(result), target, rank, trusts_code=result.trusts_model_code)


def _alternative(facts: Recommended, folder: Path) -> str:
    return (
        f"Serve it with transformers and peft: peft.PeftModel.from_pretrained(base, {str(folder / ADAPTER_FOLDER)!r}). "
        "`advisor recommend --require mergeable` asks for a method that can be merged."
    )
