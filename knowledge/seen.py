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

from knowledge.schema import Finite, Record

MATRIX = "method_matrix.json"


class Seen(Record):
    """One method on a tiny model of one architecture, in float32."""

    works: bool = Field(description="trains, saves, and reloads to the same outputs")
    reason: str = Field("", description="why it is refused there")
    merges: bool = Field(False, description="merges into the base with the same outputs")
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
