"""A metric of one's own: the share of letters that are right, where an exact match would say nothing of a near miss.

python -m examples.own_metric [--budget 5]
advisor recommend --model M --data D.jsonl --metric examples/own_metric.py:right_letters
"""

from __future__ import annotations

import argparse

from advisor import recommend
from examples.chat import DATA
from examples.demo_model import demo_model


def right_letters(predictions: list[str], references: list[str]) -> float:
    """Of all letters of the right answers, the share that the predicted ones have in the same place."""
    pairs = list(zip(predictions, references, strict=True))
    right = sum(a == b for predicted, reference in pairs for a, b in zip(predicted, reference, strict=False))
    return right / sum(len(reference) for _, reference in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id, folder or GGUF file; default: the demo's")
    parser.add_argument("--budget", type=float, default=5.0, help="minutes of probing")
    arguments = parser.parse_args()
    metric = f"{__file__}:right_letters"
    found = recommend(arguments.model or demo_model(), DATA, budget_minutes=arguments.budget, metric=metric)
    found.print_summary()


if __name__ == "__main__":
    main()
