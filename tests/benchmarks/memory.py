"""How well peaks of published runs are predicted: python -m tests.benchmarks.memory --results DIR [--json]

DIR holds result files of PEFT's method comparison, on text or on image generation (which needs diffusers). For text
one number is unknown and fitted: the tokens of the longest batch. It is found leave-one-method-out: for each run by
the error of the others alone. For images nothing is fitted. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from packaging.version import Version

from advisor.forecast.conformal import error_bound
from knowledge.diffusion_models import known_diffusion_config
from knowledge.schema import PlannedRun

# Methods whose code changed after the runs, and the release from which on a dry run describes other code.
CODE_CHANGED = {"OSF": (Version("0.21"), "rewritten: it keeps less for the backward pass")}


class Case(Protocol):
    """What is predicted: a run's model and settings, and the lengths of its longest batch that come into question."""

    candidate_lengths: tuple[int, ...]
    config: Any
    run: PlannedRun
    hidden_size: int
    num_layers: int

    def predict(self, longest: int, *, evaluates: bool = True) -> int:
        """The peak in bytes if the longest batch has that many tokens, with or without the evaluations."""


@dataclass
class Entry:
    """One published run, its prediction at every candidate length, and the final one."""

    name: str
    method: str
    case: Case | None = None
    measured_bytes: int = 0
    trainable_parameters: int | None = None  # files of June 2025 do not tell it
    changed: str = ""
    by_length: dict[int, int] = field(default_factory=dict)
    length: int = 0
    predicted_bytes: int = 0
    duration_s: float = 0.0
    failure: str = ""
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
    files = [path for path in sorted(options.results.glob("*.json")) if options.only in path.name]
    if not files:
        parser.error(f"no result file (*.json) in {options.results}: give the folder that holds them, of one cohort")
    entries = [_prepared(path) for path in files]
    for entry in (e for e in entries if not e.failure):
        _trace_and_scan(entry)
    usable = [entry for entry in entries if not entry.failure]
    for entry in usable:
        assert entry.case is not None
        entry.length = _fitted_length(entry, usable)
        entry.predicted_bytes = entry.case.predict(entry.length)
    if not options.json:
        _print_table(entries)
    print(json.dumps(summarise(entries), sort_keys=False))
    return int(any(entry.failure for entry in entries))


def _prepared(path: Path) -> Entry:
    """What cannot be read fails under the name of its file, so that no run is left out in silence."""
    try:
        return _prepare(path)
    except (ValueError, LookupError, TypeError) as error:
        return Entry(
            name=path.stem, method="", failure=f"not a result that can be read: {type(error).__name__}: {error}"
        )


def _prepare(path: Path) -> Entry:
    content = json.loads(path.read_text(encoding="utf-8"))
    info, train = content["run_info"], content["train_info"]
    settings, peft_config = info["train_config"], info["peft_config"]
    name = info["experiment_name"]
    if train.get("status", "success") != "success":
        raise ValueError(f"the run ended with status {train['status']!r}")
    # Older files have the older name; both are of the memory that the caching allocator has reserved.
    measured_bytes = train.get("accelerator_memory_max") or train.get("cuda_memory_max")
    if not measured_bytes:
        raise ValueError("it tells no peak memory")
    entry = Entry(
        name=name,
        method=name.split("/")[0],
        case=_case(settings, peft_config, train),
        measured_bytes=measured_bytes,
        trainable_parameters=train.get("num_trainable_params"),
    )
    ran_with = Version(content["meta_info"]["package_info"]["peft-version"]).base_version
    if peft_config and peft_config["peft_type"] in CODE_CHANGED:
        since, what = CODE_CHANGED[peft_config["peft_type"]]
        entry.changed = what if Version(ran_with) < since <= _installed_peft() else ""
    return entry


def _case(settings: Mapping[str, Any], peft_config: Mapping[str, Any] | None, train: Mapping[str, Any]) -> Case:
    if known_diffusion_config(settings["model_id"]) is not None:
        from tests.benchmarks.memory_images import ImageCase

        return ImageCase(settings, peft_config, train)
    from tests.benchmarks.memory_text import TextCase

    return TextCase(settings, peft_config, train)


def _installed_peft() -> Version:
    import peft

    return Version(peft.__version__)


def _trace_and_scan(entry: Entry) -> None:
    """Predictions at all candidate lengths; what goes wrong is noted, so that no run is left out in silence."""
    case = entry.case
    assert case is not None
    started = time.process_time()
    try:
        case.predict(case.candidate_lengths[0])
        entry.duration_s = time.process_time() - started
        entry.by_length = {length: case.predict(length, evaluates=False) for length in case.candidate_lengths}
        from tests.benchmarks.memory_rivals import accelerate_estimate, formula

        entry.rivals = {"accelerate": accelerate_estimate(case.config, case.run)}
        if trained := entry.trainable_parameters:
            entry.rivals["formula"] = formula(case.config, case.run, trained, case.hidden_size, case.num_layers)
    except Exception as error:  # reported as a failure of this run
        entry.failure = f"{type(error).__name__}: {error}"
    print(f"{entry.name}: {entry.failure or f'{entry.duration_s:.1f} s'}", file=sys.stderr, flush=True)


def _fitted_length(entry: Entry, usable: Sequence[Entry]) -> int:
    """The candidate length with the least median error over the runs of other methods on the same data; over all of
    them where there is but one method, whose errors are then smaller than those of an estimate."""
    alike = [e for e in usable if e.by_length.keys() == entry.by_length.keys()]
    others = [e for e in alike if e.method != entry.method and not e.changed] or alike
    return min(
        others[0].by_length,
        key=lambda length: float(np.median([abs(e.by_length[length] / e.measured_bytes - 1) for e in others])),
    )


def summarise(entries: Sequence[Entry]) -> dict[str, Any]:
    """The figures of the JSON line. Errors are over the runs whose method's code is what it was."""
    from scipy.stats import spearmanr

    counted = [entry for entry in entries if not entry.failure and not entry.changed]
    summary: dict[str, Any] = {"n": len(counted), **_errors([abs(entry.error_pct) for entry in counted])}
    summary["interval"] = _interval(counted)
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
        off = [100 * abs(entry.rivals[rival] / entry.measured_bytes - 1) for entry in counted if rival in entry.rivals]
        summary[rival] = _errors(off)
    return summary


def _interval(entries: Sequence[Entry]) -> dict[str, float]:
    """The half-width in percent of the 80 % interval that the errors of all runs make, and how many peaks are inside
    of the one that the errors of the other methods make, where these are enough."""
    errors = {method: [e.error_pct for e in entries if e.method == method] for method in {e.method for e in entries}}
    inside = []
    for method, own in errors.items():
        bound = error_bound([error for other, of in errors.items() if other != method for error in of])
        inside += [abs(error) <= bound for error in own] if math.isfinite(bound) else []
    bound = error_bound([error for of in errors.values() for error in of])
    if not math.isfinite(bound) or not inside:
        return {}
    return {"half_width_pct": round(bound, 3), "inside": round(float(np.mean(inside)), 3)}


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
    for entry in sorted(entries, key=lambda e: 0.0 if e.failure else e.error_pct):
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
