"""When a training that goes wrong for good is ended."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from advisor.exporters.base import recommended
from advisor.forecast.explosion import FACTOR, WINDOW_STEPS, ExplosionWatch
from advisor.training.train import _diverged
from tests.advisor.factories import candidate, result


class TestExplosion:
    def losses(self, watch, values):
        return [reason for value in values if (reason := watch.exploded(value))]

    def test_a_loss_twice_as_high_as_at_the_beginning_for_a_whole_window_ends_the_run(self):
        watch = ExplosionWatch(untuned_loss=2.0)
        assert self.losses(watch, [2.0] * WINDOW_STEPS) == []
        assert self.losses(watch, [FACTOR * 2.0 * 1.1] * (WINDOW_STEPS // 2)) == []  # not yet
        assert "began at 2" in self.losses(watch, [FACTOR * 2.0 * 1.1] * WINDOW_STEPS)[0]

    def test_a_start_from_a_damaged_model_is_no_explosion(self):
        falling = [9.0 - 0.1 * step for step in range(60)]
        assert self.losses(ExplosionWatch(untuned_loss=2.0), falling) == []

    def test_a_single_peak_is_none_either(self):
        assert self.losses(ExplosionWatch(2.0), [2.0] * 30 + [30.0] + [2.0] * 30) == []


@pytest.mark.parametrize(("status", "is_named"), [("eliminated", True), ("not tried", False)])
def test_of_lower_rates_one_that_was_probed_is_named(status, is_named):
    lower = candidate("lora", 0.3 if is_named else None, learning_rate=3e-4, status=status)
    made = result([candidate("lora", 0.5, title="LoRA", learning_rate=1e-3), lower])
    words = str(_diverged(SimpleNamespace(facts=recommended(made)), "training loss is nan at step 70"))
    assert "It needs a lower learning rate than 1e-3." in words
    assert ("was also probed at 3e-4" in words) == is_named
