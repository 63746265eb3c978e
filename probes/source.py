"""Where a model comes from, and how it is loaded: a local folder, a GGUF file, an alias or a hub id.

Only safetensors weights are read, and a model's own code is run only where `trust_remote_code` asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from knowledge.errors import BadInput, NoModelAccess
from knowledge.models import known_config
from knowledge.places import at_home
from knowledge.schema import AUTO_CLASSES, DType, Quantization, Task
from knowledge.targets import CLASSIFICATION_HEADS
from probes import gguf, hub
from probes.model_folder import check_folder, lacks_vocabulary
from probes.transformers_words import model_errors_in_words, quiet

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# What a classifier is trained for, whatever it was before: by the config of one that gave several labels at once, or a
# number, transformers would choose another loss, and servers another function of the logits.
ONE_OF_SEVERAL = "single_label_classification"

Need = Literal["config", "tokenizer", "weights"]  # each with what stands before it


@dataclass(frozen=True)
class ModelSource:
    """A model that was found. `location` is what transformers loads: a hub id, a folder or a GGUF file."""

    reference: str
    kind: Literal["hub", "local folder", "gguf file", "known architecture"]
    location: str
    trust_remote_code: bool = False


def resolve_model(reference: str, *, trust_remote_code: bool = False, need: Need = "weights") -> ModelSource:
    """Find the model without loading it. All that is needed of it must be reachable; where that is the config alone, a
    well-known model is not looked for at all: its architecture is known here.

    Raises BadInput where the reference cannot be a model, and NoModelAccess where a hub model is gated, missing or
    out of reach.
    """
    path = at_home(reference)
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise BadInput(
                f"{reference} is a file, but no GGUF file. Give the model's folder, a .gguf file or a hub id."
            )
        return ModelSource(reference, "gguf file", str(path.resolve()))
    if path.is_dir():
        check_folder(path, weights=need == "weights")
        return ModelSource(reference, "local folder", str(path.resolve()), trust_remote_code)
    if reference.startswith((".", "/", "~")) or reference.lower().endswith(".gguf") or reference.count("/") > 1:
        raise BadInput(
            f"No such model file or folder: {reference}. Check the path, or give a hub id such as owner/name."
        )
    repository = hub.repository_of(reference)
    known = ModelSource(reference, "known architecture", repository) if known_config(repository) is not None else None
    if known and need == "config":
        return known
    try:
        hub.check_access(repository, weights=need == "weights")
    except NoModelAccess:
        if known and need != "weights":
            return known
        raise
    return ModelSource(reference, "hub", repository, trust_remote_code)


def load_config(source: ModelSource) -> PretrainedConfig:
    """The model's config."""
    from transformers import AutoConfig

    with quiet(), model_errors_in_words(source):
        if source.kind == "known architecture":
            return AutoConfig.for_model(**known_config(source.location) or {})
        return AutoConfig.from_pretrained(_metadata_place(source), trust_remote_code=source.trust_remote_code)


def check_full_precision(source: ModelSource, config: PretrainedConfig) -> None:
    """Raises BadInput where the weights are kept in few bits: methods differ in what they can train on such a base, and
    its memory follows rules of its own."""
    kept = getattr(config, "quantization_config", None)
    if kept is not None:
        found = kept if isinstance(kept, dict) else kept.to_dict()
        raise BadInput(
            f"The weights of {source.reference} are quantized already ({found.get('quant_method', 'no kind named')})."
            " Give the model in full precision; --quantize nf4 (or int8) keeps it in few bits for training."
        )


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with a pad token: its own, else the end-of-sequence token, also where its own came without
    an embedding. Padding is masked by position, so the end of a row is still learned. `tokenizer.pad_token_was_missing`
    tells which it was."""
    from transformers import AutoTokenizer

    if source.kind == "known architecture":
        raise NoModelAccess(
            f"Of {source.reference} only the architecture is known here; reading data needs its tokenizer. "
            "Give a local folder of the model, or leave out --data."
        )
    is_bare = source.kind == "local folder" and lacks_vocabulary(Path(source.location))
    no_tokenizer = BadInput(
        f"{source.reference} holds no tokenizer, such as tokenizer.json or tokenizer.model. Copy its files from the "
        "model that this one was made from: `AutoTokenizer.from_pretrained(...).save_pretrained(...)`."
    )
    try:
        with quiet(), model_errors_in_words(source):
            place = _metadata_place(source)
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=source.trust_remote_code)
    except BadInput as error:
        raise (no_tokenizer if is_bare else error) from error
    if is_bare and tokenizer.vocab_files_names:  # transformers makes some of nothing: all words are unknown to them
        raise no_tokenizer
    has_own = tokenizer.pad_token_id is not None and tokenizer.pad_token_id < _embeddings(source)
    tokenizer.pad_token_was_missing = not has_own
    if not has_own:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise BadInput(
            f"The tokenizer of {source.reference} has neither a pad, an end-of-sequence nor an unknown token. "
            "Set pad_token in its tokenizer_config.json."
        )
    return tokenizer


def _embeddings(source: ModelSource) -> float:
    """Of the model; infinite where it has no config."""
    with suppress(BadInput, NoModelAccess, OSError):
        return embeddings_of(load_config(source))
    return math.inf


def embeddings_of(config: PretrainedConfig) -> float:
    """For how many tokens a model has embeddings; infinite where its config does not say."""
    return getattr(config.get_text_config(), "vocab_size", None) or math.inf


def stored_names(source: ModelSource) -> frozenset[str] | None:
    """Names of the tensors in the model's files, from their headers alone; None where they cannot be read."""
    import json

    from huggingface_hub import get_safetensors_metadata
    from safetensors import SafetensorError, safe_open
    from transformers.utils import cached_file

    if source.kind not in ("local folder", "hub"):
        return None
    here = {"_raise_exceptions_for_missing_entries": False, "local_files_only": True}
    if (index := cached_file(source.location, "model.safetensors.index.json", **here)) is not None:
        return frozenset(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"])
    if (file := cached_file(source.location, "model.safetensors", **here)) is not None:
        with suppress(SafetensorError), safe_open(file, framework="pt") as tensors:
            return frozenset(tensors.keys())
        return None
    try:
        return frozenset(get_safetensors_metadata(source.location).weight_map)
    except Exception:  # offline, gated, no such files: whatever it is, reading the weights will say it
        return None


def empty_model(
    source: ModelSource, config: PretrainedConfig, task: Task, num_labels: int | None = None
) -> PreTrainedModel:
    """The model without weights, on the meta device: names, shapes and parameter counts at no cost."""
    import copy

    import torch

    config = copy.deepcopy(config)
    if num_labels is not None:
        config.num_labels, config.problem_type = num_labels, ONE_OF_SEVERAL
    with quiet(), model_errors_in_words(source), torch.device("meta"):
        return _auto_class(task).from_config(config, trust_remote_code=source.trust_remote_code)


def load_model(
    source: ModelSource,
    task: Task,
    dtype: DType = "float32",
    quantization: Quantization = "none",
    device: str = "cpu",
    num_labels: int | None = None,
) -> PreTrainedModel:
    """The model with its weights on `device`, in evaluation mode. A classification head is made anew for `num_labels`.

    Raises BadInput where bitsandbytes is needed and missing or the files do not hold all weights, and NoModelAccess
    where weights cannot be reached.
    """
    import torch

    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "trust_remote_code": source.trust_remote_code}
    if num_labels is not None:
        options |= {"num_labels": num_labels, "problem_type": ONE_OF_SEVERAL}
        options["ignore_mismatched_sizes"] = True  # of a head for other classes
    if quantization != "none":
        options["quantization_config"] = quantization_config(quantization, dtype, task)
        options["device_map"] = {"": device}
    with quiet(), model_errors_in_words(source):
        place = str(gguf.model_folder(Path(source.location))) if source.kind == "gguf file" else source.location
        model, info = _auto_class(task).from_pretrained(
            place, use_safetensors=True, output_loading_info=True, **options
        )
    _check_complete(source, model, info["missing_keys"], task)
    if task == "sequence-classification":  # a decoder finds the last token of a text by the token that pads
        model.config.get_text_config().pad_token_id = load_tokenizer(source).pad_token_id
    return (model if quantization != "none" else model.to(device)).eval()


def _check_complete(source: ModelSource, model: PreTrainedModel, missing: Collection[str], task: Task) -> None:
    """Raises BadInput where the files lack weights: transformers draws these at random, and says so in a warning only.
    Of a classifier that is right for its head and for a pooler, which are trained; see probes.shape.drawn_poolers."""
    lost = [name for name, _ in model.named_parameters() if name in missing]
    if task == "sequence-classification":
        lost = [n for n in lost if n.startswith(f"{model.base_model_prefix}.") and ".pooler." not in n]
    if lost:
        raise BadInput(
            f"The files of {source.reference} hold no values for {len(lost)} of the weights of a {type(model).__name__}"
            f" ({lost[0]} ...), so its answers would be random. Is it a model for another task (see --task), an "
            "embedding model without its language model's head, or is a file of it missing?"
        )


def quantization_config(quantization: Quantization, dtype: DType, task: Task) -> Any:
    """transformers' config for a base in 4 bits (nf4, double quantization as in QLoRA, arXiv 2305.14314) or 8 bits."""
    from importlib.util import find_spec

    import torch
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise BadInput(
            f"A base quantized to {quantization} needs bitsandbytes: pip install 'peft-advisor[quantized]', "
            "or use --quantize none."
        )
    # Left to itself, transformers keeps the last layer of an encoder's head in full only where it has no bias.
    kept = {"llm_int8_skip_modules": [*CLASSIFICATION_HEADS]} if task == "sequence-classification" else {}
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, **kept)
    return BitsAndBytesConfig(
        **kept,
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def _metadata_place(source: ModelSource) -> str:
    return str(gguf.metadata_folder(Path(source.location))) if source.kind == "gguf file" else source.location


def _auto_class(task: Task) -> Any:
    import transformers

    if task not in AUTO_CLASSES:
        raise BadInput(f"Models for {task} cannot be probed. Tasks: {', '.join(AUTO_CLASSES)}.")
    return getattr(transformers, AUTO_CLASSES[task])
