"""What some dozens of held-out rows tell of rows that nobody saw: does the loss on them choose better, or the metric?

    python -m examples.study.held_out_rows [--out DIR [--task NAME ...]]

With --out, candidates are trained to the end of planned runs of which hundreds of rows are held out, and what each row
costs, and whether its answer is right, is kept in held_out_rows.jsonl after a fifth and at the end; what stands there
is not run again, and several of these may run at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from examples.study.bench import VERSIONS_OF, Training, Workbench
from examples.study.candidates import LEARNING_RATES, ONLY_CLASSIFICATION, Candidate
from examples.study.held_out_scores import LOOKS, finalists_table, longer_look_table, table
from examples.study.kept import add_once, read
from examples.study.tasks import TASKS, StudyTask
from knowledge.schema import WARMUP_FRACTION
from probes.schema import ProbeOutcome, Schedule

KEPT = Path(__file__).parent / "held_out_rows.jsonl"
# Answers of these are right or wrong as a whole, and neither always.
CLASSIFICATIONS = ("debian_sections", "debian_interfaces", "library_packages", "function_packages", "debian_languages")
ANSWERS = ("word_sorting", "chain_sum", "simple_equations")


def with_many_held_out(task: StudyTask) -> StudyTask:
    """The task with up to 600 of its rows held out, and not more than two fifths of them."""
    return replace(task, eval_rows=600, eval_fraction=0.4)


def to_train(names: Sequence[str]) -> Iterator[Candidate]:
    """All methods at the highest of the catalogue's rates, the usual one for narrow models; then classifiers at
    three times that."""
    for place in (2, 3):
        for name in names:
            task = with_many_held_out(TASKS[name])
            is_cheap = task.task == "sequence-classification"
            for method, rates in LEARNING_RATES.items():
                if is_cheap or (place == 2 and method not in ONLY_CLASSIFICATION):
                    yield Candidate(task, method, rates[place], seed=0)


def train(bench: Workbench, candidate: Candidate) -> dict[str, Any]:
    """One planned run, with what its held-out rows cost after a fifth and at its end."""
    steps = bench.task.max_steps
    schedule = Schedule(shape="cosine", total_steps=steps, warmup_steps=round(WARMUP_FRACTION * steps))
    training = Training(bench, candidate)
    rows = {}
    for fraction in LOOKS:
        stop = round(fraction * steps)
        outcome = training.outcome("full-1", schedule, stop, [stop])
        if outcome.status == "finished":
            rows[str(stop)] = _rows_of(outcome, bench.baseline.row_labels)
    return {
        "task": bench.task.name,
        "method": candidate.method,
        "learning_rate": candidate.learning_rate,
        "max_steps": steps,
        "label_tokens": list(bench.baseline.row_labels),
        "rows": rows,
        "versions": {name: version(name) for name in VERSIONS_OF},
    }


def _rows_of(outcome: ProbeOutcome, label_tokens: Sequence[int]) -> dict[str, Any]:
    """Nats of each row, and a 1 for each that is right as a whole."""
    right = (found == wanted for found, wanted in zip(outcome.row_right, label_tokens, strict=True))
    return {"nats": [round(nats, 3) for nats in outcome.row_losses], "right": "".join(str(int(r)) for r in right)}


def run(names: Sequence[str], out: Path) -> None:
    """Trains what is not kept yet."""
    bench_of = cache(partial(Workbench, seed=0, out=out))
    for candidate in to_train(names):
        wanted = candidate.task.name, candidate.method, candidate.learning_rate
        add_once(
            KEPT,
            out,
            f"{candidate.task.name}-{candidate.name}",
            lambda r, wanted=wanted: (r["task"], r["method"], r["learning_rate"]) == wanted,
            lambda candidate=candidate: train(bench_of(candidate.task), candidate),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder to work in; without it nothing is trained")
    parser.add_argument("--task", nargs="+", choices=(*CLASSIFICATIONS, *ANSWERS), default=[*CLASSIFICATIONS, *ANSWERS])
    parser.add_argument("--draws", type=int, default=200, help="of rows, for each task and number of them")
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        run(options.task, options.out)
    records = read(KEPT)
    for lines in (table, finalists_table, longer_look_table):
        print("\n".join([*lines(records, options.draws), ""]))


if __name__ == "__main__":
    main()
