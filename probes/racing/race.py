"""Who is probed for how long. Policy only: it sees curves and decides; what trains them is of no interest here.

A race goes over rungs. At each rung every candidate still in it is trained to the same share of the planned run; then
each method keeps its best learning rate (early in the run also the next lower one, which may still overtake it), the
best methods by loss go on, and with every fourth place one near the frontier of loss and memory, for the best trade-off
is not always the lowest loss. The plan (probes/racing/planner.py) says how many.

Replayed on 63 published curves, ranking by the plain loss at equal steps chooses better than losses or accuracies
predicted from it; tests/benchmarks/selection.py has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from knowledge.schema import Curve, CurvePoint
from probes.racing.plan import Entry, RacePlan

RECENT_SHARE = 0.1  # the last tenth of the steps done counts as "now"
FRONTIER_SLACK = 1  # near the frontier: at most this many others have less loss and need no more memory
LEFT_FOR_ANOTHER_RATE = "learning rate"  # how the reason begins
LEFT_ITS_PLACE = "measured for comparison: it left its place to a method that can be recommended"
FRONTIER_EVERY = 4  # this place and its multiples go to the frontier, the others to the lowest loss

Score = Callable[[Curve, Entry], float]


@dataclass(frozen=True)
class Job:
    """Train this entry until this share of the planned run."""

    id: str
    until_fraction: float


@dataclass(frozen=True)
class RungDecision:
    """What happened after a rung: who had entered it, who goes on (best first), who left and why."""

    rung: int
    fraction: float
    entered: tuple[str, ...]
    kept: tuple[str, ...]
    left: Mapping[str, str] = field(default_factory=dict)
    beaten: tuple[str, ...] = ()
    """Who left for being behind alone, best first."""


def recent_loss(curve: Curve, entry: Entry) -> float:
    """The mean held-out loss of the last tenth of the steps done (train loss where none is held out), in nats per
    token; infinite where nothing was measured."""
    for name in ("eval_loss", "train_loss"):
        known = [p for p in curve.points if getattr(p, name) is not None]
        if known:
            recent = [getattr(p, name) for p in known if p.step > known[-1].step * (1 - RECENT_SHARE)]
            return sum(recent) / len(recent)
    return math.inf


class Race:
    """The course of one race: ask for the next jobs, have them done, ask again until there are none.

    `score(curve, entry)` ranks, lower is better; a score that is not finite takes its candidate out. All candidates
    of a rung are compared at equal steps, those that were trained further by an earlier, interrupted race too.
    The outcome depends on the plan and the curves alone; equal scores are decided by the candidate's id. As long as its
    last rung is not settled, `plan` may be replaced by one with further rungs.
    """

    def __init__(self, plan: RacePlan, score: Score = recent_loss) -> None:
        self.plan = plan
        self.decisions: list[RungDecision] = []
        self._entries = {entry.id: entry for entry in plan.entries}
        self._alive = [entry.id for entry in plan.entries]
        self._score = score
        self._started = False
        self._over = False

    @property
    def alive(self) -> tuple[str, ...]:
        """Who is in the rung that runs, or was run last."""
        return tuple(self._alive)

    @property
    def beaten(self) -> tuple[str, ...]:
        """Who left for being behind, in the order in which it is worthwhile to know how they end: the reference, if no
        rate of it is left, for every pick is compared with it; then the last to leave first, and last what is measured
        for comparison alone."""
        left = [id for decision in reversed(self.decisions) for id in decision.beaten]
        of_reference = [id for id in (*self._alive, *left) if self._entries[id].method == self.plan.reference]
        return tuple(sorted(left, key=lambda id: (self._entries[id].reference_only, id not in of_reference[:1])))

    @property
    def finalists(self) -> tuple[str, ...]:
        """Who was kept at the last decision, best first; everybody where none was made."""
        return self.decisions[-1].kept if self.decisions else tuple(self._alive)

    def next_jobs(self, observed: Mapping[str, Curve], failed: Mapping[str, str]) -> list[Job]:
        """Settles the rung that was just run and returns the jobs of the next one; none when the race is over.

        `observed` holds the curves so far, `failed` the reasons of candidates that cannot go on, both by id.
        """
        if self._over:
            return []
        if self._started:
            self._settle(observed, failed)
        self._started = True
        rung = len(self.decisions)
        self._over = rung == len(self.plan.fractions) or not self._alive
        if self._over:
            return []
        return [Job(id, self.plan.fractions[rung]) for id in self._alive if id not in failed]

    def _settle(self, observed: Mapping[str, Curve], failed: Mapping[str, str]) -> None:
        rung, entered = len(self.decisions), tuple(self._alive)
        left = {id: failed[id] for id in entered if id in failed}
        curves = _at_equal_steps({id: observed.get(id, Curve()) for id in entered if id not in left})
        scores = {id: self._score(curve, self._entries[id]) for id, curve in curves.items()}
        left |= {id: "no finite loss" for id, score in scores.items() if not math.isfinite(score)}
        ranking = sorted((id for id in scores if id not in left), key=lambda id: (scores[id], id))
        is_last = rung + 1 == len(self.plan.fractions)
        chosen = set(ranking if is_last else self._choose(rung, ranking, scores))
        beaten = tuple(id for id in ranking if id not in chosen)
        left |= {id: self._why_left(id, ranking, scores, curves) for id in beaten}
        kept = tuple(id for id in ranking if id in chosen)
        self.decisions.append(RungDecision(rung, self.plan.fractions[rung], entered, kept, left, beaten))
        self._alive = list(kept)  # the best first: where time runs out on the way, they have gone further

    def _choose(self, rung: int, ranking: Sequence[str], scores: Mapping[str, float]) -> list[str]:
        """Who goes on: methods by their best rates, most by loss and some for being near the frontier; those that are
        measured for comparison alone where there is place for all others."""
        of_methods = self._best_rates(ranking)
        for_comparison = [id for id in of_methods if self._entries[id].reference_only]
        best = [id for id in of_methods if id not in for_comparison]
        near = sorted(best, key=lambda id: (self._beaten_by(id, best, scores), scores[id], id))
        near = [id for id in near if self._beaten_by(id, best, scores) <= FRONTIER_SLACK]
        chosen = [*_interleave(best, near), *for_comparison][: self.plan.keep[rung]]
        if rung + 1 < self.plan.reference_rungs:
            chosen += [id for id in best if self._entries[id].method == self.plan.reference and id not in chosen]
        if self.plan.keeps_two_rates(rung):
            chosen += [lower for id in chosen if (lower := self._next_lower_rate(id, ranking))]
        return chosen

    def _next_lower_rate(self, id: str, ranking: Sequence[str]) -> str | None:
        """The candidate of the same method with the next lower learning rate, if it is still there."""
        entry = self._entries[id]
        same = [i for i in ranking if self._entries[i].method == entry.method]
        lower = [i for i in same if self._entries[i].learning_rate < entry.learning_rate]
        return max(lower, key=lambda i: self._entries[i].learning_rate, default=None)

    def _best_rates(self, ranking: Sequence[str]) -> list[str]:
        """The first of each method in the ranking."""
        seen: dict[str, str] = {}
        for id in ranking:
            seen.setdefault(self._entries[id].method, id)
        return list(seen.values())

    def _beaten_by(self, id: str, others: Iterable[str], scores: Mapping[str, float]) -> int:
        """How many of `others` have less loss and need no more memory; what is unknown needs most."""
        memory = _memory(self._entries[id])
        return sum(scores[o] < scores[id] and _memory(self._entries[o]) <= memory for o in others)

    def _why_left(
        self, id: str, ranking: Sequence[str], scores: Mapping[str, float], curves: Mapping[str, Curve]
    ) -> str:
        entry, steps = self._entries[id], curves[id].last_step
        better = self._entries[next(i for i in self._best_rates(ranking) if self._entries[i].method == entry.method)]
        if better.id != id:
            found = f"{scores[better.id]:.3f} against {scores[id]:.3f}"
            return f"{LEFT_FOR_ANOTHER_RATE} {better.learning_rate:g} does better: {found} at step {steps}"
        if entry.reference_only:
            return LEFT_ITS_PLACE
        leader = ranking[0]
        behind = scores[id] - scores[leader]
        distance = f"{behind:.3f} behind" if round(behind, 3) else "no better than"
        reason = f"{distance} {self._entries[leader].title or self._entries[leader].method} at step {steps}"
        catches_up = fall_per_doubling(curves[id]) - fall_per_doubling(curves[leader]) > behind
        return reason + (", but falling faster: not converged within the budget" if catches_up else "")


def fall_per_doubling(curve: Curve) -> float:
    """By how much the loss fell per doubling of the steps over the last two points; zero where that is unknown."""
    for name in ("eval_loss", "train_loss"):
        known = [(p.step, getattr(p, name)) for p in curve.points if getattr(p, name) is not None and p.step > 0]
        if len(known) >= 2:
            (earlier, high), (later, low) = known[-2:]
            return (high - low) / math.log2(later / earlier) if later > earlier else 0.0
    return 0.0


def at_step(curve: Curve, step: int) -> Curve:
    """The curve up to `step` with a loss at it, as far as it went there. Between two points losses are straight in the
    log of the steps; of a candidate that an earlier race, with other rungs, measured only later its first loss counts.
    """
    seen, later = curve.until(step), next((p for p in curve.points if p.step > step), None)
    if later is None or seen.last_step == step:
        return seen
    earlier = seen.points[-1] if seen.last_step else later  # the log of step 0 is no place on the line
    share = math.log(step / earlier.step) / math.log(later.step / earlier.step) if seen.last_step else 0.0
    point = CurvePoint(
        step=step,
        train_loss=_between(earlier.train_loss, later.train_loss, share),
        eval_loss=_between(earlier.eval_loss, later.eval_loss, share),
    )
    return seen.model_copy(update={"points": (*seen.points, point)})


def _between(earlier: float | None, later: float | None, share: float) -> float | None:
    return None if earlier is None or later is None else earlier + share * (later - earlier)


def _at_equal_steps(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """All curves cut to the shortest one that has any point."""
    shared = min((curve.last_step for curve in curves.values() if curve.points), default=0)
    return {id: curve.until(shared) for id, curve in curves.items()}


def _memory(entry: Entry) -> float:
    return math.inf if entry.predicted_peak_bytes is None else entry.predicted_peak_bytes


def _interleave(by_loss: Sequence[str], near_frontier: Sequence[str]) -> list[str]:
    """All of `by_loss`, in this order but for every FRONTIER_EVERY-th place, which goes to the first of
    `near_frontier` (a part of `by_loss`) that is not there yet."""
    waiting, order = list(by_loss), []
    while waiting:
        for_frontier = (len(order) + 1) % FRONTIER_EVERY == 0
        next_id = next((id for id in near_frontier if id in waiting), None) if for_frontier else None
        order.append(next_id or waiting[0])
        waiting.remove(order[-1])
    return order
