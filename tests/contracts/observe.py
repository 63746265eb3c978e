"""What a method does on a tiny model, seen once and then compared with what the catalogue claims."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, convert_to_lora, get_peft_model, set_peft_model_state_dict
from torch.nn import functional

from knowledge.methods.base import Method
from knowledge.schema import Record
from knowledge.seen import Seen, matrix
from knowledge.shape import ModelShape
from probes import adapters
from probes.shape import model_shape
from tests.tiny import (
    CLASSIFIERS_TAKE_PREFIXES,
    QUANTIZED,
    in_full,
    tiny_batch,
    tiny_calibration,
    tiny_model,
    tiny_task,
)

STEPS = 20
# Two ways to compute the same output differ by rounding; the tiny models' logits are of the order of ten.
SAME = 1e-3
# An adapter that starts as the identity is one up to rounding; the nearest that does not is a hundred times off.
SAME_START = 1e-4
# Some adapters take the place of an int8 product by a product with unpacked weights, which rounds less; a start that
# reads packed weights as numbers is a hundred times off.
SAME_START_QUANTIZED = 0.1
# The smallest term that a method adds to its loss is MonteCLoRA's, weighed by 1e-5.
SAME_LOSS = 1e-5


class Observation(Record):
    """One method on one architecture. Differences are the largest absolute ones between logits.

    `carried_over` is of an adapter that was trained on a quantised base: how far its outputs on the full base are off,
    as a share of the change that it makes.
    """

    quantized: bool = False
    unsupported: str | None = None
    trainable_parameters: int = 0
    trains_as_in_full: bool = True
    carried_over: float = 0.0
    start_difference: float = 0.0
    first_loss: float = 0.0
    last_loss: float = 0.0
    extra_loss: float = 0.0
    reload_difference: float = 0.0
    merge_difference: float | None = None
    restores_base: bool = False
    adapter_bytes: int = 0
    stored_bytes: int = 0

    beside_others: bool = False
    lora_error: float | None = None

    def as_seen(self) -> Seen:
        """What of it is worth shipping."""
        if self.unsupported:
            return Seen(works=False, reason=self.unsupported)
        return Seen(
            works=self.loss_falls and self.reload_difference < SAME and self.trains_as_in_full,
            merges=self.merge_difference is not None and self.merge_difference < SAME,
            identity_start=self.is_identity_at_start,
            restores_base=self.restores_base,
            beside_others=self.beside_others,
            lora_error=None if self.lora_error is None else round(self.lora_error, 2),
        )

    @property
    def is_identity_at_start(self) -> bool:
        return self.start_difference < (SAME_START_QUANTIZED if self.quantized else SAME_START)

    @property
    def loss_falls(self) -> bool:
        """By a thousandth at least: some methods learn slowly, and rounding does less."""
        return self.last_loss < 0.999 * self.first_loss


def observe(method: Method, architecture: str) -> Observation:
    """Wraps, trains, saves, reloads, merges and unloads `method` on the tiny model of that architecture.

    Twenty steps are few, so it trains at the highest learning rate; where that is too high, at the next.
    """
    for learning_rate in reversed(method.learning_rates):
        seen = _observe(method, architecture, learning_rate)
        if seen.unsupported or seen.loss_falls:
            break
    return seen


def _observe(method: Method, architecture: str, learning_rate: float) -> Observation:
    torch.manual_seed(0)
    base = tiny_model(architecture)
    adapters.keep_differentiable(base)
    shape, quantized = _shape(base, architecture), architecture in QUANTIZED
    if reason := method.unsupported_reason(shape):
        return Observation(quantized=quantized, unsupported=reason)
    batch = tiny_batch(architecture)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    base_logits = logits(base, batch)

    config = method.peft_config(shape, STEPS)
    model = _wrap(base, method, config, architecture)
    trains_as_in_full = not quantized or _trained_shapes(model) == _trained_shapes(
        _wrap(tiny_model(in_full(architecture)), method, config, in_full(architecture))
    )
    start_logits = logits(model, batch)
    extra_loss = _extra_loss(model, batch)
    losses = train(model, method, batch, learning_rate)
    trained_logits = logits(model, batch)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapters.save_adapter(model, folder)
        stored_bytes = sum(_tensor_bytes(path) for path in folder.glob("*.safetensors"))
        assert not [path for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth"}]
        loaded = adapters.load_adapter(tiny_model(architecture), folder).eval()
        reload_difference = difference(logits(loaded, batch), trained_logits)
        beside_others = _works_beside_others(loaded, folder, batch, trained_logits)
        to_merge, unmerged_logits, carried_over = loaded, trained_logits, 0.0
        if quantized:  # a merge into few bits would round away what was trained: it is into the full-precision base
            to_merge = adapters.load_adapter(tiny_model(in_full(architecture)), folder).eval()
            unmerged_logits = logits(to_merge, batch)
            carried_over = ((unmerged_logits - trained_logits).norm() / (trained_logits - base_logits).norm()).item()
    lora_error = None if quantized else _lora_error(model, architecture, batch, base_logits, trained_logits)

    return Observation(
        quantized=quantized,
        trains_as_in_full=trains_as_in_full,
        carried_over=carried_over,
        trainable_parameters=adapters.trainable_parameters(model),
        start_difference=difference(start_logits, base_logits),
        first_loss=losses[0],
        last_loss=cross_entropy(trained_logits, batch["labels"]).item(),
        extra_loss=extra_loss,
        reload_difference=reload_difference,
        beside_others=beside_others,
        lora_error=lora_error,
        merge_difference=_merge_difference(to_merge, batch, unmerged_logits),
        adapter_bytes=adapters.adapter_bytes(model, method),
        stored_bytes=stored_bytes,
        restores_base=_restores_outputs(model, batch, base_logits)
        if quantized
        else _same_state(adapters.remove_method(model), before),
    )


def _shape(base: Any, architecture: str) -> ModelShape:
    """As the advisor sees it: the full model's shape, and what is said of its quantisation (advisor/survey.py)."""
    if architecture not in QUANTIZED:
        return model_shape(base, tiny_task(architecture))
    full = model_shape(tiny_model(in_full(architecture)), tiny_task(architecture))
    return full.model_copy(update={"quantization": QUANTIZED[architecture]})


def _wrap(base: Any, method: Method, config: dict[str, Any] | None, architecture: str) -> Any:
    return adapters.apply_method(base, method, config, batches=lambda: tiny_calibration(architecture))


def _trained_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """On quantised bases PEFT trains plain LoRA instead of some variants, without a word: its shapes give it away."""
    return {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}


def train(model: Any, method: Method, batch: dict[str, torch.Tensor], learning_rate: float) -> list[float]:
    """The loss before each of the steps, without what the method adds to it."""
    optimizer = adapters.make_optimizer(model, method, learning_rate)
    model.train()
    losses = []
    for step in range(STEPS):
        output = model(**batch)
        loss = cross_entropy(output.logits, batch["labels"])
        (output.loss if method.trains_through_model_loss else loss).backward()
        optimizer.step()
        adapters.after_optimizer_step(model, step)
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    inputs = {k: v for k, v in batch.items() if k != "labels" or model.config.is_encoder_decoder}
    logits = model(**inputs).logits
    # Prompt methods answer for their own tokens too; those come first.
    return logits if logits.dim() == 2 else logits[:, -batch["labels"].shape[1] :]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Own loss, without what a method may add: next tokens for decoders, labels as they are for the others."""
    if logits.dim() == 2:
        return functional.cross_entropy(logits, labels)
    logits = logits[:, -labels.shape[1] :]
    if labels.shape[1] == 16:  # decoders: the batch is its own label, one token on
        logits, labels = logits[:, :-1], labels[:, 1:]
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def _extra_loss(model: Any, batch: dict[str, torch.Tensor]) -> float:
    labels = batch["labels"].clone()
    if tuple(labels.shape)[1:] == (16,):
        labels[:, 0] = -100  # behind a prompt the first token is predicted too, which is no extra term
    model.train()  # some add their term in training only
    with torch.no_grad():
        output = model(**{**batch, "labels": labels})
    model.eval()
    return (output.loss - cross_entropy(output.logits, batch["labels"])).item()


def _works_beside_others(model: Any, folder: Path, batch: dict[str, torch.Tensor], expected: torch.Tensor) -> bool:
    """Whether a second copy of the adapter can be loaded, switched to, and switched back from."""
    if not isinstance(model, PeftModel):
        return False
    try:
        model.load_adapter(folder, "second")
        model.set_adapter("second")
        same = difference(logits(model, batch), expected) < SAME
        model.set_adapter("default")
        model.delete_adapter("second")
    except (NotImplementedError, ValueError, TypeError, AttributeError, KeyError):
        return False
    return same and difference(logits(model, batch), expected) < SAME


def _lora_error(
    model: Any, architecture: str, batch: dict[str, torch.Tensor], base: torch.Tensor, trained: torch.Tensor
) -> float | None:
    """Relative error of the change in logits when PEFT converts the adapter; None for LoRA and where it cannot."""
    if not isinstance(model, PeftModel) or adapters.is_anchored(model) or model.active_peft_config.peft_type == "LORA":
        return None
    if not getattr(model, "supports_lora_conversion", bool)():
        return None
    config, tensors = convert_to_lora(model, rank=16)
    lora = get_peft_model(tiny_model(architecture), config)
    set_peft_model_state_dict(lora, tensors)
    return ((logits(lora.eval(), batch) - trained).norm() / (trained - base).norm()).item()


def _merge_difference(model: Any, batch: dict[str, torch.Tensor], expected: torch.Tensor) -> float | None:
    """None where PEFT cannot merge or refuses to."""
    if not isinstance(model, PeftModel):
        return 0.0  # trained in place: there is nothing to merge
    merge = getattr(model, "merge_and_unload", None)
    if merge is None:
        return None
    try:
        merged = merge()
    except (NotImplementedError, ValueError):
        return None
    return difference(logits(merged, batch), expected)


def _tensor_bytes(path: Path) -> int:
    """Size of a safetensors file without its header, whose length stands in its first eight bytes."""
    with path.open("rb") as file:
        return path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def hold_against_matrix(seen: Seen, method: str, architecture: str) -> None:
    """The shipped facts are those seen; the error of a conversion varies with the arithmetic of the processor.

    Prefixes in classifiers are as the installed transformers has them.
    """
    if "does not take from PEFT" in seen.reason and not CLASSIFIERS_TAKE_PREFIXES:
        return
    shipped, vague = matrix()[method][architecture], {"lora_error": None}
    assert seen.model_copy(update=vague) == shipped.model_copy(update=vague), "run tests.contracts.write_matrix"
    assert (seen.lora_error is None) == (shipped.lora_error is None)
    assert seen.lora_error is None or seen.lora_error == pytest.approx(shipped.lora_error, abs=0.05, rel=0.2)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


def _restores_outputs(model: Any, batch: dict[str, torch.Tensor], before: torch.Tensor) -> bool:
    """Quantised layers keep their scales in ways that change with use, so here the outputs decide, bit for bit."""
    try:
        return torch.equal(logits(adapters.remove_method(model), batch), before)
    except ValueError:  # PEFT refuses to take some adapters off a quantised base
        return False


def _same_state(model: Any, before: dict[str, torch.Tensor]) -> bool:
    after = model.state_dict()
    return (
        after.keys() == before.keys()
        and all(torch.equal(after[name], tensor) for name, tensor in before.items())
        and all(parameter.requires_grad for parameter in model.parameters())
    )
