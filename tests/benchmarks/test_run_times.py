"""The time of published runs, told from their beginnings by the product's own code."""

from __future__ import annotations

from tests.benchmarks.run_times import measure, timed_benchmarks


def test_a_tenth_of_a_run_on_a_gpu_tells_its_time_within_an_interval_that_holds_and_is_narrow():
    by_benchmark = timed_benchmarks()
    text = [runs for name, runs in by_benchmark.items() if name.startswith("metamathqa")]
    assert len(text) == 3
    for runs in text:
        figures = measure(runs, 0.1)
        assert figures["error"] < 0.01
        assert figures["inside"] > 0.8
        assert figures["half_width"] < 0.02


def test_a_beginning_that_was_timed_once_tells_no_interval():
    (images,) = (runs for name, runs in timed_benchmarks().items() if name.startswith("image"))
    assert measure(images, 0.2) is None
    assert measure(images, 0.5)["inside"] > 0.8
