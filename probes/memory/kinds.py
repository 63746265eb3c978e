"""What memory is used for."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """What a storage is for."""

    WEIGHTS = 0
    ADAPTER = 1
    GRADIENTS = 2
    OPTIMIZER = 3
    ACTIVATIONS = 4
    LOGITS = 5


BREAKDOWN = (*(kind.name.lower() for kind in Kind), "overhead")  # the keys of `MemoryEstimate.breakdown`, as shown
