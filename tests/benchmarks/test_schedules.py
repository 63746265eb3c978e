"""The benchmark of schedules compares the same candidates, and only where both of their runs came to the end."""

from __future__ import annotations

import math

from knowledge.schema import Curve, CurvePoint
from tests.advisor.factories import candidate, result
from tests.benchmarks.schedules import lines, told

STEPS = 600  # of factories.result's planned run


def run_to(end_loss: float, name: str, last_step: int = STEPS):
    """A candidate whose loss falls from 2 to `end_loss`, and of whose rows more are right the lower it is."""
    shares = [share for share in (0.05, 0.1, 0.2, 0.5, 1.0) if share * STEPS <= last_step]
    points = [
        CurvePoint(
            step=round(share * STEPS), eval_loss=(loss := 2 * (end_loss / 2) ** math.sqrt(share)), metric=1 / (1 + loss)
        )
        for share in shares
    ]
    return candidate(name, curve=Curve(points=tuple(points), metric_name="exact match"))


def race(*ends: float):
    done = [run_to(end, name) for end, name in zip(ends, ("lora", "oft", "ia3"), strict=False)]
    return result([*done, run_to(0.4, "vera", last_step=STEPS // 2)])


def test_what_came_to_its_end_is_told_from_its_beginning_alone():
    found = told(race(1.0, 1.2, 0.9), 0.1)
    assert {name for name, _ in found} == {"lora", "oft", "ia3"}
    assert found["lora", 1e-4].end_loss == 1.0 and 0 < abs(found["lora", 1e-4].log_error) < 1


def test_candidates_count_that_ended_with_both_schedules():
    table = list(lines({"cosine": [race(1.0, 1.2)], "linear": [race(0.5, 0.7, 0.9)]}))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:]]
    assert [row[:4] for row in rows] == [
        ["linear", "10%", "2", "0.60"],
        ["cosine, the same", "10%", "2", "1.10"],
        ["linear", "20%", "2", "0.60"],
        ["cosine, the same", "20%", "2", "1.10"],
    ]
