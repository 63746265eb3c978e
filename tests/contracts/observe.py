"""What a method does on a tiny model, seen once and then compared with what the catalogue claims."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from knowledge.methods.base import Method
from knowledge.schema import Record
from probes import adapters
from tests.tiny import tiny_batch, tiny_model, tiny_task

STEPS = 20
# Two ways to compute the same output differ by rounding; the tiny models' logits are of the order of ten.
SAME = 1e-3


class Observation(Record):
    """One method on one architecture. Differences are the largest absolute ones between logits."""

    unsupported: str | None = None
    trainable_parameters: int = 0
    start_difference: float = 0.0
    first_loss: float = 0.0
    last_loss: float = 0.0
    extra_loss: float = 0.0
    reload_difference: float = 0.0
    merge_difference: float | None = None
    restores_base: bool = False
    adapter_bytes: int = 0
    stored_bytes: int = 0


def observe(method: Method, architecture: str) -> Observation:
    """Wraps, trains, saves, reloads, merges and unloads `method` on the tiny model of that architecture."""
    torch.manual_seed(0)
    base = tiny_model(architecture)
    shape = adapters.model_shape(base, tiny_task(architecture))
    if reason := method.unsupported_reason(shape):
        return Observation(unsupported=reason)
    batch = tiny_batch(architecture)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    base_logits = _logits(base, batch)

    config = method.peft_config(shape, STEPS)
    model = adapters.apply_method(base, method, config, batches=lambda: [tiny_batch(architecture, seed=1)])
    start_logits = _logits(model, batch)
    extra_loss = _extra_loss(model, batch)
    losses = _train(model, method, batch)
    trained_logits = _logits(model, batch)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapters.save_adapter(model, folder)
        stored_bytes = sum(_tensor_bytes(path) for path in folder.glob("*.safetensors"))
        assert not [path for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth"}]
        loaded = adapters.load_adapter(tiny_model(architecture), folder).eval()
    reload_difference = _difference(_logits(loaded, batch), trained_logits)

    return Observation(
        trainable_parameters=adapters.trainable_parameters(model),
        start_difference=_difference(start_logits, base_logits),
        first_loss=losses[0],
        last_loss=_cross_entropy(trained_logits, batch["labels"]).item(),
        extra_loss=extra_loss,
        reload_difference=reload_difference,
        merge_difference=_merge_difference(loaded, batch, trained_logits),
        adapter_bytes=adapters.adapter_bytes(model),
        stored_bytes=stored_bytes,
        restores_base=_same_state(adapters.remove_method(model), before),
    )


def _train(model: Any, method: Method, batch: dict[str, torch.Tensor]) -> list[float]:
    optimizer = adapters.make_optimizer(model, method, method.learning_rates[-1])
    model.train()
    losses = []
    for step in range(STEPS):
        output = model(**batch)
        loss = _cross_entropy(output.logits, batch["labels"])
        (output.loss if method.trains_through_model_loss else loss).backward()
        optimizer.step()
        adapters.after_optimizer_step(model, step)
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def _logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    inputs = {k: v for k, v in batch.items() if k != "labels" or model.config.is_encoder_decoder}
    logits = model(**inputs).logits
    # Prompt methods answer for their own tokens too; those come first.
    return logits if logits.dim() == 2 else logits[:, -batch["labels"].shape[1] :]


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
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
    with torch.no_grad():
        output = model(**{**batch, "labels": labels})
        return (output.loss - _cross_entropy(output.logits, batch["labels"])).item()


def _merge_difference(model: Any, batch: dict[str, torch.Tensor], expected: torch.Tensor) -> float | None:
    """None where there is nothing to merge or PEFT refuses to."""
    merge = getattr(model, "merge_and_unload", None)
    if merge is None:
        return None
    try:
        merged = merge()
    except (NotImplementedError, ValueError):
        return None
    return _difference(_logits(merged, batch), expected)


def _tensor_bytes(path: Path) -> int:
    """Size of a safetensors file without its header, whose length stands in its first eight bytes."""
    with path.open("rb") as file:
        return path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


def _same_state(model: Any, before: dict[str, torch.Tensor]) -> bool:
    after = model.state_dict()
    return (
        after.keys() == before.keys()
        and all(torch.equal(after[name], tensor) for name, tensor in before.items())
        and all(parameter.requires_grad for parameter in model.parameters())
    )


def config_loads(config: dict[str, Any]) -> Any:
    """The PeftConfig that PEFT reads from an adapter_config.json with this content."""
    import peft

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "adapter_config.json").write_text(json.dumps(config))
        return peft.PeftConfig.from_pretrained(folder)
