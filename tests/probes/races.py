"""Entries, curves and plans for the tests of races, and a race that is driven to its end."""

from __future__ import annotations

from knowledge.schema import Curve, CurvePoint
from probes.racing.plan import Entry, RacePlan
from probes.racing.race import Race

TOTAL_STEPS = 100


def entry(method: str, rate: float = 1e-4, peak: int | None = 10, prior: float = 0.5, family: str = "f") -> Entry:
    return Entry(f"{method}@{rate:g}", method, family, rate, peak, prior)


def curve(*losses: float, every: int = 5) -> Curve:
    return Curve(points=tuple(CurvePoint(step=every * (i + 1), eval_loss=x) for i, x in enumerate(losses)))


def grid(methods: int, rates: int = 3, run_s: float = 100.0) -> tuple[list[Entry], dict[str, float]]:
    entries = [
        entry("lora" if m == 0 else f"m{m:02}", 10.0**-r, prior=1 - m / 100, family=f"family{m % 4}")
        for m in range(methods)
        for r in range(rates)
    ]
    return entries, {e.id: run_s for e in entries}


def plan(entries, fractions=(0.05, 0.1, 1.0), keep=(2, 1), reference_rungs=0) -> RacePlan:
    return RacePlan(tuple(entries), fractions, keep, reference_rungs=reference_rungs)


def drive(race: Race, losses: dict[str, float], failed: dict[str, str] | None = None) -> list[set[str]]:
    """Runs a race in which every candidate has a constant loss; returns who was trained at each rung."""
    observed: dict[str, Curve] = {}
    rungs = []
    while jobs := race.next_jobs(observed, failed or {}):
        rungs.append({job.id for job in jobs})
        for job in jobs:
            steps = round(job.until_fraction * TOTAL_STEPS)
            observed[job.id] = Curve(points=(CurvePoint(step=steps, eval_loss=losses[job.id]),))
    return rungs
