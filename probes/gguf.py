"""GGUF files, converted once to a folder of safetensors in the user's cache.

Reading a GGUF file takes seconds for the tokenizer alone and minutes for a large model, and each probe worker would do
it again: SmolLM2-135M (98 MB) takes 3 s for the config, 3 s for the tokenizer and 12 s for the weights on one core,
against 0.1 s and 0.4 s from the converted folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from knowledge.errors import AdvisorError, BadInput
from probes.cache_folder import cache_folder

logger = logging.getLogger("advisor")

BFLOAT16_FROM_BYTES = 2 * 2**30
"""Larger files are stored as bfloat16, in which such models are trained anyway; smaller ones as exact float32."""


def metadata_folder(path: Path) -> Path:
    """A folder with the config and the tokenizer of a GGUF file. Raises BadInput where it cannot be read."""
    return _made_once(cache_folder() / "gguf" / _fingerprint(path) / "metadata", lambda to: _convert_metadata(path, to))


def model_folder(path: Path) -> Path:
    """A folder with config, tokenizer and weights (safetensors) of a GGUF file; made on the first call."""
    metadata = metadata_folder(path)

    def convert(folder: Path) -> None:
        logger.info("converting %s to safetensors, once", path.name)
        shutil.copytree(metadata, folder, dirs_exist_ok=True)
        _convert_weights(path, folder)

    return _made_once(cache_folder() / "gguf" / _fingerprint(path) / "model", convert)


def _fingerprint(path: Path) -> str:
    """Name of the file's cache entry: a hash of its size, both ends of its content, and the converter. A file that is
    copied, or installed again, is not converted again."""
    import transformers

    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(2**20)
        file.seek(max(0, size - 2**20))
        ends = head + file.read()
    facts = f"{size} {transformers.__version__} ".encode()
    return f"{path.stem[:40]}-{hashlib.sha256(facts + ends).hexdigest()[:16]}"


def _made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make` if it is not there: by one process, while others wait, and never left half done."""
    from filelock import FileLock
    from safetensors import SafetensorError

    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{folder.name}.lock"):
            if not folder.is_dir():
                for leftover in folder.parent.glob(f"{folder.name}-*"):  # of a process that was killed
                    shutil.rmtree(leftover, ignore_errors=True)
                temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
                try:
                    make(temporary)
                    temporary.replace(folder)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise AdvisorError(
            f"The converted model cannot be written to {folder.parent}: {error}. "
            "Free some space there, or set ADVISOR_CACHE_DIR to another folder."
        ) from error
    return folder


def _convert_metadata(path: Path, folder: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    with _readable(path):
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    _forget_quantization(config)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _convert_weights(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if path.stat().st_size >= BFLOAT16_FROM_BYTES else torch.float32
    # transformers draws this progress bar whatever its settings are.
    with _readable(path), contextlib.redirect_stderr(io.StringIO()):
        model, info = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=dtype, output_loading_info=True
        )
        if lost := sorted(info["missing_keys"]):  # these are drawn at random, without a word
            raise ValueError(f"{len(lost)} weights are not in it ({lost[0]} ...); one part of a split file is no model")
    _forget_quantization(model.config)
    # The loaded model still counts as quantized and refuses to be saved: its weights go into a plain one.
    with torch.device("meta"):
        plain = type(model)(model.config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder)


def _forget_quantization(config: Any) -> None:
    if hasattr(config, "quantization_config"):
        del config.quantization_config


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what the reader raises on a damaged or unknown file into BadInput."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # the reader parses a binary file and raises whatever it stumbles over
        raise BadInput(
            f"{path} cannot be read as a GGUF model: {error or type(error).__name__}. "
            "Check that the download is complete and that transformers supports the architecture, "
            "or give the model's safetensors folder."
        ) from error
