"""Writes knowledge/data/method_matrix.json from fresh observations.

Run as `python -m tests.contracts.write_matrix [NAME ...]`. With names, the rows of the other methods stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import knowledge.seen
from knowledge.methods import all_methods
from tests.contracts.observe import observe
from tests.tiny import ARCHITECTURES, QUANTIZED


def main(names: list[str]) -> None:
    path = Path(knowledge.seen.__file__).parent / "data" / knowledge.seen.MATRIX
    rows = json.loads(path.read_text(encoding="utf-8")) if names else {}
    candidates = [method for method in all_methods().values() if not method.special_purpose]
    for method in candidates:
        if method.name in names or not names:
            rows[method.name] = {
                architecture: observe(method, architecture).as_seen().model_dump(exclude_defaults=True)
                for architecture in (*ARCHITECTURES, *QUANTIZED)
            }
    lines = [f"{json.dumps(method.name)}: {json.dumps(rows[method.name])}" for method in candidates]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
