"""Plans a race: which candidates enter and how far each rung goes, so that it ends within the budget.

The shape was chosen on replayed published curves (tests/benchmarks/selection.py): all to 5 % of the planned run, a
third of them to 10 %, a quarter to 20 %, an eighth as far as the budget reaches, to the end if it can; of very many
no more than of LARGEST_FIELD. With three learning rates per method a third is one rate of each. Where an eighth would
not come to half of the run fewer are kept after each rung, for losses order the last few only from there on. A small
budget does without a choice of learning rates, then takes methods out before it shortens the first rung. One that is
too small for three rungs of six methods compares as many in a single one. A large one keeps more to the end, and one
that has room for all methods there two learning rates of each.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from knowledge.prior import REFERENCE, probing_order
from probes.racing.plan import Entry, RacePlan

FIRST_FRACTION = 0.05
SHORTEST_FRACTION = 0.01  # below that a loss says nothing about the end of the run
RUNG_GROWTH = (1, 2, 4)  # the first rungs, as multiples of the first
KEPT_SHARES = (1 / 3, 1 / 4, 1 / 8)  # of all that entered, after each of them
# Among the 25 best of 63 published runs the rank correlation of loss and final accuracy is .62 at 20 % of the run, .65
# at 30, .75 at 45 and .87 at 55, and no more than that later. At a tenth of the sweep's cost six, three and two of 24,
# with the two at 45 %, lose .0062 in accuracy, where eight, six and three, with the three at 26 %, lose .0072.
NARROW_SHARES = (1 / 4, 1 / 8, 1 / 12)
NEARLY_THE_END = 0.99  # of the run, for probes that have no time left for what is measured at its end
FINALISTS_FAR_ENOUGH = 0.5  # of the run: finalists that come to it leave room for more of them
WORTH_NARROWING = 1.5  # as far as the first rungs: finalists that do not come to that, however few, stay many
WIDTHS = 10  # tried between the two
HALVINGS = 30  # of what lies between a length of a rung that the budget allows and one that it does not
FEWEST_KEPT = 2  # a comparison needs two
# Of 55 published runs, 18, 14 and 7 kept lose .0004 in accuracy at 8 % of the sweep's cost: larger fields need no more.
LARGEST_FIELD = 64
FEWEST_METHODS = 6  # below that, breadth is worth more than a longer first rung
# Where a budget does not allow so many in three rungs, three rungs of fewer lose what is left out: of three to five
# published runs, with a tenth of the sweep's cost as budget, .009 to .074 in accuracy, all in a single rung .004 to
# .006; of four to eight of the study's candidates, with 6 %, .07 to .09 nats, in a single rung .02.
SINGLE_FRACTION = 0.1  # a single rung takes methods out before it is shorter, down to FEWEST_METHODS
# A race that settles learning rates before they can be told apart (RacePlan.rates_settled) chooses worse than the
# catalogue does: with about a planned run as budget it ends .09 to .16 nats above the best, with each method at its
# usual rate .03 to .05 (examples/study). Of 63 published settings twelve that go to half of the run lose .024 in
# accuracy, six .042: that many enter with their rates, or none.
METHODS_WORTH_RATES = 12
HARDLY_LONGER = 1.1  # than one method alone: what several may take where even that is more than the budget
WORTHWHILE_STRETCH = 1.25  # a last rung that reaches less further than that is left out


def plan_race(
    entries: Sequence[Entry],
    run_s: Mapping[str, float],
    budget_s: float,
    workers: int = 1,
    overhead_s: float = 0.0,
    reference: str = REFERENCE,
    shortest_fraction: float = SHORTEST_FRACTION,
    end_s: float = 0.0,
    midpoint_s: float = 0.0,
    warmup_fraction: float = 0.0,
) -> RacePlan:
    """The race that makes the most of `budget_s` seconds of wall time on `workers` workers.

    `run_s` is what the whole planned run would take per entry id, in seconds of one worker, `overhead_s` what each
    probe costs beside its steps, `end_s` what one costs besides that comes to the end of the run, `midpoint_s` what is
    measured half way where there is a single rung, `reference` the method that stays for comparison, and
    `warmup_fraction` the share of the run in which its learning rate rises. No rung is shorter than `shortest_fraction`
    of the run (a quarter of it at most, so that three rungs have room). Where even that exceeds the budget, one method
    is probed so far, with those that other workers can probe at the same time: an answer that took too long is better
    than none.
    """
    if not entries:
        raise ValueError("a race needs at least one entry")
    shortest_fraction = min(shortest_fraction, 1 / RUNG_GROWTH[-1])
    clock = _Clock(run_s, workers, overhead_s, end_s, midpoint_s)
    planner = _Planner(clock, budget_s, reference, shortest_fraction, warmup_fraction)
    plan = planner.best(entries)
    needed = [entry for entry in entries if not entry.spare]
    # On the study's curves (examples/study/race.py) spare rates pay from where the finalists reach the end in any case.
    if plan.fractions[-1] < 1 and 0 < len(needed) < len(entries):
        plan = planner.best(needed)
    with_usual = {entry.method for entry in needed if entry.usual}
    usual = [entry for entry in needed if entry.usual or entry.method not in with_usual]
    if plan.has_rates and len(usual) < len(needed):
        at_usual = replace(planner.best(usual), rates_left_out=True)
        if not plan.compares_rates:
            plan = planner.with_rates(needed) or at_usual
        elif len(plan.methods) < min(FEWEST_METHODS, len(at_usual.methods)):
            plan = at_usual
    not_tried = {e.id: "the budget does not reach it" for e in entries if e.method not in plan.methods}
    return replace(plan, not_tried=not_tried, expected_s=planner.clock.wall_s(plan), budget_s=budget_s)


@dataclass(frozen=True)
class _Clock:
    run_s: Mapping[str, float]
    workers: int
    overhead_s: float
    end_s: float = 0.0
    midpoint_s: float = 0.0

    def wall_s(self, plan: RacePlan) -> float:
        """Expected wall time. Who survives is not known yet, so later rungs cost as the average entry."""
        costs = [self.run_s[e.id] for e in plan.entries]
        mean, longest = sum(costs) / len(costs), max(costs)
        methods = Counter(e.method for e in plan.entries)
        with_rates = sum(rates > 1 for rates in methods.values())
        total, done = 0.0, 0.0
        for rung, fraction in enumerate(plan.fractions):
            count = len(plan.entries)
            if rung:  # each method has one candidate left, or two
                extra = plan.reference in methods and rung < plan.reference_rungs
                count = min(len(methods), plan.keep[rung - 1] + extra)
                if plan.keeps_two_rates(rung - 1):
                    count += min(count, with_rates)
            stretch, done = fraction - done, fraction
            measuring_s = self.overhead_s + (self.end_s if fraction >= 1 else 0.0)
            measuring_s += self.midpoint_s if len(plan.fractions) == 1 else 0.0
            work = count * (mean * stretch + measuring_s)
            slowest = (longest if rung == 0 else mean) * stretch + measuring_s
            total += max(work / self.workers, slowest)
        return total


@dataclass(frozen=True)
class _Planner:
    """Plans races within a budget. A width says how many a race keeps, see `_kept`."""

    clock: _Clock
    budget_s: float
    reference: str
    shortest_fraction: float
    warmup_fraction: float

    def best(self, entries: Sequence[Entry]) -> RacePlan:
        """As many methods and rungs as the budget allows; a single rung where that is no field in several."""
        return self._in_rungs(entries) or self._in_one_rung(entries)

    def _in_rungs(self, entries: Sequence[Entry]) -> RacePlan | None:
        """As wide as it can be with finalists that come far."""
        wide = plan = self._of_width(entries, 1.0)
        for step in range(1, WIDTHS + 1):
            if plan is None or plan.fractions[-1] >= FINALISTS_FAR_ENOUGH:
                return plan
            plan = self._of_width(entries, 1 - step / WIDTHS)
        is_worth_it = plan and plan.fractions[-1] >= WORTH_NARROWING * RUNG_GROWTH[-1] * plan.fractions[0]
        return plan if is_worth_it else wide

    def with_rates(self, entries: Sequence[Entry]) -> RacePlan | None:
        """The most methods, at least METHODS_WORTH_RATES, of which finalists come far enough for their rates to be told
        apart; None where the budget does not allow so many."""
        order = _order(entries)
        counts = range(len(order) - 1, METHODS_WORTH_RATES - 1, -1)

        def of(count: int) -> RacePlan:
            return self.best([entry for entry in entries if entry.method in order[:count]])

        def comes_far(count: int) -> bool:
            plan = of(count)
            return plan.compares_rates and plan.fractions[-1] >= FINALISTS_FAR_ENOUGH

        first = bisect_left(counts, True, key=comes_far)
        return of(counts[first]) if first < len(counts) else None

    def _affords(self, plan: RacePlan) -> bool:
        return self.clock.wall_s(plan) <= self.budget_s

    def _longest(self, shortest: float, plan_of: Callable[[float], RacePlan]) -> RacePlan | None:
        """The plan with the longest rung, above the shortest one, that the budget allows; None where it allows none."""
        for length in (1.0, NEARLY_THE_END):
            if length > shortest and self._affords(plan := plan_of(length)):
                return plan
        found, allowed, too_long = None, shortest, NEARLY_THE_END
        for _ in range(HALVINGS):
            length = math.sqrt(allowed * too_long)
            if self._affords(plan := plan_of(length)):
                found, allowed = plan, length
            else:
                too_long = length
        return found

    def _of_width(self, entries: Sequence[Entry], width: float) -> RacePlan | None:
        """As many methods and rungs as the budget allows to a race that keeps so many; None where it does not allow
        FEWEST_METHODS, or all."""
        one, two = (self._first_rungs(entries, two_rates, width) for two_rates in (False, True))
        if one is None:
            return None
        # Breadth and a long first rung are worth more than second rates.
        plan = two if two and (len(two.entries), two.fractions) >= (len(one.entries), one.fractions) else one
        return self._spend_the_rest(plan, width)

    def _first_rungs(self, entries: Sequence[Entry], two_rates: bool, width: float) -> RacePlan | None:
        order, first = _order(entries), max(FIRST_FRACTION, self.shortest_fraction)
        for methods in range(len(order), min(FEWEST_METHODS, len(order)) - 1, -1):
            rungs = tuple(growth * first for growth in RUNG_GROWTH)
            if self._affords(plan := self._entered(entries, order[:methods], rungs, width, two_rates)):
                return plan
        return None

    def _in_one_rung(self, entries: Sequence[Entry]) -> RacePlan:
        """As many as come to SINGLE_FRACTION, or as FEWEST_METHODS, and that as far as the budget allows."""
        order, shortest = _order(entries), self.shortest_fraction
        fewest = min(FEWEST_METHODS, len(order))

        def of(methods: int, fraction: float) -> RacePlan:
            return self._entered(entries, order[:methods], (fraction,))

        fields = [(methods, max(SINGLE_FRACTION, shortest)) for methods in range(len(order), fewest - 1, -1)]
        fields += [(methods, shortest) for methods in range(fewest, 0, -1)]
        for methods, fraction in fields:
            if self._affords(plan := of(methods, fraction)):
                return self._longest(fraction, lambda longer, methods=methods: of(methods, longer)) or plan
        limit_s = HARDLY_LONGER * self.clock.wall_s(of(1, shortest))
        several = (of(methods, shortest) for methods in range(min(fewest, self.clock.workers), 0, -1))
        return next(plan for plan in several if self.clock.wall_s(plan) <= limit_s)

    def _entered(
        self,
        entries: Sequence[Entry],
        methods: Sequence[str],
        fractions: tuple[float, ...],
        width: float = 1.0,
        two_rates: bool = True,
    ) -> RacePlan:
        """The plan of these rungs for all rates of these methods."""
        place = {name: number for number, name in enumerate(methods)}
        chosen = [entry for entry in entries if entry.method in place]
        # A first rung that is cut off has seen as many methods as it can, each where it is likely to be good.
        chosen.sort(key=lambda e: (not e.usual, place[e.method], e.learning_rate))
        return RacePlan(
            entries=tuple(chosen),
            fractions=fractions,
            keep=_kept(chosen, width)[: len(fractions) - 1],
            reference=self.reference,
            reference_rungs=len(fractions),
            two_rates=two_rates,
            warmup_fraction=self.warmup_fraction,
        )

    def _spend_the_rest(self, plan: RacePlan, width: float) -> RacePlan:
        """What is left goes to the finalists: further, to the end with the reference, then to more in each rung, and
        where all methods go to the end, to a second rate of each there."""
        reached = plan.fractions[-1]

        def stretched(fraction: float) -> RacePlan:
            return replace(plan, fractions=(*plan.fractions, fraction), keep=_kept(plan.entries, width))

        if reached >= 1:
            return plan
        further = self._longest(reached, stretched)
        if further is None or further.fractions[-1] < min(1.0, WORTHWHILE_STRETCH * reached):
            return plan
        plan = further
        if plan.fractions[-1] < 1 or not self._affords(
            with_reference := replace(plan, reference_rungs=len(plan.fractions))
        ):
            return plan
        widths = [width + i / 10 for i in range(round(10 / min(KEPT_SHARES)))]
        wider = [replace(with_reference, keep=_kept(plan.entries, width)) for width in widths]
        widest = max((w for w in wider if self._affords(w)), key=lambda w: w.keep)
        with_rates = replace(widest, rates_to_the_end=True)
        return with_rates if widest.keep[-1] == len(widest.methods) and self._affords(with_rates) else widest


def _kept(entries: Sequence[Entry], width: float) -> tuple[int, ...]:
    """How many go on after each rung, at most one of each method: NARROW_SHARES for a width of 0, KEPT_SHARES for 1,
    multiples of them beyond."""
    methods, field_size = len({e.method for e in entries}), min(len(entries), LARGEST_FIELD)
    shares = [
        width * wide if width >= 1 else narrow + width * (wide - narrow)
        for wide, narrow in zip(KEPT_SHARES, NARROW_SHARES, strict=True)
    ]
    return tuple(min(methods, max(FEWEST_KEPT, round(share * field_size))) for share in shares)


def _order(entries: Sequence[Entry]) -> list[str]:
    """Their methods, in the order in which they deserve a probe; what is measured for comparison alone comes after a
    field of others."""
    order = probing_order({e.method: e.family for e in entries}, {e.method: e.prior for e in entries})
    for_comparison = {e.method for e in entries if e.reference_only}
    first = [method for method in order if method not in for_comparison][:FEWEST_METHODS]
    return first + [method for method in order if method not in first]
