"""How long a run takes, and how sure that is: learned from the halves of what a race has trained."""

from __future__ import annotations

import math

import pytest

from advisor.forecast.run_time import time_bound, time_interval
from knowledge.schema import Curve, CurvePoint
from tests.advisor.test_judge_reports import job, judged, raced

REACHED = {"lora": 60, "oft": 60, "ia3": 12, "vera": 12}  # steps of 60


def timed(*elapsed_s, step=10):
    """Evaluated after every `step` steps."""
    points = (CurvePoint(step=step * i, elapsed_s=s) for i, s in enumerate(elapsed_s, start=1))
    return Curve(points=tuple(points))


def test_second_halves_say_how_far_off_first_ones_are():
    steady, slower, faster = timed(10.0, 20.0), timed(10.0, 22.0), timed(10.0, 18.0)
    assert time_bound([steady] * 4) == 0
    assert time_bound([steady] * 3 + [slower]) == pytest.approx(math.log(1.2))
    assert time_bound([slower, slower, slower, faster]) == pytest.approx(-math.log(0.8))


def test_the_middle_is_the_point_that_lies_nearest_to_it():
    warmed_up = timed(30.0, 40.0, 50.0, 60.0, 70.0)  # of 50 steps; 20 were done after 40 s, 30 after 50
    assert time_bound([warmed_up] * 4) == pytest.approx(-math.log((30 / 30) / (40 / 20)))


def test_where_few_went_on_the_halves_of_their_first_halves_count_as_well():
    went_on = timed(10.0, 22.0, 33.0, 44.0)  # the second half takes as long as the first; there 1.2 times as long
    assert time_bound([went_on] * 2) == pytest.approx(math.log(1.2))
    assert time_bound([went_on] * 4) == pytest.approx(0.0)
    assert math.isinf(time_bound([went_on]))


@pytest.mark.parametrize(
    "untold",
    [
        Curve(),
        timed(10.0),
        timed(None, 20.0),
        timed(10.0, 8.0),  # began anew, and was faster
    ],
)
def test_too_few_that_were_timed_twice_tell_no_interval(untold):
    assert math.isinf(time_bound([timed(10.0, 20.0)] * 3 + [untold]))
    assert time_interval(100.0, math.inf, 0.1) is None


def test_the_interval_reaches_down_to_what_is_left_on_a_device_of_its_own():
    assert time_interval(100.0, 0.0, 0.2) == (100.0, 100.0)
    assert time_interval(100.0, 0.0, 0.2, speed_up=4.0) == (pytest.approx(40.0), 100.0)
    assert time_interval(100.0, 0.0, 1.0, speed_up=4.0) == (100.0, 100.0)
    assert time_interval(100.0, math.log(1.25), 0.5) == (pytest.approx(80.0), pytest.approx(125.0))


def test_a_report_tells_the_interval_of_its_run_by_the_curves_of_the_race():
    race = [(raced(name), [job(steps, train_s=2.0 * steps)]) for name, steps in REACHED.items()]
    ranges = [report.planned_run_range_s for report in judged(*race)]  # the curves were timed evenly
    assert ranges == [pytest.approx((120.0, 120.0))] * 4
    assert [report.planned_run_range_s for report in judged(race[0])] == [None]
