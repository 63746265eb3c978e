"""What some dozens of held-out rows tell of rows that nobody saw: does the loss on them choose better, or the metric?

    python -m examples.study.held_out_rows [--out DIR [--task NAME ...]]

With --out, candidates are trained to the end of planned runs of which hundreds of rows are held out, and what each row
costs, and whether its answer is right, is kept in held_out_rows.jsonl after a fifth and at the end; what stands there
is not run again, and several of these may run at once.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from advisor.held_out import RowsNoise, held_out_noise, metric_noise, own_parts
from advisor.predictor import Forecast
from advisor.quality import is_clearer
from advisor.recommendation import Prediction
from examples.study.bench import VERSIONS_OF, Training, Workbench
from examples.study.candidates import LEARNING_RATES, ONLY_CLASSIFICATION, Candidate
from examples.study.kept import add_once, read
from examples.study.tasks import TASKS, StudyTask
from knowledge.schema import WARMUP_FRACTION
from probes.schema import ProbeOutcome, Schedule

KEPT = Path(__file__).parent / "held_out_rows.jsonl"
LOOKS = (0.2, 1.0)  # of a run
ROWS = (32, 64, 128, 200)  # held out; all others are those that nobody saw
CANDIDATES, FEWEST = 10, 6  # of a draw, and of a task
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


@dataclass(frozen=True)
class Ends:
    """What a task's rows cost at the ends of its candidates' runs, and which are right: shape (candidates, rows)."""

    nats: np.ndarray
    right: np.ndarray
    label_tokens: np.ndarray

    @classmethod
    def of(cls, records: Sequence[dict[str, Any]]) -> Ends:
        ends = [r["rows"][str(r["max_steps"])] for r in records if str(r["max_steps"]) in r["rows"]]
        return cls(
            np.array([end["nats"] for end in ends]),
            np.array([[answer == "1" for answer in end["right"]] for end in ends]),
            np.array(records[0]["label_tokens"]),
        )

    def some(self, candidates: np.ndarray, rows: np.ndarray) -> Ends:
        return Ends(self.nats[candidates][:, rows], self.right[candidates][:, rows], self.label_tokens[rows])

    @property
    def losses(self) -> np.ndarray:
        return self.nats.sum(axis=1) / self.label_tokens.sum()

    @property
    def metrics(self) -> np.ndarray:
        return self.right.mean(axis=1)

    def noise(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Half-widths that the advisor tells: of losses, of metrics, and of metrics as if rows were independent."""
        nats, right = (dict(enumerate(values.tolist())) for values in (self.nats, self.right))
        parts = own_parts(right)
        own, alone = (
            np.array(
                [_of_metric(value, len(self.label_tokens), part) for value, part in zip(self.metrics, of, strict=True)]
            )
            for of in (parts.values(), [1.0] * len(parts))
        )
        return np.array([*held_out_noise(nats).values()]) * self.losses, own, alone


def _of_metric(value: float, rows: int, own_part: float) -> float:
    told = Prediction(metric="exact match", value=value, low=value, high=value, extrapolated=False)
    return metric_noise(Forecast(None, told), rows, RowsNoise(own_part=own_part))


def draws_of(ends: Ends, rows: int, draws: int) -> Iterator[tuple[Ends, Ends]]:
    """Some candidates on some rows, and the same on all the other rows, again and again."""
    draw = np.random.default_rng(0)
    for _ in range(draws):
        order = draw.permutation(len(ends.label_tokens))
        candidates = draw.permutation(len(ends.nats))[:CANDIDATES]
        yield ends.some(candidates, order[:rows]), ends.some(candidates, order[rows:])


def picks_of(held_out: Ends) -> tuple[int, int, int]:
    """The candidate that is taken by the metric, by the loss, and where they disagree by the clearer of both leads."""
    losses, metrics = held_out.losses, held_out.metrics
    best, other = int(np.lexsort((losses, -metrics))[0]), int(losses.argmin())  # of equals the one of lower loss
    of_losses, of_metrics, _ = (np.hypot(noise[best], noise[other]) for noise in held_out.noise())
    is_denied = is_clearer(losses[best] - losses[other], of_losses, metrics[best] - metrics[other], of_metrics)
    return best, other, other if is_denied else best


def regrets_of(ends: Ends, rows: int, draws: int) -> np.ndarray:
    """How far below the best on the other rows the picks lie: shares of right answers, and nats; shape (2, picks)."""
    found = []
    for held_out, others in draws_of(ends, rows, draws):
        picks = [*picks_of(held_out)]
        found.append([others.metrics.max() - others.metrics[picks], others.losses[picks] - others.losses.min()])
    return np.mean(found, axis=0)


def inside_of(ends: Ends, rows: int, draws: int) -> np.ndarray:
    """Of all pairs of candidates, the share whose difference on the other rows lies within what was told: of losses, of
    metrics, and of metrics as if rows were independent. What the other rows leave open themselves is allowed for."""
    found = []
    for held_out, others in draws_of(ends, rows, draws):
        one, other = np.triu_indices(len(held_out.nats), 1)
        wider = math.sqrt(1 + rows / len(others.label_tokens))
        values = ((of.losses, of.metrics, of.metrics) for of in (held_out, others))
        for seen, true, noise in zip(*values, held_out.noise(), strict=True):
            error = (seen[one] - seen[other]) - (true[one] - true[other])
            found.append(np.mean(np.abs(error) <= wider * np.hypot(noise[one], noise[other])))
    return np.reshape(found, (-1, 3)).mean(axis=0)


def table(records: Sequence[dict[str, Any]], draws: int) -> Iterator[str]:
    """Markdown: a row for each task and number of held-out rows, and the means."""
    lost = " | ".join(f"{what}: by metric | by loss | by both" for what in ("points lost", "nats lost"))
    yield f"| task | candidates | rows | {lost} | differences inside: loss | metric | as if rows were independent |"
    yield "|---" * 12 + "|"
    found: dict[int, list[np.ndarray]] = {}
    for task in dict.fromkeys(r["task"] for r in records):
        ends = Ends.of([r for r in records if r["task"] == task])
        for rows in ROWS:
            if len(ends.nats) < FEWEST or len(ends.label_tokens) < 2 * rows:
                continue
            line = np.concatenate([regrets_of(ends, rows, draws).ravel(), inside_of(ends, rows, draws)])
            found.setdefault(rows, []).append(line)
            yield f"| {task} | {len(ends.nats)} | {rows} | {_cells(line)} |"
    for rows, lines in sorted(found.items()):
        yield f"| mean of {len(lines)} | | {rows} | {_cells(np.mean(lines, axis=0))} |"


def _cells(line: np.ndarray) -> str:
    points = [f"{100 * value:.1f}" for value in line[:3]]
    return " | ".join(points + [f"{value:.3f}" for value in line[3:6]] + [f"{value:.0%}" for value in line[6:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder to work in; without it nothing is trained")
    parser.add_argument("--task", nargs="+", choices=(*CLASSIFICATIONS, *ANSWERS), default=[*CLASSIFICATIONS, *ANSWERS])
    parser.add_argument("--draws", type=int, default=200, help="of rows, for each task and number of them")
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        run(options.task, options.out)
    print("\n".join(table(read(KEPT), options.draws)))


if __name__ == "__main__":
    main()
