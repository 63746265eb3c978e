"""Saves and restores a probe between rungs: trained weights, optimizer, random generators, progress, as safetensors.

A candidate that survives a rung goes on where it stopped instead of training its first steps again. Nothing is
pickled; what cannot be stored as tensors and numbers makes the checkpoint unsupported, and the probe then starts
over, which costs time but never changes a result.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes import held_state
from probes.training import Progress

FILE = "checkpoint.safetensors"
# Above this the disk traffic costs more than it saves on the machines probes are made for (full fine-tuning).
MAX_BYTES = 1 << 30

SAVE_EVERY_S = 60.0
LARGEST_SHARE = 0.05  # of the time may go into checkpoints of a run that is saved on its way


def supported(model: Any, optimizer: Any, *, any_size: bool = False) -> bool:
    """Whether this run can be continued from a checkpoint exactly, and with one that is not too large for a probe."""
    trainable_bytes = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    if not any_size and 3 * trainable_bytes > MAX_BYTES:  # weights and AdamW's two moments
        return False
    if not held_state.is_known(model):
        return False
    return all(_is_storable(value) for state in optimizer.state.values() for value in state.values())


def save(folder: Path, model: Any, optimizer: Any, progress: Progress) -> None:
    """Writes the checkpoint; a crash or a power cut in between leaves the previous one or none, never half of one.

    Raises OSError where it cannot be written, such as on a full disk.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {f"weight/{name}": p.detach().contiguous() for name, p in _trainable(model)}
    tensors |= {f"held/{name}": tensor for name, tensor in held_state.collect(model).items()}
    tensors |= {f"generator/{device}": state for device, state in _generator_states().items()}
    # PyTorch's optimizers key their state by a parameter's index, some of PEFT's by a module's name.
    states = optimizer.state_dict()["state"]
    numbers: list[dict[str, Any]] = [{} for _ in states]
    for position, state in enumerate(states.values()):
        for key, value in state.items():
            if hasattr(value, "element_size"):
                tensors[f"optimizer/{position}/{key}"] = value.contiguous()
            else:
                numbers[position][key] = value
    metadata = {
        "progress": json.dumps(vars(progress)),
        "state_keys": json.dumps(list(states)),
        "state_numbers": json.dumps(numbers),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("checkpoint.*.tmp"):  # of a process that was killed: it may have many gigabytes
        leftover.unlink(missing_ok=True)
    temporary = folder / f"checkpoint.{os.getpid()}.tmp"
    try:
        save_file({name: t.clone() for name, t in tensors.items()}, temporary, metadata=metadata)
        with temporary.open("r+b") as written:  # through to the disk, before it takes the place of the previous one
            os.fsync(written.fileno())
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"{temporary} cannot be written: {error}") from error
    temporary.replace(folder / FILE)


class Periodic:
    """Saves a long run on its way: every SAVE_EVERY_S seconds, more rarely where saving takes long.

    The first time is after the first step: a disk that is full shows at once and not hours later.
    """

    def __init__(self, folder: Path, model: Any, optimizer: Any, before_saving: Callable[[], None]) -> None:
        self._folder, self._model, self._optimizer = folder, model, optimizer
        self._before_saving = before_saving
        self._next_s = 0.0

    def save_if_due(self, progress: Progress) -> None:
        started = time.monotonic()
        if started < self._next_s or not supported(self._model, self._optimizer, any_size=True):
            return
        self._before_saving()
        save(self._folder, self._model, self._optimizer, progress)
        took_s = time.monotonic() - started
        self._next_s = started + max(SAVE_EVERY_S, took_s / LARGEST_SHARE)


@dataclass(frozen=True)
class _Stored:
    """All of a checkpoint."""

    progress: Progress
    weights: dict[str, Any]
    held: dict[str, Any]
    generators: dict[str, Any]
    optimizer: dict[Any, dict[str, Any]]


def is_readable(folder: Path) -> bool:
    """Whether there is a whole checkpoint, by its header and size alone: what it holds may be gigabytes."""
    from safetensors import safe_open

    try:
        with safe_open(folder / FILE, "pt") as file:
            _progress(file.metadata() or {})
    except (OSError, *_unreadable()):
        return False
    return True


def load(folder: Path, model: Any, optimizer: Any, newest_step: int | None = None) -> Progress | None:
    """Restores model and optimizer in place and returns the progress, or None where there is no checkpoint, only one
    from beyond `newest_step`, or one that cannot be read: then nothing is changed."""
    import torch

    stored = _read(folder / FILE)
    if stored is None or (newest_step is not None and stored.progress.step > newest_step):
        return None
    parameters = dict(_trainable(model))
    if {name: p.shape for name, p in parameters.items()} != {name: w.shape for name, w in stored.weights.items()}:
        return None  # another version of the method: start over
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored.weights[name])
    held_state.restore(model, stored.held)
    _restore_generators(stored.generators)
    device = next((p.device for p in parameters.values()), None)
    # PyTorch moves what it finds under a parameter; LoRA-FA's optimizer keeps its own under names. Counts stay.
    state = {
        of: {key: value.to(device) if getattr(value, "ndim", 0) else value for key, value in values.items()}
        for of, values in stored.optimizer.items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return stored.progress


def _read(path: Path) -> _Stored | None:
    """The checkpoint in `path`, or None where there is none, or none that can be read: a power cut may leave an empty
    file or the beginning of one, and a version of this code may have written another form."""
    from safetensors import safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            return _Stored(
                progress=_progress(metadata),
                weights=_stored_under("weight", file),
                held=_stored_under("held", file),
                generators=_stored_under("generator", file),
                optimizer=_optimizer_state(metadata, file),
            )
    except _unreadable():
        return None


def _unreadable() -> tuple[type[Exception], ...]:
    """What is raised where a file is damaged or of another form."""
    from safetensors import SafetensorError

    return SafetensorError, LookupError, ValueError, TypeError


def _progress(metadata: dict[str, str]) -> Progress:
    return Progress(**json.loads(metadata["progress"]))


def _optimizer_state(metadata: dict[str, str], stored: Any) -> dict[Any, dict[str, Any]]:
    states: list[dict[str, Any]] = json.loads(metadata["state_numbers"])
    for name, value in _stored_under("optimizer", stored).items():
        position, key = name.split("/", 1)
        states[int(position)][key] = value
    return dict(zip(json.loads(metadata["state_keys"]), states, strict=True))


def _stored_under(kind: str, stored: Any) -> dict[str, Any]:
    names = (name for name in stored.keys() if name.startswith(f"{kind}/"))  # noqa: SIM118 - it is no dict
    return {name.removeprefix(f"{kind}/"): stored.get_tensor(name) for name in names}


def _generator_states() -> dict[str, Any]:
    """Where PyTorch's random generators stand: some methods sample in every forward pass."""
    import torch

    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _restore_generators(states: dict[str, Any]) -> None:
    import torch

    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _trainable(model: Any) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _is_storable(value: Any) -> bool:
    return hasattr(value, "element_size") or value is None or isinstance(value, (bool, int, float, str))
