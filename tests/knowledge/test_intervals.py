"""Intervals of few values."""

from __future__ import annotations

import pytest
from scipy.stats import t

from knowledge.intervals import Z_80, student_80


@pytest.mark.parametrize("degrees_of_freedom", [1, 2, 10, 11, 15, 63, 199])
def test_few_values_are_told_as_widely_as_their_spread_leaves_open(degrees_of_freedom):
    assert student_80(degrees_of_freedom) == pytest.approx(t.ppf(0.9, degrees_of_freedom), abs=0.01)
    assert student_80(degrees_of_freedom) > Z_80
