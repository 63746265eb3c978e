"""The plan of a race: which candidates enter and how far each rung goes, so that it ends within the budget.

The shape was chosen on replayed published curves (tests/benchmarks/selection.py): all to 5 % of the planned run, a
third of them to 10 %, a quarter to 20 %, an eighth as far as the budget reaches, to the end if it can. With
three learning rates per method a third is one rate of each. A small budget takes methods out before it shortens the
first rung, and shortens the first rung before it goes below six methods; a large one keeps more to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
) -> RacePlan:
    """The race that makes the most of `budget_s` seconds of wall time on `workers` workers.

    `run_s` is what the whole planned run would take per entry id, in seconds of one worker, `overhead_s` what each
    probe costs beside its steps. A budget that is too small for anything still gets one method to the shortest
    rung: an answer that took too long is better than none.
    """
    if not entries:
        raise ValueError("a race needs at least one entry")
    clock = _Clock(run_s, workers, overhead_s)
    order = probing_order({e.method: e.family for e in entries}, {e.method: e.prior for e in entries})
    plan = _first_rungs(entries, order, clock, budget_s)
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


def _first_rungs(entries: Sequence[Entry], order: Sequence[str], clock: _Clock, budget_s: float) -> RacePlan:
    """As many methods in the first rungs as the budget allows, and those rungs as long as it allows."""

    def build(methods: int, fraction: float) -> RacePlan:
        chosen = [e for name in order[:methods] for e in sorted(_of(entries, name), key=lambda e: e.learning_rate)]
        return _ladder(chosen, fraction)

    fewest = min(FEWEST_METHODS, len(order))
    for methods in range(len(order), fewest - 1, -1):
        if clock.wall_s(plan := build(methods, FIRST_FRACTION)) <= budget_s:
            return plan
    steps = [FIRST_FRACTION * (1 - i / 20) for i in range(20)]
    for fraction in (f for f in steps if f > SHORTEST_FRACTION):
        if clock.wall_s(plan := build(fewest, fraction)) <= budget_s:
            return plan
    for methods in range(fewest, 0, -1):
        if clock.wall_s(plan := build(methods, SHORTEST_FRACTION)) <= budget_s:
            break
    return plan


def _ladder(entries: Sequence[Entry], first_fraction: float) -> RacePlan:
    methods = len({e.method for e in entries})
    keep = [min(methods, max(FEWEST_KEPT, round(share * len(entries)))) for share in KEPT_SHARES]
    fractions = [growth * first_fraction for growth in RUNG_GROWTH]
    return RacePlan(tuple(entries), tuple(fractions), tuple(keep[:-1]), reference_rungs=len(RUNG_GROWTH))


def _spend_the_rest(plan: RacePlan, clock: _Clock, budget_s: float) -> RacePlan:
    """What is left goes to the finalists: further, then with the reference, then more of them."""

    def affordable(longer: RacePlan) -> bool:
        return clock.wall_s(longer) <= budget_s

    methods = len({e.method for e in plan.entries})
    finalists = min(methods, max(FEWEST_KEPT, round(KEPT_SHARES[-1] * len(plan.entries))))
    reached = plan.fractions[-1]

    def stretched(fraction: float) -> RacePlan:
        return replace(plan, fractions=(*plan.fractions, fraction), keep=(*plan.keep, finalists))

    targets = [1 - i * (1 - reached) / 100 for i in range(100)]
    last = next((f for f in targets if affordable(stretched(f))), reached)
    if last < WORTHWHILE_STRETCH * reached:
        return plan
    plan = stretched(last)
    if last == 1:
        if affordable(with_reference := replace(plan, reference_rungs=len(plan.fractions))):
            plan = with_reference
        plan = _keep_more(plan, methods, affordable)
    return plan


def _keep_more(plan: RacePlan, methods: int, affordable: Callable[[RacePlan], bool]) -> RacePlan:
    """Lets more candidates go on, the last rung first, one at a time while the budget lasts."""
    grown = True
    while grown:
        grown = False
        for rung in reversed(range(len(plan.keep))):
            limit = plan.keep[rung - 1] if rung else methods
            if plan.keep[rung] >= limit:
                continue
            keep = (*plan.keep[:rung], plan.keep[rung] + 1, *plan.keep[rung + 1 :])
            if affordable(larger := replace(plan, keep=keep)):
                plan, grown = larger, True
                break
    return plan


def _of(entries: Sequence[Entry], method: str) -> list[Entry]:
    return [e for e in entries if e.method == method]
