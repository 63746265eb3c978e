"""What terminal and page both say of a result."""

from __future__ import annotations

from advisor.report import content
from tests.advisor.factories import candidate, result


def test_little_is_not_told_as_nothing_and_one_is_not_told_as_several():
    made = result([candidate("lora", 0.5, 0.1, forgetting=-0.001, forgetting_share=0.003)])
    run = made.planned_run.model_copy(update={"max_steps": 1, "batch_size": 1})
    told = dict(content.headline(made.model_copy(update={"planned_run": run})))
    assert told["forgetting"] == "+0.00 nats per token on the base's own texts, under 1 % into the run"
    assert "1 step of 1 row on" in told["time"]
    assert "under 1 % of 24.0 GB" in told["memory"]


def test_on_a_processor_the_memory_told_is_that_of_a_gpu_beside_what_was_held():
    made = result([candidate("lora", 0.5, 0.126, probe_peak_bytes=602_000_000)])
    here = made.model_copy(update={"device": made.device.model_copy(update={"kind": "cpu"})})
    told = content.memory_line(here, here.pick)
    assert told == "126 MB at the peak, as on an NVIDIA GPU; here the probes' process held 602 MB"
    assert "NVIDIA" not in content.memory_line(made, made.pick).partition("(")[0]
