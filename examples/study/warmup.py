"""What a shorter warm-up does to the end of a run, and to what its beginning tells.

    python -m examples.study.warmup [--out DIR [--task NAME ...]]

Prints a table from warmup.jsonl. With --out, candidates of the study are first trained again with the warm-up of
planned runs, to the end on the tasks of TO_THE_END and else to a fifth, and kept there; what stands there is not run
again, and several of these may run at once. A few runs with the study's own warm-up tell what batches in another order
change.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from advisor.forecast.end_model import loss_of, probe_of
from advisor.forecast.predictor import Predictor
from examples.study.bench import VERSIONS_OF, Training, Workbench
from examples.study.candidates import LEARNING_RATES, ONLY_CLASSIFICATION, Candidate
from examples.study.kept import add_once, read
from examples.study.race import final_loss, full_runs
from examples.study.records import read_collected
from examples.study.schedules import FRACTIONS, WARMUP_FRACTION, full_eval_steps, rung
from examples.study.scores import spearman
from examples.study.tasks import TASKS, StudyTask
from knowledge.importers.study import experiment_of
from knowledge.prior import suite_of
from knowledge.schema import WARMUP_FRACTION as SHORTER
from knowledge.schema import Curve, RunRecord
from knowledge.table import shipped
from probes.schema import Schedule

KEPT = Path(__file__).parent / "warmup.jsonl"
TO_THE_END = ("debian_sections", "chain_sum")
ANEW = ("lora", "lora-all-linear", "oft", "ia3", "shira", "miss")  # at the highest of the catalogue's rates

Trained = tuple[str, str, float, float]
"""Task, method, learning rate and warm-up."""


def to_train(task: StudyTask) -> Iterator[tuple[Candidate, float]]:
    """Candidates with their warm-ups: the highest rates, which a short warm-up might harm, come first."""
    for place in (3, 2, 1):
        for method, rates in LEARNING_RATES.items():
            if task.task == "sequence-classification" or method not in ONLY_CLASSIFICATION:
                yield Candidate(task, method, rates[place], seed=0), SHORTER
    if task.name in TO_THE_END:
        yield from ((Candidate(task, method, LEARNING_RATES[method][2], seed=0), WARMUP_FRACTION) for method in ANEW)


def train(bench: Workbench, candidate: Candidate, warmup: float) -> dict[str, Any]:
    """One planned run, or its first fifth."""
    task, steps = bench.task, bench.task.max_steps
    ends = full_eval_steps(steps) if task.name in TO_THE_END else [rung(f, steps) for f in FRACTIONS]
    schedule = Schedule(shape="cosine", total_steps=steps, warmup_steps=round(warmup * steps))
    outcome = Training(bench, candidate).outcome("full-1", schedule, ends[-1], ends)
    return {
        "task": task.name,
        "method": candidate.method,
        "learning_rate": candidate.learning_rate,
        "warmup_fraction": warmup,
        "status": outcome.status,
        "losses": {str(p.step): p.eval_loss and round(p.eval_loss, 6) for p in outcome.points},
        "versions": {name: version(name) for name in VERSIONS_OF},
    }


def trained(record: dict[str, Any]) -> Trained:
    return record["task"], record["method"], record["learning_rate"], record["warmup_fraction"]


def run(names: Sequence[str], out: Path) -> None:
    """Trains what is not kept yet."""
    bench_of = cache(partial(Workbench, seed=0, out=out))
    for name in names:
        for candidate, warmup in to_train(TASKS[name]):
            wanted = name, candidate.method, candidate.learning_rate, warmup
            add_once(
                KEPT,
                out,
                f"{name}-{candidate.name}-{warmup:g}",
                lambda r, wanted=wanted: trained(r) == wanted,
                lambda candidate=candidate, warmup=warmup: train(bench_of(candidate.task), candidate, warmup),
            )


def pairs_of(task: str, records: Sequence[dict[str, Any]]) -> list[tuple[RunRecord, RunRecord]]:
    """Each candidate's planned run with the study's warm-up, and the same with the shorter one: where that was trained
    for a fifth only, it goes on as the study's did."""
    shorter = {
        experiment_of({**r, "seed": 0}): r["losses"]
        for r in records
        if (r["task"], r["warmup_fraction"], r["status"]) == (task, SHORTER, "finished")
    }
    pairs = []
    for run in full_runs(read_collected(), task):
        if losses := shorter.get(run.experiment):
            points = [
                p.model_copy(update={"eval_loss": losses.get(str(p.step), p.eval_loss)}) for p in run.curve.points
            ]
            pairs.append((run, run.model_copy(update={"curve": Curve(points=tuple(points))})))
    return pairs


def forecast_error(runs: Sequence[RunRecord], fraction: float) -> float:
    """The mean error of the log of the final loss, foretold from probes of that length by what other tasks teach."""
    known = [run for run in shipped() if suite_of(run) != suite_of(runs[0])]
    predictor = Predictor(known, task=runs[0].task, label_mean_tokens=runs[0].label_mean_tokens or 1.0)
    forecasts = predictor.predict({r.experiment: probe_of(r, fraction) for r in runs}, runs[0].max_steps)
    return float(np.mean([abs(math.log(forecasts[r.experiment].loss.value / final_loss(r))) for r in runs]))


def row(runs: Sequence[RunRecord], fraction: float) -> tuple[float, float, float]:
    """The rank correlation of the losses after a share of the run with the final ones, how far above the best the
    candidate with the lowest of them ends, and the error of forecasts."""
    final = np.array([final_loss(run) for run in runs])
    seen = np.array([loss_of(run.curve.until(rung(fraction, run.max_steps)).points[-1]) for run in runs])
    return spearman(seen, final), float(final[seen.argmin()] - final.min()), forecast_error(runs, fraction)


def table(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown: what probes of each length tell, with either warm-up."""
    head = ("rank correlation", "regret, nats", "error of forecasts")
    yield f"| task | candidates | probe | {' | '.join(f'{name}: 10 % | 3 %' for name in head)} |"
    yield "|---|---|---|" + "---|" * 2 * len(head)
    rows: dict[float, list[np.ndarray]] = {}
    for task in dict.fromkeys(r["task"] for r in records):
        if not (pairs := pairs_of(task, records)):
            continue
        for fraction in FRACTIONS:
            both = np.column_stack([row(runs, fraction) for runs in zip(*pairs, strict=True)])
            rows.setdefault(fraction, []).append(both)
            yield f"| {task} | {len(pairs)} | {fraction:.0%} | {_told(both)} |"
    for fraction, of_tasks in rows.items():
        yield f"| mean of {len(of_tasks)} | | {fraction:.0%} | {_told(np.mean(of_tasks, axis=0))} |"


def _told(both: np.ndarray) -> str:
    return " | ".join(f"{value:.2f}" for value in both.ravel())


def ends_apart(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How far the ends with the shorter warm-up lie from those of the study's runs, and of runs on the same batches."""
    final = {trained(r): [*r["losses"].values()][-1] for r in records if r["task"] in TO_THE_END}
    for task in TO_THE_END:
        if pairs := pairs_of(task, records):
            apart = np.mean([final_loss(shorter) - final_loss(longer) for longer, shorter in pairs])
            yield f"{task}: {apart:+.3f} nats at the end with 3 % against the study's {len(pairs)} runs"
        apart = [
            final[of, method, rate, SHORTER] - end
            for (of, method, rate, warmup), end in final.items()
            if of == task and warmup == WARMUP_FRACTION and (of, method, rate, SHORTER) in final
        ]
        if apart:
            lowest, mean, highest = min(apart), np.mean(apart), max(apart)
            yield f"{task}: {mean:+.3f} nats with 3 % on the same batches, {lowest:+.3f} to {highest:+.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder to work in; without it nothing is trained")
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TO_THE_END))
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        run(options.task, options.out)
    print("\n".join([*table(read(KEPT)), "", *ends_apart(read(KEPT))]))


if __name__ == "__main__":
    main()
