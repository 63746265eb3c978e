"""How well a probe ranks candidates by the outcome of their full runs.

A candidate is a method at a learning rate; its score under a probe is the held-out loss at the probe's end, lower is
better. A run that diverged counts as the untuned model: that is what one is left with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from examples.study.records import StudyResult
from examples.study.schedules import DECAYED_PART, FRACTIONS, rung

PROTOCOLS = ("prefix", "short", "branch")
SETS, RESAMPLES = 1000, 500
Probe = tuple[str, float]
"""A protocol and its length in parts of the full run."""


@dataclass(frozen=True)
class Comparison:
    """The candidates of one task with seed 0; all arrays are of shape (candidates,)."""

    task: str
    methods: np.ndarray
    rates: np.ndarray
    final_loss: np.ndarray
    final_metric: np.ndarray
    probe_loss: dict[Probe, np.ndarray] = field(repr=False)

    def __len__(self) -> int:
        return len(self.methods)

    @property
    def protocols(self) -> tuple[str, ...]:
        """Those whose probes were run; the prefix is part of every planned run."""
        return tuple(dict.fromkeys(protocol for protocol, _ in self.probe_loss))

    def at(self, index: np.ndarray) -> Comparison:
        """The candidates at these positions, which may repeat."""
        return Comparison(
            self.task,
            self.methods[index],
            self.rates[index],
            self.final_loss[index],
            self.final_metric[index],
            {probe: loss[index] for probe, loss in self.probe_loss.items()},
        )


@dataclass(frozen=True)
class Score:
    """What one probe is worth; means over tasks where there are several. Losses in nats."""

    cost: float
    """In full runs per candidate, where this probe is the only one."""
    race_cost: float
    """The same for a race that looks at every rung up to this one."""
    spearman: float
    low: float
    high: float
    """Interval of 80 % over which methods happened to be compared."""
    best_share: float
    """Share of these resamples in which no protocol of this length ranks better."""
    regret_loss: float
    """Final loss of the pick above that of the best, mean over random halves of the candidates."""
    regret_metric: float
    rate_regret: float
    """Final loss above the method's best when the probe picks its learning rate, mean over methods."""
    rate_bias: float
    """log10 of the picked over the best learning rate, mean over methods: above zero, the probe prefers higher ones."""
    pair_change: float
    """By how much the difference of two candidates' log losses still changes until the end, 80 % quantile of pairs."""


def comparisons(results: Iterable[StudyResult]) -> list[Comparison]:
    """One for each task, in order of their first appearance."""
    by_task: dict[str, list[StudyResult]] = {}
    for result in results:
        if result.seed == 0:
            by_task.setdefault(result.task, []).append(result)
    return [_comparison(task, group) for task, group in by_task.items()]


def _comparison(task: str, results: Sequence[StudyResult]) -> Comparison:
    outcomes = [_outcome(result) for result in results]
    run = {"prefix", *(run.protocol for result in results for run in result.runs)}
    return Comparison(
        task=task,
        methods=np.array([r.method for r in results]),
        rates=np.array([r.learning_rate for r in results]),
        final_loss=np.array([loss for loss, _ in outcomes]),
        final_metric=np.array([metric for _, metric in outcomes]),
        probe_loss={
            (protocol, fraction): np.array([probe_loss(result, protocol, fraction) for result in results])
            for protocol in PROTOCOLS
            for fraction in FRACTIONS
            if protocol in run
        },
    )


def _outcome(result: StudyResult) -> tuple[float, float]:
    full = result.run("full", 1.0)
    if full is None or full.final_loss is None:
        return result.baseline_loss, result.baseline_metric or 0.0
    return full.final_loss, full.points[-1].metric or 0.0


def probe_loss(result: StudyResult, protocol: str, fraction: float) -> float:
    """Held-out loss at the end of a probe; infinite where it diverged."""
    if protocol == "prefix":
        step = rung(fraction, result.max_steps)
        full = result.run("full", 1.0)
        losses = [p.eval_loss for p in full.points if p.step == step] if full else []
        return losses[0] if losses else np.inf
    run = result.run(protocol, fraction)
    return np.inf if run is None or run.final_loss is None else run.final_loss


def _pair_change(task: Comparison, probe: Probe) -> float:
    usable = np.isfinite(task.probe_loss[probe]) & (task.probe_loss[probe] > 0)
    to_go = np.log(task.probe_loss[probe][usable]) - np.log(task.final_loss[usable])
    one, other = np.triu_indices(len(to_go), 1)
    if not len(one):
        return np.nan
    return float(np.quantile(abs(to_go[one] - to_go[other]), 0.8))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; nan where one side is constant. `x` may be infinite."""
    from scipy.stats import rankdata

    ranks = np.array([rankdata(x), rankdata(y)])
    return float(np.corrcoef(ranks)[0, 1]) if ranks.std(axis=1).all() else np.nan


def score(tasks: Sequence[Comparison]) -> dict[Probe, Score]:
    """Every protocol that all of the tasks have, at every length."""
    protocols = [protocol for protocol in PROTOCOLS if all(protocol in task.protocols for task in tasks)]
    draws = _resampled(tasks, protocols)
    scores = {}
    for fraction in FRACTIONS:
        best = np.fmax.reduce([draws[protocol, fraction] for protocol in protocols])
        for protocol in protocols:
            probe = protocol, fraction
            resampled = draws[probe]
            regrets = np.mean([_regrets(task, probe) for task in tasks], axis=0)
            rates = np.mean([_rate_choice(task, probe) for task in tasks], axis=0)
            scores[probe] = Score(
                cost=fraction,
                race_cost=_race_cost(protocol, fraction),
                spearman=float(np.mean([spearman(t.probe_loss[probe], t.final_loss) for t in tasks])),
                low=float(np.nanquantile(resampled, 0.1)),
                high=float(np.nanquantile(resampled, 0.9)),
                best_share=float(np.mean(resampled >= best - 1e-12)),
                regret_loss=float(regrets[0]),
                regret_metric=float(regrets[1]),
                rate_regret=float(rates[0]),
                rate_bias=float(rates[1]),
                pair_change=float(np.mean([_pair_change(task, probe) for task in tasks])),
            )
    return scores


def _race_cost(protocol: str, fraction: float) -> float:
    """Full runs per candidate that looks at every rung up to `fraction`: a prefix simply goes on, a short run starts
    anew at each rung, a trunk goes on while every branch is paid for."""
    rungs = [f for f in FRACTIONS if f <= fraction]
    return {
        "prefix": fraction,
        "short": sum(rungs),
        "branch": (1 - DECAYED_PART) * fraction + DECAYED_PART * sum(rungs),
    }[protocol]


def _resampled(tasks: Sequence[Comparison], protocols: Sequence[str]) -> dict[Probe, np.ndarray]:
    """Spearman of each probe, mean over tasks, shape (RESAMPLES,): methods drawn with replacement, with their rates."""
    random = np.random.default_rng(0)
    probes = [(protocol, fraction) for protocol in protocols for fraction in FRACTIONS]
    methods = sorted({m for task in tasks for m in task.methods})
    found: dict[Probe, list[float]] = {probe: [] for probe in probes}
    for _ in range(RESAMPLES):
        drawn = random.choice(methods, len(methods))
        parts = [task.at(np.concatenate([np.flatnonzero(task.methods == m) for m in drawn])) for task in tasks]
        for probe in probes:
            values = [spearman(p.probe_loss[probe], p.final_loss) for p in parts]
            found[probe].append(float(np.nanmean(values)) if not np.isnan(values).all() else np.nan)
    return {probe: np.array(values) for probe, values in found.items()}


def _regrets(task: Comparison, probe: Probe) -> tuple[float, float]:
    """Mean regret of the lowest probe loss in loss and in the metric, over random halves of the candidates."""
    random = np.random.default_rng(0)
    probed, size = task.probe_loss[probe], max(2, len(task) // 2)
    losses, metrics = [], []
    for _ in range(SETS):
        chosen = random.choice(len(task), size, replace=False)
        pick = chosen[np.argmin(probed[chosen])]
        losses.append(task.final_loss[pick] - task.final_loss[chosen].min())
        metrics.append(task.final_metric[chosen].max() - task.final_metric[pick])
    return float(np.mean(losses)), float(np.mean(metrics))


def _rate_choice(task: Comparison, probe: Probe) -> tuple[float, float]:
    """Regret and bias of the learning rates that the probe picks, mean over methods with at least three of them."""
    regrets, biases = [], []
    for method in np.unique(task.methods):
        (own,) = np.nonzero(task.methods == method)
        if len(own) < 3:
            continue
        best = own[np.argmin(task.final_loss[own])]
        pick = own[np.argmin(task.probe_loss[probe][own])]
        regrets.append(task.final_loss[pick] - task.final_loss[best])
        biases.append(np.log10(task.rates[pick] / task.rates[best]))
    return (float(np.mean(regrets)), float(np.mean(biases))) if regrets else (np.nan, np.nan)


def best_at_the_edge(task: Comparison) -> tuple[int, int]:
    """Of how many methods the highest rate is the best one, and how many methods there are (with three rates or more).
    There no probe can prefer a rate that is too high."""
    edge = total = 0
    for method in np.unique(task.methods):
        (own,) = np.nonzero(task.methods == method)
        if len(own) >= 3:
            total += 1
            edge += int(np.argmin(task.final_loss[own]) == np.argmax(task.rates[own]))
    return edge, total


def seed_noise(results: Iterable[StudyResult]) -> dict[str, tuple[float, float, int]]:
    """Per task the standard deviation of the final loss and of the metric between seeds, pooled over the repeated
    candidates, and its degrees of freedom."""
    groups: dict[tuple[str, str, float], list[tuple[float, float]]] = {}
    for result in results:
        full = result.run("full", 1.0)
        if full is not None and full.final_loss is not None:
            groups.setdefault((result.task, result.method, result.learning_rate), []).append(_outcome(result))
    noise = {}
    for task in dict.fromkeys(task for task, _, _ in groups):
        repeated = [np.array(g) for (of, _, _), g in groups.items() if of == task and len(g) > 1]
        freedom = sum(len(g) - 1 for g in repeated)
        if freedom:
            squares = sum(((g - g.mean(axis=0)) ** 2).sum(axis=0) for g in repeated)
            loss, metric = np.sqrt(squares / freedom)
            noise[task] = float(loss), float(metric), freedom
    return noise
