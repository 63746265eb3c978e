"""May this model be read from the hub? Answered before any work, with a different answer for each kind of no."""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit

from knowledge.errors import BadInput, NoModelAccess
from knowledge.models import known_config, resolve_alias, suggest

CONNECT_TIMEOUT_S = 3.0
_OFFLINE, _BY_US = "HF_HUB_OFFLINE", "ADVISOR_SET_HF_HUB_OFFLINE"
_WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
_LOCAL_FOLDER = "Give a local folder of the model"
_WITHOUT_WEIGHTS = f"{_LOCAL_FOLDER}, or answer from the benchmark table alone with --no-probe."


def repository_of(reference: str) -> str:
    """The hub id that an alias such as 'llama' stands for, or the reference itself."""
    return resolve_alias(reference) or reference


def check_access(repository: str, *, weights: bool) -> None:
    """Raise NoModelAccess (gated, missing, out of reach) or BadInput (no model in it) unless `repository` can be read.

    Fetches the config, a small file; of the weights only the presence is asked for. What is in the local cache counts
    where the hub is out of reach.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    offline = not reachable()
    # Without its config a model can be answered for only where its architecture is known here.
    next_step = _WITHOUT_WEIGHTS if weights and known_config(repository) is not None else f"{_LOCAL_FOLDER}."
    try:
        hf_hub_download(repository, "config.json", local_files_only=offline)
        if weights and not _has_weights(repository, offline):
            raise _without_weights(repository, offline)
    except GatedRepoError as error:
        raise NoModelAccess(
            f"{repository} is gated: its authors ask for consent to a licence. Accept it at "
            f"https://huggingface.co/{repository} and log in with `hf auth login`. Or: {next_step}"
        ) from error
    except RepositoryNotFoundError as error:
        raise NoModelAccess(
            f"There is no model {repository!r} on the hub, or it is private.{_nearby(repository)} For a private model "
            f"log in with `hf auth login`. {next_step}"
        ) from error
    except HFValidationError as error:
        raise BadInput(
            f"{repository!r} is neither a local file, a known alias nor a hub id (owner/name).{_nearby(repository)}"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise NoModelAccess(
            f"{repository} is not on this machine and the hub cannot be reached (offline).{_nearby(repository)} "
            f"{next_step}"
        ) from error
    except EntryNotFoundError as error:
        raise BadInput(
            f"{repository} has no config.json, so transformers cannot load it. Is it an adapter or a GGUF repository? "
            "Give the base model, or a local GGUF file."
        ) from error
    except OSError as error:  # the hub answers, but not as it should: overload, a proxy's error page
        raise NoModelAccess(f"{repository} cannot be read from the hub: {error}. {next_step}") from error
    if offline:
        stay_offline()


def stay_offline() -> None:
    """From now on nothing but the local cache is asked, in this process and in its workers, until the hub can be
    reached again."""
    _set_offline(True)


def _set_offline(offline: bool) -> None:
    """Where the cache is enough, nobody is to wait for a hub that is out of reach: behind a firewall that answers
    nothing each call of its client takes a minute or two."""
    from huggingface_hub import constants

    if offline == constants.HF_HUB_OFFLINE:
        return  # as the user has it
    constants.HF_HUB_OFFLINE = offline
    if "datasets" in sys.modules:  # else it reads the environment when it is imported
        sys.modules["datasets"].config.HF_HUB_OFFLINE = offline
    if offline:
        os.environ[_OFFLINE], os.environ[_BY_US] = "1", "1"
    else:
        for name in (_OFFLINE, _BY_US):
            os.environ.pop(name, None)


def _nearby(repository: str) -> str:
    """A known name that is close to an unknown one, as a sentence; nothing where none is close."""
    sentence = suggest(repository)
    return f" {sentence}" if known_config(repository) is None and sentence.startswith("Did you mean") else ""


def reachable() -> bool:
    """Whether the hub can be reached, in seconds: its client would try again for half a minute before it says no."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and _BY_US not in os.environ:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the proxy knows
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=CONNECT_TIMEOUT_S):
            pass
    except OSError:
        return False
    if _BY_US in os.environ:
        _set_offline(False)
    return True


def _has_weights(repository: str, offline: bool) -> bool:
    from huggingface_hub import HfApi, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(repository, name), str) for name in _WEIGHT_FILES):
        return True
    if offline:
        return False
    try:
        return any(HfApi().file_exists(repository, name) for name in _WEIGHT_FILES)
    except OSError:  # the hub's own answers
        raise
    except Exception as error:  # those of the client's HTTP library, whichever it is, where the connection is lost
        raise OSError(f"{type(error).__name__}: {error}") from error


def _without_weights(repository: str, offline: bool) -> Exception:
    if offline:
        return NoModelAccess(
            f"Only the config of {repository} is on this machine and the hub cannot be reached (offline). "
            f"{_WITHOUT_WEIGHTS}"
        )
    return BadInput(
        f"{repository} has no safetensors weights; other formats can run code when read and are not loaded. "
        f"{_WITHOUT_WEIGHTS}"
    )
