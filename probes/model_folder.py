"""What the folder of a model must hold, seen from its files' names and headers before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from knowledge.errors import BadInput

INDEX = "model.safetensors.index.json"
VOCABULARIES = ("tokenizer.*", "vocab*", "*.model", "*.tiktoken", "tekken.json", "*.spm", "*.bpe", "*bpe.codes")


def check_folder(path: Path, weights: bool) -> None:
    """Raises BadInput where the folder holds no model, or with `weights` none whose weights can be loaded."""
    adapter, config = _json(path / "adapter_config.json"), path / "config.json"
    if adapter is not None:  # transformers would put it onto the model by itself
        base = adapter.get("base_model_name_or_path")
        raise BadInput(
            f"{path} holds an adapter, not a model alone. Give the base model that it was trained on"
            f"{f' ({base})' if base else ''}, or the two merged (`merge_and_unload`)."
        )
    if not config.is_file():
        files = sorted(path.glob("*.gguf"))
        hint = f" Did you mean {files[0]}?" if files else " A model folder holds config.json and *.safetensors."
        raise BadInput(f"{path} has no config.json.{hint}")
    if weights and not any(path.glob("*.safetensors")):
        others = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern))
        seen = f" It has {', '.join(others[:3])}, a format that can run code when read." if others else ""
        named = (_json(config) or {}).get("architectures")
        model_class = named[0] if isinstance(named, list) and named else "AutoModelForCausalLM"
        raise BadInput(
            f"{path} has no *.safetensors weights.{seen} Convert them with "
            f"`transformers.{model_class}.from_pretrained(...).save_pretrained(...)`, or use --no-probe."
        )
    if weights:
        _check_weights(path)


def lacks_vocabulary(folder: Path) -> bool:
    """Whether no file there holds the words of a tokenizer; those of bytes need none."""
    return not any(any(folder.glob(pattern)) for pattern in VOCABULARIES)


def _check_weights(folder: Path) -> None:
    """Raises BadInput where one of the files is missing, is a pointer of Git LFS or does not reach to its end: known
    from their headers at once, and from loading them after minutes, in other words. Others in the folder may be of a
    form that is not looked at here."""
    from safetensors import SafetensorError, safe_open

    files = [folder / name for name in sorted(_files_of_index(folder))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise BadInput(f"{folder} lacks {', '.join(missing[:3])} of its weights. Copy or download the folder again.")
    for file in files or [file for file in [folder / "model.safetensors"] if file.is_file()]:
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            with file.open("rb") as content:
                is_pointer = content.read(20).startswith(b"version https://git")
            words = (
                "a pointer of Git LFS. Fetch the weights by `git lfs pull`"
                if is_pointer
                else f"no whole file of weights ({error}). Copy or download it again"
            )
            raise BadInput(f"{file} is {words}.") from error


def _files_of_index(folder: Path) -> set[str]:
    """The files that the index of weights in several files names; none where there is no index that can be read."""
    try:
        return set(map(str, (_json(folder / INDEX) or {})["weight_map"].values()))
    except (LookupError, AttributeError):
        return set()


def _json(path: Path) -> dict[str, Any] | None:
    """The object in that file: {} where it cannot be read, None where there is no such file."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
