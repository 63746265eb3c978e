"""The puzzles of reasoning-gym, generated anew from a seed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from knowledge.errors import BadInput


def require_reasoning_gym() -> None:
    """Raises BadInput where it is not installed."""
    if find_spec("reasoning_gym") is None:
        raise BadInput(
            "The reasoning tasks are made by reasoning-gym, which is not installed: pip install 'peft-advisor[study]'"
        )


def puzzles(dataset: str, size: int, **settings: Any) -> list[dict[str, Any]]:
    """So many entries of a dataset, each with question, answer and metadata. Raises BadInput without reasoning-gym."""
    require_reasoning_gym()
    import reasoning_gym

    return list(reasoning_gym.create_dataset(dataset, size=size, seed=0, **settings))
