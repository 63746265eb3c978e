"""What is wrong with the data itself, whatever is trained on it."""

from __future__ import annotations

from advisor.text import plural
from probes.data.hold_out import SAME_PROMPT
from probes.schema import DatasetProfile

MANY_UNKNOWN = 0.05  # share of the tokens: a few odd signs are in any collection


def notes_on(data: DatasetProfile) -> list[str]:
    """What is wrong with the data itself, whatever is trained on it."""
    found = []
    if data.eval_path and (shared := data.dropped.get(SAME_PROMPT)):
        rows = plural(shared, "row")
        found.append(f"Left out of training, for {data.eval_path} has rows with the same prompt: {rows} of the data.")
    if data.unseen_class_rows:
        of = plural(data.eval_rows, "held-out row")
        found.append(
            f"{data.unseen_class_rows} of the {of} have a class that no training row has: nothing can learn it."
        )
    if data.unknown_share > MANY_UNKNOWN:
        found.append(
            f"{100 * data.unknown_share:.0f} % of the tokens are unknown to the model's tokenizer, as with texts in a "
            "script that it was not made for: the model cannot tell such words apart."
        )
    return found
