"""Writes the example data sets beside it: procedural tasks of reasoning-gym, whose answers are computed, not written.

pip install 'peft-advisor[demo]' && python examples/make_data.py [FOLDER]

demo.jsonl       prompt and completion: sums and differences of two 2-digit numbers. SmolLM2-135M answers almost
                 none of them in this form before tuning, and about half after a hundred steps.
chat.jsonl       messages: words to spell backward
relations.jsonl  text and label: a short family story; the label is how two of its people are related
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import reasoning_gym
except ModuleNotFoundError:
    raise SystemExit("The rows are made by reasoning-gym, which is missing: pip install 'peft-advisor[demo]'") from None

SEED = 20
DEMO_ROWS, CHAT_ROWS, RELATION_ROWS = 500, 120, 300
RELATIONS = ("father", "mother", "son", "daughter", "husband", "wife")


def puzzles(name: str, rows: int, **settings: Any) -> Iterator[tuple[str, str]]:
    """(question, answer) of up to `rows` puzzles with distinct questions, each answer checked by the task's scorer."""
    dataset = reasoning_gym.create_dataset(name, size=rows, seed=SEED, **settings)
    seen: set[str] = set()
    for entry in dataset:
        question, answer = entry["question"].strip(), entry["answer"].strip()
        if question not in seen and dataset.score_answer(answer, entry) == 1.0:
            seen.add(question)
            yield question, answer


def demo_rows() -> list[dict[str, Any]]:
    sums = puzzles("chain_sum", 2 * DEMO_ROWS, min_terms=2, max_terms=2, min_digits=2, max_digits=2)
    return [{"prompt": question, "completion": f" {answer}"} for question, answer in sums][:DEMO_ROWS]


def chat_rows() -> list[dict[str, Any]]:
    words = puzzles("spell_backward", 2 * CHAT_ROWS, min_word_len=3, max_word_len=6)
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in words
    ][:CHAT_ROWS]


def relation_rows() -> list[dict[str, Any]]:
    """Equally many rows of each relation, as far as they go: the majority class must not be a good answer."""
    stories = puzzles("family_relationships", 40 * RELATION_ROWS)
    counts: Counter[str] = Counter()
    rows = []
    for question, answer in stories:
        if answer in RELATIONS and counts[answer] < RELATION_ROWS // len(RELATIONS):
            counts[answer] += 1
            rows.append({"text": question, "label": answer})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows)} rows")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "demo.jsonl", demo_rows())
    write(folder / "chat.jsonl", chat_rows())
    write(folder / "relations.jsonl", relation_rows())


if __name__ == "__main__":
    main()
