"""Where the best learning rate lies on narrow models, for methods and data that the study does not hold.

    python -m examples.study.rates --out DIR [--task debian_sections] METHOD ...

Runs the planned run of each method at the middle and the highest of the catalogue's rates and at three times that, and
keeps the ends in rates.jsonl, from which it prints a table. What stands there is not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from examples.study.bench import VERSIONS_OF, Training, Workbench
from examples.study.candidates import Candidate
from examples.study.kept import read
from examples.study.schedules import full_eval_steps, full_schedule
from examples.study.tasks import TASKS, StudyTask
from knowledge.methods import get_method
from knowledge.methods.base import a_step_above

RATES = Path(__file__).parent / "rates.jsonl"
DEMO_DATA = Path(__file__).parents[1] / "data" / "demo.jsonl"


def demo() -> list[dict[str, Any]]:
    """The rows of `make demo`, which the study has not seen."""
    return [json.loads(line) for line in DEMO_DATA.read_text(encoding="utf-8").splitlines()]


DEMO = replace(TASKS["spell_backward"], name="demo", rows=demo, batch_size=8, max_steps=169, eval_rows=50)


def rates_to_try(method: str) -> tuple[float, float, float]:
    """The middle and the highest of the catalogue's rates for large models, and what is beyond."""
    rates = get_method(method).learning_rates
    return rates[-2], rates[-1], a_step_above(rates[-1])


def end_of(bench: Workbench, method: str, rate: float) -> dict[str, Any]:
    """One planned run to its end."""
    task = bench.task
    training = Training(bench, Candidate(task, method, rate, bench.seed))
    run = training.run("full", 1.0, full_schedule(task.max_steps), full_eval_steps(task.max_steps))
    end = run.points[-1] if run.final_loss is not None else None
    return {
        "task": task.name,
        "method": method,
        "learning_rate": rate,
        "status": run.status,
        "eval_loss": end and end.eval_loss,
        "metric": end and end.metric,
        "duration_s": run.duration_s,
        "versions": {name: version(name) for name in VERSIONS_OF},
    }


def table(ends: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown: a line for each task and method, the losses at the end from the lowest rate to the highest."""
    yield "| task | method | rates | loss at the end | best |\n|---|---|---|---|---|"
    places = {(end["task"], end["method"]): None for end in ends}
    for task, method in places:
        of_method = {e["learning_rate"]: e["eval_loss"] for e in ends if (e["task"], e["method"]) == (task, method)}
        rates = sorted(of_method)
        losses = [of_method[rate] for rate in rates]
        best = min((rate for rate in rates if of_method[rate] is not None), key=of_method.__getitem__)
        told = ", ".join("diverged" if loss is None else f"{loss:.3f}" for loss in losses)
        yield f"| {task} | {method} | {', '.join(f'{rate:g}' for rate in rates)} | {told} | {best:g} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD")
    parser.add_argument("--task", choices=[*TASKS, DEMO.name], default="debian_sections")
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    options = parser.parse_args()
    task: StudyTask = DEMO if options.task == DEMO.name else TASKS[options.task]
    done = {(end["task"], end["method"], end["learning_rate"]) for end in read(RATES)}
    bench = None
    for method in options.methods:
        for rate in rates_to_try(method):
            if (task.name, method, rate) not in done:
                bench = bench or Workbench(task, seed=0, out=options.out)
                with RATES.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(end_of(bench, method, rate)) + "\n")
    print("\n".join(table(read(RATES))))


if __name__ == "__main__":
    main()
