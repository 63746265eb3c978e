"""Fits a race in progress to the time that is left, by the times that its probes took."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from probes.racing.evidence import Evidence
from probes.racing.journal import Journal
from probes.racing.observer import Observer
from probes.racing.pacing import (
    Pace,
    come_to_the_end_in_time,
    measured_pace,
    next_rung_in_time,
    rung_for_what_is_left,
    with_last_rung,
)
from probes.racing.plan import RacePlan, stop_step
from probes.racing.race import Race


@dataclass
class RaceClock:
    """Decides after each rung what of the plan can still be done, and what more.

    Each decision is made once, like the plan itself, from what the journal tells of the time that probes took: a race
    that is resumed ends as an undisturbed one. `deadline`, `probed_before_s` and `end_s` are those of the Conductor.
    """

    race: Race
    evidence: Evidence
    journal: Journal
    observer: Observer
    workers: int
    total_steps: int
    deadline: float
    probed_before_s: float
    end_s: float
    _made_by: str = field(init=False)

    def __post_init__(self) -> None:
        self._made_by = _identity(self.race.plan)

    def after_rungs(self, rungs: int, leaving: Collection[str] = ()) -> None:
        """Fits what follows the first `rungs` of the plan: a rung that measured times say cannot end is cut, and where
        the plan is through and time is left finalists go further. leaving: who does not go on, whatever its loss."""
        plan = self.race.plan
        if self._is_at_the_end(rungs):
            return
        so_far, is_through = plan.until(rungs), rungs == len(plan.fractions)

        def next_rung() -> tuple[float, int] | None:
            found = self._next_rung(rungs, is_through, leaving)
            is_further = found and self._end_of(found[0]) > self._end_of(so_far.fractions[-1])
            return found if is_further else None

        rung = self._decided(f"after {so_far.fractions} {so_far.keep}", next_rung)
        if rung and not is_through and tuple(rung) == (plan.fractions[rungs], plan.keep[rungs - 1]):
            return
        self.race.plan = with_last_rung(so_far, *rung, alive=self._going_on(leaving)) if rung else so_far
        if rung:
            self.observer.message(f"time is {'left' if is_through else 'short'}: {self.race.plan.lines()[-1]}")
        elif not is_through:
            self.observer.message("time is short: the next rung is left out")

    def who_comes_back(self, waiting: Sequence[str]) -> list[str]:
        """Which of those that wait, best first, come to the end of the run in the time that is left, once the race has
        come there itself."""
        if not waiting or not self._is_at_the_end(len(self.race.plan.fractions)):
            return []

        def in_time() -> list[str]:
            alone_s = {id: self._to_the_end_s(id) for id in waiting}
            return come_to_the_end_in_time(alone_s, self.workers, self._left_s())

        back = list(self._decided(f"who comes back after {self.race.plan.fractions} {self.race.plan.keep}", in_time))
        if back:
            self.race.plan = replace(self.race.plan, came_back=len(back))
            self.observer.message(f"time is left: {self.race.plan.lines()[-1]}")
        return back

    def _to_the_end_s(self, id: str) -> float:
        """By its own pace: methods differ threefold. Who left a race has trained, so that it has one."""
        pace = self._pace_of([id])
        return math.inf if pace is None else pace.to_the_end_s(self.evidence.done_step(id) / self.total_steps)

    def _decided(self, about: str, decide: Callable[[], Any]) -> Any:
        """What was decided about it, now or in an earlier call of the same race."""
        decided_for = f"{self._made_by} {about}"
        if decided_for not in self.journal.plans:
            self.journal.add_plan(decided_for, decide())
        return self.journal.plans[decided_for]

    def _next_rung(self, rungs: int, is_through: bool, leaving: Collection[str]) -> tuple[float, int] | None:
        """What can be run after so many rungs: the share of the run to which it goes, and how many methods go."""
        plan, pace = self.race.plan, self._pace_of(self.race.alive)
        if pace is None:  # nothing says that it cannot be done
            return None if is_through else (plan.fractions[rungs], plan.keep[rungs - 1])
        alive = self._going_on(leaving)
        if not is_through:
            return next_rung_in_time(plan, rungs, alive, pace, self._left_s())
        return rung_for_what_is_left(plan, alive, pace, self._left_s())

    def _pace_of(self, ids: Iterable[str]) -> Pace | None:
        records = (self.evidence.outcomes.get(id, ()) for id in ids)
        return measured_pace(records, self.total_steps, self.workers, self.end_s)

    def _left_s(self) -> float:
        spent_s = self.journal.probing_s - self.probed_before_s
        return min(self.race.plan.budget_s - spent_s, self.deadline - time.monotonic())

    def _going_on(self, leaving: Collection[str]) -> set[str]:
        """The methods of which a candidate may go on."""
        wanted = {id for id in self.race.alive if id not in leaving}
        return {entry.method for entry in self.race.plan.entries if entry.id in wanted}

    def _is_at_the_end(self, rungs: int) -> bool:
        return self._end_of(self.race.plan.fractions[rungs - 1]) == self.total_steps

    def _end_of(self, fraction: float) -> int:
        return stop_step(fraction, self.total_steps)


def _identity(plan: RacePlan) -> str:
    """Names a plan as it was made: what was decided in a race by another plan is not decided for this one."""
    made = repr(([entry.id for entry in plan.entries], plan.fractions, plan.keep, plan.budget_s))
    return hashlib.sha256(made.encode()).hexdigest()[:16]
