"""The targets hold on their seeds and on random changes of these; the fuzzer proper is run by hand (`make fuzz`)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@each_target
def test_a_target_holds_on_its_seeds(target):
    seeds = target.seeds()
    assert len(seeds) > 2
    for seed in seeds:
        target.run(seed)


@each_target
@settings(max_examples=60)
@given(draw=st.data())
def test_a_target_holds_on_changed_seeds(target, draw):
    changed = bytearray(draw.draw(st.sampled_from(target.seeds())))
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(changed)))
        changed[place : place + draw.draw(st.integers(0, 8))] = draw.draw(st.binary(max_size=8))
    target.run(bytes(changed))
