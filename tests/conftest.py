"""Every test runs offline, on one thread per process, and away from the user's own cache and data."""

import os
import sys
import tempfile

import pytest
from hypothesis import settings

from tests.faults.summary import pytest_configure, pytest_itemcollected, pytest_terminal_summary  # noqa: F401

# Before any test module imports torch or transformers; worker processes inherit it.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
_folder = tempfile.TemporaryDirectory(prefix="advisor-tests-")  # gone when the process ends
os.environ["ADVISOR_CACHE_DIR"] = f"{_folder.name}/cache"
os.environ["ADVISOR_DATA_DIR"] = f"{_folder.name}/data"

# How long an example takes says more about the machine's load than about the code.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def zygote_path():
    """Where the process listens that forks `advisor` and workers; see tests/zygote.py."""
    from tests import zygote

    with zygote.running() as path:
        yield path


@pytest.fixture(scope="module")
def forked_workers(request):
    """Executors' workers are forked instead of started, where the system can do that: the same code, in no time."""
    from probes.executors import process
    from tests import zygote

    if sys.platform != "linux":
        yield
        return
    path = request.getfixturevalue("zygote_path")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process, "WORKER_COMMAND", zygote.worker_command(path))
        yield
