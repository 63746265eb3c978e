"""What a race in progress can still do in the time that is left, by the times that its probes took.

Before a race its costs are only estimated: a rung may turn out to be too long, or time may be left when the plan is
through, and what finalists are measured at needs no prediction.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapreplace

from probes.racing.plan import RacePlan
from probes.racing.planner import FEWEST_KEPT, NEARLY_THE_END, WORTHWHILE_STRETCH
from probes.schema import ProbeOutcome

# Times vary from step to step and from candidate to candidate: of four rungs that were fitted to all of the time that
# was left, in `make demo` and tests/benchmarks/trials.py, each was cut off before its slowest probe had ended.
FITTED_TO = 0.85  # of that time


@dataclass(frozen=True)
class Pace:
    """Seconds of one worker: for the steps of a whole planned run, and for what a probe costs beside its steps."""

    run_s: float
    overhead_s: float
    workers: int = 1
    end_s: float = 0.0
    """What is measured at the end of the planned run alone."""
    again: float = 0.0
    """Share of the candidates that begin anew in every rung, for they leave no checkpoint (probes/checkpoint.py)."""

    def begin(self, reached: float) -> float:
        """The share of the run from which candidates that have come to `reached` go on, on average."""
        return reached * (1 - self.again)

    def wall_s(self, probes: int, begin: float, end: float) -> float:
        """What so many probes from one share of the run to another take, where every worker has as many as any
        other."""
        measuring_s = self.overhead_s + (self.end_s if end >= 1 else 0.0)
        return math.ceil(probes / self.workers) * (measuring_s + self.run_s * (end - begin))

    def to_the_end_s(self, reached: float) -> float:
        """What one candidate takes from a share of the run to its end."""
        return self.overhead_s + self.end_s + self.run_s * (1 - self.begin(reached))

    def reach(self, probes: int, begin: float, left_s: float, limit: float = 1.0) -> float:
        """The share of the run to which so many probes come from another in `left_s` seconds of wall time, `limit` at
        most; below `begin` if none."""
        if self.wall_s(probes, begin, limit) <= left_s:
            return limit
        further = (left_s / math.ceil(probes / self.workers) - self.overhead_s) / self.run_s
        return min(begin + further, limit, NEARLY_THE_END)


def measured_pace(
    records: Iterable[Sequence[ProbeOutcome]], total_steps: int, workers: int, end_s: float = 0.0
) -> Pace | None:
    """By the last job of each candidate that trained, from all its outcomes; None where none did. Jobs that failed,
    such as one whose worker was lost, left nothing that another goes on from. No job has come to the end of the run."""
    step_s, overhead_s, again = [], [], []
    for outcomes in records:
        trained = [i for i, o in enumerate(outcomes) if o.last_step > o.first_step]
        if not trained:
            continue
        last = outcomes[trained[-1]]
        earlier = [o for o in outcomes[: trained[-1]] if o.status == "finished"]
        # One that goes on from a checkpoint goes on counting.
        train_s = last.train_s - next((o.train_s for o in earlier if o.last_step == last.first_step), 0.0)
        if not 0 < train_s <= last.duration_s:
            train_s = last.duration_s
        if last.left_checkpoint is not None:
            again.append(not last.left_checkpoint)
        elif earlier:
            again.append(not last.first_step)
        step_s.append(train_s / (last.last_step - last.first_step))
        overhead_s.append(last.duration_s - train_s)
    if not sum(step_s):
        return None
    return Pace(
        sum(step_s) / len(step_s) * total_steps,
        sum(overhead_s) / len(overhead_s),
        workers,
        end_s,
        sum(again) / len(again) if again else 0.0,
    )


def rung_for_what_is_left(
    plan: RacePlan, alive: Collection[str], pace: Pace, left_s: float
) -> tuple[float, int] | None:
    """One more rung, as `with_last_rung` takes it, for a race that is through with its plan and has `left_s` seconds of
    wall time left: as many of the methods that are `alive` as can go to the end of the planned run, else the fewest as
    far as they come with some time to spare. None where that is not worthwhile."""
    reached = plan.fractions[-1]
    if reached >= 1 or not alive:
        return None
    fewest, begin = min(FEWEST_KEPT, len(alive)), pace.begin(reached)
    counts = range(len(alive), fewest - 1, -1)
    count = next((n for n in counts if pace.wall_s(_probes(plan, n, alive), begin, 1.0) <= left_s), None)
    fraction = 1.0 if count else pace.reach(_probes(plan, fewest, alive), begin, FITTED_TO * left_s)
    if fraction < min(1.0, WORTHWHILE_STRETCH * reached):  # the end is always worthwhile: it needs no prediction
        return None
    return fraction, count or fewest


def next_rung_in_time(
    plan: RacePlan, rungs: int, alive: Collection[str], pace: Pace, left_s: float
) -> tuple[float, int] | None:
    """The rung that follows the first `rungs` of a plan, as `with_last_rung` takes it, for the methods that are
    `alive`: as planned where `left_s` seconds of wall time are enough, else shorter, with some time to spare, and then
    narrower. None where nothing of it is worthwhile."""
    done, planned = plan.until(rungs), plan.fractions[rungs]
    reached, wide = done.fractions[-1], plan.keep[rungs - 1]
    begin = pace.begin(reached)
    as_planned = _probes(done, wide, alive, with_reference=rungs < plan.reference_rungs)
    if not alive or pace.wall_s(as_planned, begin, planned) <= left_s:
        return planned, wide
    for count in range(wide, min(FEWEST_KEPT, wide) - 1, -1):
        fraction = pace.reach(_probes(done, count, alive), begin, FITTED_TO * left_s, planned)
        if fraction >= min(planned, WORTHWHILE_STRETCH * reached):
            return fraction, count
    return None


def come_to_the_end_in_time(alone_s: Mapping[str, float], workers: int, left_s: float) -> list[str]:
    """Those of the candidates, each of which takes so long to the end of the run (`Pace.to_the_end_s`), that come to it
    in `left_s` seconds of wall time, with some to spare. The first ones come first; one that has no time any more does
    not keep a faster one from coming."""
    found: list[str] = []
    workers_s = [0.0] * workers  # until when each has work
    for id, seconds in alone_s.items():
        if workers_s[0] + seconds <= FITTED_TO * left_s:
            heapreplace(workers_s, workers_s[0] + seconds)
            found.append(id)
    return found


def with_last_rung(plan: RacePlan, fraction: float, keep: int, alive: Collection[str]) -> RacePlan:
    """One more rung in which `keep` of the methods that are `alive`, and the reference if it is, go on to `fraction` of
    the run."""
    longer = replace(plan, fractions=(*plan.fractions, fraction), keep=(*plan.keep, keep))
    return replace(longer, reference_rungs=len(longer.fractions)) if plan.reference in alive else longer


def _probes(plan: RacePlan, methods: int, alive: Collection[str], with_reference: bool = True) -> int:
    """How many go on after the last rung of a plan, if so many of the methods that are there do; the reference may not
    be among them."""
    rates = 2 if plan.keeps_two_rates(len(plan.fractions) - 1) else 1
    return min(len(alive), methods + (with_reference and plan.reference in alive)) * rates
