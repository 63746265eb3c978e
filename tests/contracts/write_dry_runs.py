"""Writes knowledge/data/dry_runs.json: what `recommend --no-probe` asks for of the well-known models.

Run as `ADVISOR_CACHE_DIR=DIR python -m tests.contracts.write_dry_runs`; it takes an hour of one core. Stop it and
start it again with the same folder at any time: what lies there is not done again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import knowledge
from advisor import recommend
from knowledge import dry_runs
from knowledge.errors import AdvisorError
from knowledge.models import ALIASES
from probes.memory import cache

CARDS = (None, "8GB", "12GB", "16GB", "24GB", "32GB", "40GB", "48GB", "80GB", "96GB", "141GB")


def main() -> None:
    path = Path(knowledge.__file__).parent / "data" / dry_runs.DRY_RUNS
    # Nothing may be taken from the file that is to be written.
    path.write_text(dry_runs.as_file({}, cache.traced_versions()), encoding="utf-8")
    for model in sorted(set(ALIASES.values())):
        for card in CARDS:
            try:
                recommend(model, probe=False, vram=card, show_progress=False)
                found = "done"
            except AdvisorError as error:  # a model that no method fits the card with, or is no candidate at all
                found = str(error).splitlines()[0]
            print(f"{model} {card or 'no card'}: {found}", file=sys.stderr, flush=True)
    path.write_text(dry_runs.as_file(cache.estimates_of_this_code(), cache.traced_versions()), encoding="utf-8")


if __name__ == "__main__":
    main()
