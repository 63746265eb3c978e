"""What memory is used for."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """What a storage is for; the keys of `MemoryEstimate.breakdown` in lower case."""

    WEIGHTS = 0
    ADAPTER = 1
    GRADIENTS = 2
    OPTIMIZER = 3
    ACTIVATIONS = 4
    LOGITS = 5
