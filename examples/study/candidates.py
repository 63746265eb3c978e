"""What is compared: twelve methods of different families, each at four learning rates (ten at three for reasoning).

The rates are the catalogue's of November 2026 and three times its highest: whether a probe prefers rates that are too
high can only be seen where the best rate is not the highest. They are written down here, so that the study can be
continued when the catalogue has moved on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from examples.study.records import candidate_name
from examples.study.tasks import StudyTask

# Spread over the families, so that a study that stops early has seen different kinds.
LEARNING_RATES = {
    "lora": (1e-4, 3e-4, 1e-3, 3e-3),
    "ln-tuning": (1e-3, 3e-3, 1e-2, 3e-2),
    "oft": (1e-4, 4e-4, 1.5e-3, 4.5e-3),
    "prompt-tuning": (1e-3, 5e-3, 2e-2, 6e-2),
    "miss": (1e-4, 3e-4, 1e-3, 3e-3),
    "ia3": (2e-3, 5e-3, 2e-2, 6e-2),
    "lora-all-linear": (1e-4, 3e-4, 1e-3, 3e-3),
    "shira": (1e-4, 3e-4, 1e-3, 3e-3),
    "vera": (1e-3, 3e-3, 1e-2, 3e-2),
    "hira": (1.5e-3, 4.5e-3, 1.35e-2, 4.05e-2),
    "dora": (1e-4, 3e-4, 1e-3, 3e-3),
    "lora-fa": (1e-4, 3e-4, 1e-3, 3e-3),
}
NOISE_METHODS, NOISE_SEEDS = ("lora", "oft", "ia3"), (1, 2)
# A reasoning run costs several times as much as a classification run: there the study does without the methods that
# are nearest to others, and without each method's lowest rate.
ONLY_CLASSIFICATION = ("dora", "lora-fa")
WHERE_NOTHING_IS_COMPARED = ("lora", "ln-tuning", "oft", "ia3")  # of four families, at two of the catalogue's rates


@dataclass(frozen=True)
class Candidate:
    task: StudyTask
    method: str
    learning_rate: float
    seed: int

    @property
    def is_lowest_rate(self) -> bool:
        return self.learning_rate == LEARNING_RATES[self.method][0]

    @property
    def name(self) -> str:
        return candidate_name(self.method, self.learning_rate, self.seed)


def candidates(tasks: Sequence[StudyTask]) -> Iterator[Candidate]:
    """In the order in which they are run: one task after the other; in each the lowest rates come last, for they are
    the least likely to win, after the repetitions with other seeds (at the catalogue's highest rate)."""
    for task in tasks:
        if not task.is_compared:
            for method in WHERE_NOTHING_IS_COMPARED:
                for rate in LEARNING_RATES[method][1:3]:
                    yield Candidate(task, method, rate, seed=0)
            continue
        is_cheap = task.task == "sequence-classification"
        methods = {m: r for m, r in LEARNING_RATES.items() if is_cheap or m not in ONLY_CLASSIFICATION}
        for method, rates in methods.items():
            for rate in rates[1:]:
                yield Candidate(task, method, rate, seed=0)
        for seed in NOISE_SEEDS:
            for method in NOISE_METHODS:
                yield Candidate(task, method, LEARNING_RATES[method][-2], seed)
        if is_cheap:
            for method, rates in methods.items():
                yield Candidate(task, method, rates[0], seed=0)
