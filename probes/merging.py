"""Puts a trained adapter into its base model, or turns it into a LoRA, and measures what that changed.

Everything is computed in float32 on the processor, on the full-precision base: what an adapter learned on a base in 4
bits goes into the weights that these 4 bits stood for. What is measured is the artefact as it lies on disk.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from knowledge.errors import AdvisorError
from knowledge.schema import DType, Finite, Record, Task
from probes import adapters

if TYPE_CHECKING:
    import torch

    from probes.data.rows import TokenRows

LABELS_COMPARED = 64  # of a row, the last: logits of thousands over a large vocabulary would fill the memory
# Beyond that the merged model is another one: exact merges differ by rounding, 1e-6 in float32 and 3e-2 in bfloat16.
SAME_CHANGE = 0.1


class CannotMerge(AdvisorError):
    """The method's adapter cannot become part of the weights; the message says what can be done instead."""

    exit_code = 2


class Agreement(Record):
    """How near two models are, on the positions of held-out rows that bear labels."""

    change_error: Finite = Field(
        description="norm of the difference of logits, over the norm of what the adapter changes in the base's"
    )
    largest_difference: Finite = Field(description="of any logit")
    same_choice: Finite = Field(description="share of positions at which both find the same token or class most likely")
    positions: int


@dataclass(frozen=True)
class MergeInputs:
    """Where the models come from and what they are compared on. `load_base()` gives a fresh base in float32."""

    load_base: Callable[[], Any]
    adapter: Path
    rows: TokenRows
    task: Task
    pad_token_id: int
    trust_remote_code: bool = False

    def logits(self, model: Any) -> torch.Tensor:
        """Of the last labels of each row: shape (positions, vocabulary) or (rows, classes), float32."""
        import numpy as np
        import torch

        from probes.batching import IGNORE_INDEX, collate
        from probes.forward import forward_inputs, label_logits

        found = []
        with torch.no_grad():
            for index in range(len(self.rows)):
                batch = collate(self.rows, np.array([index]), self.pad_token_id, self.task)
                aligned = label_logits(model(**forward_inputs(model, batch, self.task)).logits, batch, self.task)
                found.append(aligned[batch["labels"] != IGNORE_INDEX][-LABELS_COMPARED:].float())
        return torch.cat(found)


def merge(place: MergeInputs, folder: Path, dtype: DType) -> Agreement:
    """Writes the base with the adapter in its weights to `folder`, as safetensors in `dtype`.

    Raises CannotMerge where PEFT cannot, or where the outputs come out differently.
    """
    import torch

    from probes.transformers_words import quiet

    base_logits, tuned_logits, model = _references(place)
    model = _merged(model)
    with quiet():
        model.to(getattr(torch, dtype)).save_pretrained(folder, safe_serialization=True)
    adapters.give_usual_rights(folder)
    del model
    gc.collect()
    found = _agreement(place.logits(_reload(folder, place)), tuned_logits, base_logits)
    if found.change_error > SAME_CHANGE and dtype == "float32":
        raise CannotMerge(
            f"Merging changes the outputs: by {100 * found.change_error:.0f} % of what the adapter does. "
            "Serve it unmerged with transformers and peft."
        )
    return found


def convert(place: MergeInputs, folder: Path, rank: int) -> Agreement:
    """Writes a LoRA of that rank that does nearly what the adapter does to `folder`. Raises CannotMerge where PEFT
    converts no such adapter."""
    import peft
    from safetensors.torch import save_file

    base_logits, tuned_logits, model = _references(place)
    if not isinstance(model, peft.PeftModel) or not getattr(model, "supports_lora_conversion", bool)():
        raise CannotMerge("PEFT converts no adapter of this type to LoRA.")
    try:
        config, tensors = peft.convert_to_lora(model, rank=rank)
    except (ValueError, TypeError) as error:  # a rank above what the layers have, a part that PEFT leaves out
        raise CannotMerge(f"PEFT converts this adapter to no LoRA of rank {rank}: {error}") from error
    config.base_model_name_or_path = model.active_peft_config.base_model_name_or_path
    config.inference_mode = True
    config.save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    adapters.give_usual_rights(folder)
    del model
    gc.collect()
    try:
        converted = place.logits(_with_adapter(place.load_base(), folder))
    except KeyError as error:  # PEFT names the parameters of a head by their last parts alone
        raise CannotMerge(f"PEFT converts no adapter with a head of several layers: {error} is not in it.") from error
    return _agreement(converted, tuned_logits, base_logits)


def saved_rank(adapter: Path) -> int | None:
    """The largest rank of a saved LoRA; None where the folder holds another adapter."""
    path = adapter / "adapter_config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        return None
    return max([config["r"], *(config.get("rank_pattern") or {}).values()])


def _references(place: MergeInputs) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Logits of the base, logits of the base with the adapter, and that model."""
    base = place.load_base()
    base_logits = place.logits(base.eval())
    model = _with_adapter(base, place.adapter)
    return base_logits, place.logits(model), model


def _with_adapter(base: Any, adapter: Path) -> Any:
    from probes.transformers_words import quiet

    with quiet():
        return adapters.load_adapter(base, adapter).eval()


def _merged(model: Any) -> Any:
    import peft

    from probes.transformers_words import quiet

    if not isinstance(model, peft.PeftModel):
        return model  # trained in place: its parameters are the base's
    merge_and_unload = getattr(model, "merge_and_unload", None)
    if merge_and_unload is None:
        raise CannotMerge("What this method trains lies beside the weights, so it cannot become part of them.")
    adapters.unwrap_heads(model.get_base_model(), lambda head: head.modules_to_save[head.active_adapters[0]])
    try:
        with quiet():
            return merge_and_unload()
    except (NotImplementedError, ValueError) as error:
        raise CannotMerge(f"PEFT does not merge this adapter: {error}.") from None


def _reload(folder: Path, place: MergeInputs) -> Any:
    from probes.source import load_model, resolve_model

    source = resolve_model(str(folder), trust_remote_code=place.trust_remote_code)  # a merged model keeps its own code
    return load_model(source, task=place.task, dtype="float32").eval()


def _agreement(found: torch.Tensor, tuned: torch.Tensor, base: torch.Tensor) -> Agreement:
    difference, change = found - tuned, tuned - base
    return Agreement(
        change_error=(difference.norm() / change.norm().clamp(min=1e-12)).item(),
        largest_difference=difference.abs().max().item(),
        same_choice=(found.argmax(-1) == tuned.argmax(-1)).float().mean().item(),
        positions=len(found),
    )
