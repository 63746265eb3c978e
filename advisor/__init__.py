"""Which PEFT method, with which settings, for this model, this data and this GPU.

from advisor import recommend
rec = recommend(model="meta-llama/Llama-3.2-3B", data="my.jsonl", budget_minutes=15)
rec.peft_config            # ready for peft.get_peft_model
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advisor.api import recommend
    from advisor.memory.estimate import estimate_memory

__all__ = ["estimate_memory", "recommend"]

_HOMES = {"recommend": "advisor.api", "estimate_memory": "advisor.memory.estimate"}


def __getattr__(name: str) -> Any:
    """Loads what is asked for when it is asked for, so that `import advisor` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'advisor' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """With what is loaded when it is asked for, so that a shell completes it."""
    return sorted({*globals(), *__all__})
