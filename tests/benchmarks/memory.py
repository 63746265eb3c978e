"""How well peaks of published runs are predicted: python -m tests.benchmarks.memory --results DIR [--json]

DIR holds result files of PEFT's method comparison. One number is unknown and fitted: the tokens of the longest batch.
It is found leave-one-method-out: for each run by the error of the others alone. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
from packaging.version import Version

from knowledge.models import known_config
from knowledge.schema import PlannedRun
from tests.benchmarks import comparison_script as script

CANDIDATE_LENGTHS = tuple(range(688, 713, 4))
SHUFFLES = 3
# GSM8K questions with the script's template, and the script's max_new_tokens.
PROMPT_TOKENS = 220

# Methods whose code changed after the runs, and the release from which on a dry run describes other code.
CODE_CHANGED = {"OSF": (Version("0.21"), "rewritten: it keeps less for the backward pass")}


@dataclass
class Entry:
    """One published run, its prediction at every candidate length, and the final one."""

    name: str
    method: str
    measured_bytes: int
    trainable_parameters: int
    changed: str = ""
    by_length: dict[int, int] = field(default_factory=dict)
    length: int = 0
    predicted_bytes: int = 0
    duration_s: float = 0.0
    failure: str = ""
    predict: Callable[[int], int] | None = None
    rivals: dict[str, int] = field(default_factory=dict)

    @property
    def error_pct(self) -> float:
        return 100 * (self.predicted_bytes - self.measured_bytes) / self.measured_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and the JSON line; 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder of result files (*.json)")
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    parser.add_argument("--only", default="", help="only files with this in their name")
    options = parser.parse_args(arguments)
    entries = [_prepare(path) for path in sorted(options.results.glob("*.json")) if options.only in path.name]
    for entry in entries:
        _trace_and_scan(entry)
    usable = [entry for entry in entries if not entry.failure]
    for entry in usable:
        entry.length = _fitted_length([e for e in usable if e.method != entry.method and not e.changed] or usable)
        assert entry.predict is not None
        entry.predicted_bytes = entry.predict(entry.length)
    if not options.json:
        _print_table(entries)
    print(json.dumps(summarise(entries), sort_keys=False))
    return int(any(entry.failure for entry in entries))


def _prepare(path: Path) -> Entry:
    content = json.loads(path.read_text(encoding="utf-8"))
    info, train = content["run_info"], content["train_info"]
    settings, peft_config = info["train_config"], info["peft_config"]
    name = info["experiment_name"]
    entry = Entry(
        name=name,
        method=name.split("/")[0],
        measured_bytes=train["accelerator_memory_max"],
        trainable_parameters=train["num_trainable_params"],
    )
    ran_with = Version(content["meta_info"]["package_info"]["peft-version"]).base_version
    if peft_config and peft_config["peft_type"] in CODE_CHANGED:
        since, what = CODE_CHANGED[peft_config["peft_type"]]
        entry.changed = what if Version(ran_with) < since <= _installed_peft() else ""
    tokens_per_row = train["metrics"][-1]["train total tokens"] / train["metrics"][-1]["train samples"] - 1
    entry.predict = partial(_predict, _Case(settings, peft_config, tokens_per_row))
    return entry


def _installed_peft() -> Version:
    import peft

    return Version(peft.__version__)


class _Case:
    """A run of the comparison: its model, its settings, and its traces once they are made."""

    def __init__(self, settings: dict[str, Any], peft_config: dict[str, Any] | None, tokens_per_row: float) -> None:
        from transformers import AutoConfig

        self.settings, self.peft_config, self.tokens_per_row = settings, peft_config, tokens_per_row
        self.config = AutoConfig.for_model(**known_config(settings["model_id"]))
        self.run = PlannedRun(
            max_steps=settings["max_steps"],
            batch_size=settings["batch_size"],
            max_length_tokens=settings["max_seq_length"],
            dtype=settings["dtype"],
            gradient_checkpointing=settings.get("use_gc", False),
            max_grad_norm=settings["grad_norm_clip"],
        )
        self._templates: tuple[Any, Any] | None = None

    def templates(self) -> tuple[Any, Any]:
        """The training step's and the generation's."""
        if self._templates is None:
            from probes.memory.batches import BatchPlan
            from probes.memory.estimate import training_template
            from probes.memory.generation import generation_template
            from probes.memory.template import ONE_LENGTH

            settings = dict(self.settings["optimizer_kwargs"])
            kind = self.settings["optimizer_type"]
            training = training_template(
                self.config,
                self.peft_config,
                self.run,
                BatchPlan((), (CANDIDATE_LENGTHS[len(CANDIDATE_LENGTHS) // 2], 0), ONE_LENGTH),
                optimizer=script.OPTIMIZERS.get(kind, f"torch.optim:{kind}"),
                optimizer_settings=settings,
                loop=script.comparison_loop,
                autocast_adapter_dtype=self.settings["autocast_adapter_dtype"],
            )
            generation = generation_template(
                self.config, self.peft_config, self.run, batch_size=self.settings["batch_size_eval"]
            )
            self._templates = training, generation
        return self._templates


def _predict(case: _Case, longest: int, *, evaluates: bool = True) -> int:
    """The median peak over several orders of rows, in bytes: one order alone can be 2 % off by fragmentation."""
    return median_low(_peak(case, longest, seed, evaluates=evaluates) for seed in range(SHUFFLES))


def _peak(case: _Case, longest: int, seed: int, *, evaluates: bool) -> int:
    from probes.memory.generation import GenerationPlan
    from probes.memory.replay import Replay

    training, generation = case.templates()
    random = np.random.default_rng(seed)
    replay = Replay(training)
    batch_size, max_steps = case.run.batch_size, case.run.max_steps
    rows = script.RowLengths(case.tokens_per_row, longest, batch_size * max_steps)
    replay.run(rows.longest_buckets(random, batch_size), script.EMPTY_CACHE_EVERY)
    if not evaluates:
        return replay.peak().reserved_bytes
    replay.run(rows.before_evaluation(random, batch_size, max_steps))
    limits = case.settings["generation_kwargs"]
    new_tokens = min(limits["max_new_tokens"], limits["max_length"] - PROMPT_TOKENS)
    replay.generate(generation, GenerationPlan(case.settings["batch_size_eval"], PROMPT_TOKENS, new_tokens))
    return replay.peak().reserved_bytes


def _trace_and_scan(entry: Entry) -> None:
    """Predictions at all candidate lengths; what goes wrong is noted, so that no run is left out in silence."""
    assert entry.predict is not None
    case = entry.predict.args[0]
    started = time.process_time()
    try:
        entry.predict(CANDIDATE_LENGTHS[0])
        entry.duration_s = time.process_time() - started
        entry.by_length = {length: _predict(case, length, evaluates=False) for length in CANDIDATE_LENGTHS}
        from tests.benchmarks.memory_rivals import accelerate_estimate, formula

        entry.rivals = {
            "formula": formula(case.config, case.run, entry.trainable_parameters, case.run.max_length_tokens),
            "accelerate": accelerate_estimate(case.config, case.run),
        }
    except Exception as error:  # reported as a failure of this run
        entry.failure = f"{type(error).__name__}: {error}"
    print(f"{entry.name}: {entry.failure or f'{entry.duration_s:.1f} s'}", file=sys.stderr, flush=True)


def _fitted_length(others: Sequence[Entry]) -> int:
    """The candidate length with the least median error over the other runs."""
    return min(
        CANDIDATE_LENGTHS,
        key=lambda length: float(np.median([abs(e.by_length[length] / e.measured_bytes - 1) for e in others])),
    )


def summarise(entries: Sequence[Entry]) -> dict[str, Any]:
    """The figures of the JSON line. Errors are over the runs whose method's code is what it was."""
    from scipy.stats import spearmanr

    counted = [entry for entry in entries if not entry.failure and not entry.changed]
    summary: dict[str, Any] = {"n": len(counted), **_errors([abs(entry.error_pct) for entry in counted])}
    if len(counted) > 2:
        measured = [entry.measured_bytes for entry in counted]
        summary["spearman"] = round(float(spearmanr([e.predicted_bytes for e in counted], measured)[0]), 4)
    summary["seconds_per_method"] = round(float(np.mean([entry.duration_s for entry in counted] or [0.0])), 2)
    summary["failed"] = {entry.name: entry.failure for entry in entries if entry.failure}
    summary["code_changed"] = {
        entry.name: {"error_pct": round(entry.error_pct, 2), "what": entry.changed}
        for entry in entries
        if entry.changed
    }
    summary["longest_batch_tokens"] = sorted({entry.length for entry in counted})
    for rival in ("formula", "accelerate"):
        off = [100 * abs(entry.rivals[rival] / entry.measured_bytes - 1) for entry in counted if entry.rivals]
        summary[rival] = _errors(off)
    return summary


def _errors(percent: Sequence[float]) -> dict[str, float]:
    if not percent:
        return {}
    return {
        "mean_abs_pct": round(float(np.mean(percent)), 3),
        "median_abs_pct": round(float(np.median(percent)), 3),
        "p90_abs_pct": round(float(np.percentile(percent, 90)), 3),
        "max_abs_pct": round(float(np.max(percent)), 3),
    }


def _print_table(entries: Sequence[Entry]) -> None:
    print(f"{'run':58s} {'measured':>9s} {'predicted':>9s} {'error %':>8s} {'length':>6s} {'seconds':>7s}")
    for entry in sorted(entries, key=lambda e: e.error_pct):
        if entry.failure:
            print(f"{entry.name:58s} failed: {entry.failure}")
            continue
        print(
            f"{entry.name:58s} {entry.measured_bytes / 1e9:9.3f} {entry.predicted_bytes / 1e9:9.3f} "
            f"{entry.error_pct:+8.2f} {entry.length:6d} {entry.duration_s:7.1f}"
            + (f"  code changed since: {entry.changed}" if entry.changed else "")
        )


if __name__ == "__main__":
    sys.exit(main())
