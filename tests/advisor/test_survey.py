"""The run that the user plans, as it is raced and handed over."""

from __future__ import annotations

import pytest

from advisor.request import make_request
from advisor.survey import plan
from tests.advisor.factories import device


@pytest.mark.parametrize(
    ("asked", "scheduler", "warmup_steps"),
    [
        ({}, "cosine", 12),
        ({"scheduler": "linear", "warmup_fraction": 0.1}, "linear", 40),
        ({"scheduler": "constant", "warmup_fraction": 0}, "constant", 0),
    ],
)
def test_the_schedule_is_the_one_that_is_asked_for(asked, scheduler, warmup_steps):
    request = make_request(model="m", data="d.jsonl", max_steps=400, **asked)
    run = plan(request, "causal-lm", None, device(), 512)
    assert (run.scheduler, run.warmup_steps) == (scheduler, warmup_steps)
