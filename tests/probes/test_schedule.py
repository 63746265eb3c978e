"""The learning rate over a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.schema import Schedule

schedules = st.builds(
    Schedule,
    shape=st.sampled_from(["cosine", "linear", "constant"]),
    total_steps=st.integers(1, 400),
    warmup_steps=st.integers(0, 50),
    decay_steps=st.integers(0, 50),
)


@given(schedules, st.integers(0, 399))
def test_the_factor_stays_between_zero_and_one(schedule, step):
    assert 0.0 <= schedule.factor(min(step, schedule.total_steps - 1)) <= 1.0


def test_cosine_rises_to_the_peak_and_falls_to_almost_nothing():
    schedule = Schedule(shape="cosine", total_steps=100, warmup_steps=10)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1.0
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] < 0.001


def test_a_decayed_branch_is_constant_until_its_last_steps():
    schedule = Schedule(shape="constant", total_steps=20, decay_steps=4)
    factors = [schedule.factor(step) for step in range(20)]
    assert factors[:16] == [1.0] * 16
    assert factors[16:] == pytest.approx([0.8, 0.6, 0.4, 0.2])
