"""adapter_config.json: `peft.PeftConfig.from_pretrained(folder)` reads it, `get_peft_model` applies it."""

from __future__ import annotations

import json
from pathlib import Path

from advisor.exporters.base import model_location, peft_config, picked
from advisor.files import write_text
from advisor.recommendation import Result

NAME = "peft"
TITLE = "PEFT adapter config"


def export(folder: Path, result: Result) -> list[Path]:
    """Writes adapter_config.json with the settings that are set, keys in a fixed order."""
    config = {**peft_config(picked(result)), "base_model_name_or_path": model_location(result)}
    return [write_text(folder / "adapter_config.json", json.dumps(config, indent=2, allow_nan=False) + "\n")]
