"""What the contract tests saw each method do on each architecture: facts, where the catalogue makes claims.

The matrix is written by `python -m tests.contracts.write_matrix` and held against fresh observations by
tests/contracts/test_methods.py, so it cannot drift from what the methods do under the supported versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from pydantic import Field

from knowledge.schema import Finite, Record, Task

MATRIX = "method_matrix.json"


# Which of the architectures stands for those that are not in the matrix.
_STANDS_FOR: dict[Task, str] = {"causal-lm": "llama", "sequence-classification": "bert", "seq2seq-lm": "t5"}


class Seen(Record):
    """One method on a tiny model of one architecture, in float32 or with its base in 4 or 8 bits."""

    works: bool = Field(description="trains, saves, and reloads to the same outputs")
    reason: str = Field("", description="why it is refused there")
    merges: bool = Field(False, description="merges into the base (a full-precision one) with the same outputs")
    identity_start: bool = Field(False, description="leaves the outputs unchanged before training")
    restores_base: bool = Field(False, description="removing it gives back the very base")
    beside_others: bool = Field(False, description="a second adapter can be loaded beside it and switched to")
    lora_error: Finite | None = Field(
        None, description="relative error of the outputs' change after PEFT's conversion to a LoRA of rank 16"
    )


@cache
def matrix() -> Mapping[str, Mapping[str, Seen]]:
    """Method name -> architecture -> what was seen."""
    raw = json.loads(files("knowledge").joinpath("data", MATRIX).read_text(encoding="utf-8"))
    return {method: {architecture: Seen(**facts) for architecture, facts in row.items()} for method, row in raw.items()}


def quantized_columns() -> tuple[str, ...]:
    """The columns of the matrix that are of a base in 4 or 8 bits: 'llama-nf4', 'llama-int8'."""
    return tuple(column for column in next(iter(matrix().values())) if column.endswith(("-nf4", "-int8")))


def seen_on(method: str, model_type: str, task: Task) -> Seen | None:
    """What was seen of the method on this architecture, or on the one that stands for models of this task; None for
    methods that are no candidates."""
    row = matrix().get(method, {})
    return row.get(model_type.removesuffix("_text")) or row.get(_STANDS_FOR.get(task, ""))
