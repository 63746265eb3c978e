"""The first worker that is ready tells the baseline; none that can start is an error in words."""

import time

import pytest

from probes.baseline import WorkerFailed, await_baseline
from probes.executors.base import Event
from probes.schema import Baseline
from tests.probes.conducting import FakeExecutor


def test_workers_that_cannot_start_are_an_error_with_their_words():
    class Broken(FakeExecutor):
        def events(self, timeout_s):
            yield Event(0, fatal="no such model")

    with pytest.raises(WorkerFailed, match="no such model"):
        await_baseline(Broken())


def test_the_first_baseline_is_taken_and_what_it_waits_for_is_told():
    class Ready(FakeExecutor):
        def events(self, timeout_s):
            yield Event(0, waiting="the place is taken")
            yield Event(1, baseline=Baseline(eval_loss=2.0, metric=0.1, load_s=1, eval_s=1, eval_tokens=5))

    said = []
    assert await_baseline(Ready(), said.append).eval_loss == 2.0
    assert said == ["the place is taken"]


def test_a_model_that_is_never_loaded_is_not_waited_for_beyond_twice_the_budget():
    class Silent(FakeExecutor):
        def events(self, timeout_s):
            yield from ()

    with pytest.raises(WorkerFailed, match="larger --budget"):
        await_baseline(Silent(), until=time.monotonic() + 0.01)
