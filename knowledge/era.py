"""The software era of a run: what keeps benchmarks apart that are alike in everything else."""

from __future__ import annotations

import re
from collections.abc import Mapping


def software_era(versions: Mapping[str, str], without_cuda: str = "cpu") -> str:
    """The last part of a benchmark's name, e.g. 'transformers5-cuda13.0'.

    Re-runs of one experiment moved with the major version of transformers (accuracy, by about -.017 from 4 to 5)
    and with the CUDA release (forgetting), with unchanged training loss; within both they agree within noise.
    `without_cuda` stands for builds of torch that do not name one.
    """
    transformers = versions.get("transformers", "?").split(".")[0]
    cuda = re.search(r"\+cu(\d+)(\d)$", versions.get("torch", ""))
    return f"transformers{transformers}-" + (f"cuda{cuda[1]}.{cuda[2]}" if cuda else without_cuda)
