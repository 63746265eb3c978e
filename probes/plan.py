"""The plan of a race: which candidates enter and how far each rung goes, so that it ends within the budget.

The shape was chosen on replayed published curves (tests/benchmarks/selection.py): all to 5 % of the planned run, a
third of them to 10 %, a quarter to 20 %, an eighth as far as the budget reaches, to the end if it can. With
three learning rates per method a third is one rate of each. A small budget takes methods out before it shortens the
first rung, and shortens the first rung before it goes below six methods; a large one keeps more to the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from knowledge.prior import REFERENCE, probing_order

FIRST_FRACTION = 0.05
SHORTEST_FRACTION = 0.01  # below that a loss says nothing about the end of the run
RUNG_GROWTH = (1, 2, 4)  # the first rungs, as multiples of the first
KEPT_SHARES = (1 / 3, 1 / 4, 1 / 8)  # of all that entered, after each of them
FEWEST_KEPT = 2  # a comparison needs two
FEWEST_METHODS = 6  # below that, breadth is worth more than a longer first rung
WORTHWHILE_STRETCH = 1.25  # a last rung that reaches less further than that is left out


@dataclass(frozen=True)
class Entry:
    """A candidate as the race sees it. Entries of one `method` differ in their learning rate only."""

    id: str
    method: str
    family: str
    learning_rate: float
    predicted_peak_bytes: int | None
    prior: float


@dataclass(frozen=True)
class RacePlan:
    """Who enters, and how the race goes. `keep[i]` candidates go on after rung i; there is one less than rungs.

    The reference method's best candidate takes part in the first `reference_rungs` rungs in addition, however it
    does, since every recommendation is compared with it. `fractions` are shares of the planned run.
    """

    entries: tuple[Entry, ...]
    fractions: tuple[float, ...]
    keep: tuple[int, ...]
    not_tried: Mapping[str, str] = field(default_factory=dict)
    reference: str = REFERENCE
    reference_rungs: int = 0
    expected_s: float = 0.0

    def lines(self) -> list[str]:
        """The plan in words, one line per rung."""
        methods = len({entry.method for entry in self.entries})
        lines = [f"{len(self.entries)} candidates ({methods} methods) to {self.fractions[0]:.1%} of the run"]
        for count, fraction in zip(self.keep, self.fractions[1:], strict=True):
            lines.append(f"the best {count} to {fraction:.1%}")
        return lines


def plan_race(
    entries: Sequence[Entry],
    run_s: Mapping[str, float],
    budget_s: float,
    workers: int = 1,
    overhead_s: float = 0.0,
    reference: str = REFERENCE,
    shortest_fraction: float = SHORTEST_FRACTION,
) -> RacePlan:
    """The race that makes the most of `budget_s` seconds of wall time on `workers` workers.

    `run_s` is what the whole planned run would take per entry id, in seconds of one worker, `overhead_s` what each
    probe costs beside its steps, `reference` the method that stays for comparison. No rung is shorter than
    `shortest_fraction` of the run (a quarter of it at most, so that three rungs have room). A budget that is too
    small for anything still gets one method that far: an answer that took too long is better than none.
    """
    if not entries:
        raise ValueError("a race needs at least one entry")
    clock = _Clock(run_s, workers, overhead_s)
    order = probing_order({e.method: e.family for e in entries}, {e.method: e.prior for e in entries})
    plan = _first_rungs(entries, order, clock, budget_s, reference, min(shortest_fraction, 1 / RUNG_GROWTH[-1]))
    plan = _spend_the_rest(plan, clock, budget_s)
    entered = {e.id for e in plan.entries}
    not_tried = {e.id: "the budget does not reach it" for e in entries if e.id not in entered}
    return replace(plan, not_tried=not_tried, expected_s=clock.wall_s(plan))


@dataclass(frozen=True)
class _Clock:
    run_s: Mapping[str, float]
    workers: int
    overhead_s: float

    def wall_s(self, plan: RacePlan) -> float:
        """Expected wall time. Who survives is not known yet, so later rungs cost as the average entry."""
        costs = [self.run_s[e.id] for e in plan.entries]
        mean, longest = sum(costs) / len(costs), max(costs)
        methods = {e.method for e in plan.entries}
        total, done = 0.0, 0.0
        for rung, fraction in enumerate(plan.fractions):
            count = len(plan.entries)
            if rung:  # each method has one candidate left
                extra = plan.reference in methods and rung < plan.reference_rungs
                count = min(len(methods), plan.keep[rung - 1] + extra)
            stretch, done = fraction - done, fraction
            work = count * (mean * stretch + self.overhead_s)
            slowest = (longest if rung == 0 else mean) * stretch + self.overhead_s
            total += max(work / self.workers, slowest)
        return total


def _first_rungs(
    entries: Sequence[Entry],
    order: Sequence[str],
    clock: _Clock,
    budget_s: float,
    reference: str,
    shortest_fraction: float,
) -> RacePlan:
    """As many methods in the first rungs as the budget allows, and those rungs as long as it allows."""

    def build(methods: int, fraction: float) -> RacePlan:
        chosen = [e for name in order[:methods] for e in sorted(_of(entries, name), key=lambda e: e.learning_rate)]
        return replace(_ladder(chosen, fraction), reference=reference)

    fewest, first = min(FEWEST_METHODS, len(order)), max(FIRST_FRACTION, shortest_fraction)
    for methods in range(len(order), fewest - 1, -1):
        if clock.wall_s(plan := build(methods, first)) <= budget_s:
            return plan
    steps = [first * (1 - i / 20) for i in range(20)]
    for fraction in (f for f in steps if f > shortest_fraction):
        if clock.wall_s(plan := build(fewest, fraction)) <= budget_s:
            return plan
    for methods in range(fewest, 0, -1):
        if clock.wall_s(plan := build(methods, shortest_fraction)) <= budget_s:
            break
    return plan


def _ladder(entries: Sequence[Entry], first_fraction: float) -> RacePlan:
    fractions = tuple(growth * first_fraction for growth in RUNG_GROWTH)
    return RacePlan(tuple(entries), fractions, _kept(entries)[:-1], reference_rungs=len(RUNG_GROWTH))


def _kept(entries: Sequence[Entry], scale: float = 1.0) -> tuple[int, ...]:
    """How many go on after each rung, at most one of each method."""
    methods = len({e.method for e in entries})
    return tuple(min(methods, max(FEWEST_KEPT, round(scale * share * len(entries)))) for share in KEPT_SHARES)


def _spend_the_rest(plan: RacePlan, clock: _Clock, budget_s: float) -> RacePlan:
    """What is left goes to the finalists: further, to the end with the reference, and then to more in each rung."""

    def affordable(longer: RacePlan) -> bool:
        return clock.wall_s(longer) <= budget_s

    reached = plan.fractions[-1]

    def stretched(fraction: float) -> RacePlan:
        return replace(plan, fractions=(*plan.fractions, fraction), keep=_kept(plan.entries))

    targets = [1 - i * (1 - reached) / 100 for i in range(100)]
    last = next((f for f in targets if affordable(stretched(f))), reached)
    if last < WORTHWHILE_STRETCH * reached:
        return plan
    plan = stretched(last)
    if last < 1 or not affordable(with_reference := replace(plan, reference_rungs=len(plan.fractions))):
        return plan
    scales = [1 + i / 10 for i in range(round(10 / min(KEPT_SHARES)))]
    wider = [replace(with_reference, keep=_kept(plan.entries, scale)) for scale in scales]
    return max((w for w in wider if affordable(w)), key=lambda w: w.keep)


def _of(entries: Sequence[Entry], method: str) -> list[Entry]:
    return [e for e in entries if e.method == method]
