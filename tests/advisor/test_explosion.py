"""When a training that goes wrong for good is ended."""

from __future__ import annotations

from advisor.explosion import FACTOR, WINDOW_STEPS, ExplosionWatch


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
