"""Makes data/debian_synopses.jsonl: the name and archive section of Debian packages, and their one-line description.

    apt-get update && python -m examples.study.debian_synopses

What a name leaves open cannot be learned, so losses fall by a part of what they begin with, as they do where users
teach a style: the study's other tasks can be learned to the end. Reads what debian_sections.py reads.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from examples.study.debian_sections import available, programs

ROWS = 3000
FILE = Path(__file__).parent / "data" / "debian_synopses.jsonl"


def rows(listing: str, seed: int = 0) -> list[dict[str, str]]:
    """A sample of the programs in the list, shuffled."""
    found = [
        {"prompt": f"{p['Package']} ({p['Section']}):", "completion": f" {p['Description'].strip()}"}
        for p in programs(listing)
    ]
    return random.Random(seed).sample(found, ROWS)


def main() -> None:
    FILE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(available())), encoding="utf-8")


if __name__ == "__main__":
    main()
