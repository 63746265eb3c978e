"""What transformers says: kept away from the terminal, or turned into errors with the next step."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from knowledge.errors import BadInput, NoModelAccess

if TYPE_CHECKING:
    from probes.source import ModelSource


@contextmanager
def model_errors_in_words(source: ModelSource) -> Iterator[None]:
    """Turns what transformers raises about a model into an error with the next step."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        words = str(error)
        if "trust_remote_code" in words:
            raise BadInput(
                f"{source.reference} needs code that comes with the model. If you trust its author, add "
                "--trust-remote-code."
            ) from error
        if "Unrecognized configuration class" in words:
            raise BadInput(f"{source.reference} {_no_class(words)}") from error
        if isinstance(error, OSError) and source.kind == "hub":
            raise NoModelAccess(f"{source.reference} cannot be loaded: {words}") from error
        raise BadInput(
            f"{source.reference} cannot be loaded by transformers {_transformers_version()}: {words}"
        ) from error


def _no_class(words: str) -> str:
    """From transformers' message, which lists all configurations that it knows."""
    found = re.search(r"(\w+)'> for this kind of AutoModel: AutoModelFor(\w+)", words)
    config, kind = found.groups() if found else ("its configuration", "this")
    tasks = {"CausalLM": "a language model of texts alone", "SequenceClassification": "a classifier"}
    return (
        f"has no form as {tasks.get(kind, kind)} in transformers {_transformers_version()} ({config}): models that see "
        "or hear too are probed only where they have one. Give a model of texts, or another --task."
    )


def _transformers_version() -> str:
    import transformers

    return transformers.__version__


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the progress bars, notices and warnings of transformers away from the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
