"""What the benchmark table says about methods before anything is measured.

Its use is to choose what to probe first and to give a clearly labelled answer where nothing can be probed. It is weak
evidence about another task: method ranks correlate only by about .2 to .4 between benchmarks, so scores of other
tasks count little, methods seen once are drawn towards the middle, and the interval says how far ranks have moved.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, combinations
from statistics import fmean, median

import numpy as np

from knowledge.schema import OWN, RunRecord, Task
from knowledge.table import by_benchmark, by_measure

NEUTRAL = 0.5  # the middle rank: what is expected of a method that nobody has compared
OTHER_TASK_WEIGHT = 0.3  # about the rank correlation between benchmarks of different tasks
SAME_SUITE_WEIGHT = 5.0  # the user's own runs of this very model and data: of ranks that differ by re-runs alone
MANY_METHODS = 10  # so many finished runs of the user's on another task say as much as a published comparison
NEUTRAL_WEIGHT = 0.3  # pseudo-count of the neutral score, so that one lucky benchmark does not decide
REPEAT_DISCOUNT = 0.1  # score that a candidate loses per candidate of its family already chosen
REFERENCE = "lora"  # what nearly everyone uses: it is in every race, and every pick is measured against it


@dataclass(frozen=True)
class MethodPrior:
    """What is known of a method from the table alone.

    `score` is the share of the compared methods that it beats (0 to 1), with an 80 % interval for a new benchmark.
    `relative_memory` and `relative_time` are ratios to LoRA's peak bytes and training time, medians over benchmarks.
    `knows_task` says whether the user's own runs of the very model and data are part of the score.
    """

    method: str
    score: float
    low: float
    high: float
    benchmarks: tuple[str, ...] = ()
    relative_memory: float | None = None
    relative_time: float | None = None
    knows_task: bool = False
    own_learning_rate: float | None = None
    """Of the best of the user's own runs of the very model and data."""


def method_priors(records: Iterable[RunRecord], task: Task, suite: str | None = None) -> dict[str, MethodPrior]:
    """The prior of every method in the table for a task, best first (ties by name). `suite` names the user's own runs
    of the very model and data, where there are any."""
    records = [r for r in records if r.method is not None and r.metric is not None]
    suites: dict[tuple[str, Task], list[RunRecord]] = {}
    for record in records:
        if record.is_compared:
            suites.setdefault((suite_of(record), record.task), []).append(record)
    ranks = {key: rank for key, runs in suites.items() if (rank := _ranks(runs))}
    raced = {key for key, runs in suites.items() if any(run.source == OWN for run in runs)}
    compared = {key: min(1.0, len(ranks[key]) / MANY_METHODS) for key in raced & ranks.keys()}
    below, above = _transfer(list(ranks.values()))
    memory = _relative_to_reference(records, "peak_bytes")
    time = _relative_to_reference(records, "train_s")
    own = sorted(_in_usual_metric([r for r in records if suite_of(r) == suite]), key=lambda r: r.metric)
    own_rates = {r.method: r.learning_rate for r in own}  # the best comes last
    priors = []
    for method in {r.method for r in records}:
        seen = {key: rank[method] for key, rank in ranks.items() if method in rank}
        # The user finished what a race had chosen among many: the worst of it is in the middle of all methods.
        seen |= {key: (1 + share) / 2 for key, share in seen.items() if key[0] == suite or key in raced}
        weights = [_weight(key, task, suite, compared.get(key, 1.0)) for key in seen]
        weighted = sum(w * s for w, s in zip(weights, seen.values(), strict=True))
        score = (weighted + NEUTRAL_WEIGHT * NEUTRAL) / (sum(weights) + NEUTRAL_WEIGHT)
        priors.append(
            MethodPrior(
                method=method,
                score=score,
                low=max(0.0, score - below),
                high=min(1.0, score + above),
                benchmarks=tuple(sorted({r.benchmark for r in records if r.method == method})),
                relative_memory=memory.get(method),
                relative_time=time.get(method),
                knows_task=any(name == suite for name, _ in seen),
                own_learning_rate=own_rates.get(method),
            )
        )
    return {prior.method: prior for prior in sorted(priors, key=lambda p: (-p.score, p.method))}


def probing_order(families: Mapping[str, str], scores: Mapping[str, float]) -> list[str]:
    """The methods of `families` (method -> family) in the order in which they deserve a probe.

    LoRA comes first: every recommendation is compared with it. Then by score (NEUTRAL where there is none), where
    each candidate loses a little for every one of its family already chosen, so that a small budget still spans the
    families.
    """
    waiting, order = set(families), []
    if REFERENCE in waiting:
        order.append(REFERENCE)
        waiting.remove(REFERENCE)

    def worth(method: str) -> float:
        of_family = sum(families[chosen] == families[method] for chosen in order)
        return scores.get(method, NEUTRAL) - REPEAT_DISCOUNT * of_family

    while waiting:
        best = min(waiting, key=lambda method: (-worth(method), method))
        order.append(best)
        waiting.remove(best)
    return order


def suite_of(record: RunRecord) -> str:
    """What re-runs of one experiment have in common."""
    return suite_of_benchmark(record.benchmark)


def suite_of_benchmark(name: str) -> str:
    """The name of a benchmark without the software era that ends it."""
    return name.rpartition("/")[0] or name


def without_repeats(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Of runs that differ in nothing but when they were made, the last: the same run again, with the same seed and
    judged by the same metric, is no further evidence."""
    latest: dict[tuple[str, ...], RunRecord] = {}
    for run in runs:
        key = run.benchmark, run.experiment, run.metric_name, _settings(run)
        if key not in latest or latest[key].created_at < run.created_at:
            latest[key] = run
    return list(latest.values())


def in_one_era(runs: Iterable[RunRecord], benchmark: str) -> list[RunRecord]:
    """The runs of a benchmark and of the other software eras of its suite, with metrics as that benchmark would
    have them: less the median difference, in the same metric, over the experiments that are in both (none in both: as
    they are). An experiment that was run several times counts with its mean."""
    suite = suite_of_benchmark(benchmark)
    eras = by_measure(run for run in runs if run.metric is not None and suite_of(run) == suite)
    aligned = []
    for (_, metric_name), era in eras.items():
        own, other = (_by_experiment(made) for made in (eras.get((benchmark, metric_name), []), era))
        differences = [other[experiment] - own[experiment] for experiment in own.keys() & other.keys()]
        offset = median(differences) if differences else 0.0
        aligned += [r.model_copy(update={"metric": r.metric - offset}) for r in era]
    return aligned


def _by_experiment(runs: Iterable[RunRecord]) -> dict[str, float]:
    """The mean metric of each experiment."""
    metrics: dict[str, list[float]] = {}
    for run in runs:
        metrics.setdefault(run.experiment, []).append(run.metric)
    return {experiment: fmean(values) for experiment, values in metrics.items()}


def _weight(benchmark: tuple[str, Task], task: Task, suite: str | None, compared: float) -> float:
    """compared: how much of a comparison of methods the benchmark is, 1 for a full one."""
    if benchmark[0] == suite:
        return SAME_SUITE_WEIGHT
    return compared * (1.0 if benchmark[1] == task else OTHER_TASK_WEIGHT)


def _ranks(runs: list[RunRecord]) -> dict[str, float]:
    """Each method's share of beaten methods, by its best settings, with the eras of the suite brought together, in the
    metric that most of its runs have; empty where there is nothing to compare with. Settings that were run with several
    seeds count with their mean: the best of three seeds would be compared with others' only one."""
    eras = by_benchmark(_in_usual_metric(runs))
    repeats: dict[tuple[str, str], list[float]] = {}
    for run in in_one_era(chain(*eras.values()), max(eras, key=lambda name: len(eras[name]))):
        repeats.setdefault((run.method, _settings(run)), []).append(run.metric)
    best: dict[str, float] = {}
    for (method, _), metrics in repeats.items():
        best[method] = max(fmean(metrics), best.get(method, -np.inf))
    if len(best) == 1:
        return {}
    values = np.array(sorted(best.values()))
    rank = {v: np.flatnonzero(values == v).mean() for v in values}
    return {method: float(rank[value] / (len(best) - 1)) for method, value in best.items()}


def _in_usual_metric(runs: list[RunRecord]) -> list[RunRecord]:
    """Those with the metric that most have: values of others are not comparable. Where no answer was right, a race is
    judged by single tokens, of which even a bad rate has many."""
    metrics = Counter(run.metric_name for run in runs)
    usual = max(metrics, key=lambda name: (metrics[name], str(name)), default=None)
    return [run for run in runs if run.metric_name == usual]


def _settings(run: RunRecord) -> str:
    """What runs that differ in their seed alone have in common."""
    settings = {"learning_rate": run.learning_rate, "peft_config": dict(run.peft_config)}
    return json.dumps(settings, sort_keys=True, default=str)


def _transfer(ranks: list[dict[str, float]]) -> tuple[float, float]:
    """How far a method's rank lies below and above its rank on another suite: 10 % and 90 % quantiles."""
    moves = []
    for one, other in combinations(ranks, 2):
        differences = [one[m] - other[m] for m in sorted(one.keys() & other.keys())]
        moves += differences + [-d for d in differences]
    if len(moves) < 10:  # no two suites share enough methods: anything is possible
        return 1.0, 1.0
    low, high = np.quantile(moves, [0.1, 0.9])
    return float(max(0.0, -low)), float(max(0.0, high))


def _relative_to_reference(records: list[RunRecord], field: str) -> dict[str, float]:
    """Per method, the median over benchmarks, on one device each, of its cost divided by LoRA's there (means over their
    runs)."""
    ratios: dict[str, list[float]] = {}
    places: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        places.setdefault((record.benchmark, record.device), []).append(record)
    for runs in places.values():
        costs: dict[str, list[float]] = {}
        for run in runs:
            if getattr(run, field):
                costs.setdefault(run.method, []).append(getattr(run, field))
        if REFERENCE not in costs:
            continue
        reference = fmean(costs[REFERENCE])
        for method, values in costs.items():
            ratios.setdefault(method, []).append(fmean(values) / reference)
    return {method: median(values) for method, values in ratios.items()}
