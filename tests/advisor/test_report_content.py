"""What terminal and page both say of a result."""

from __future__ import annotations

from advisor.report import content
from tests.advisor.factories import candidate, result


def test_on_a_processor_the_memory_told_is_that_of_a_gpu_beside_what_was_held():
    made = result([candidate("lora", 0.5, 0.126, probe_peak_bytes=602_000_000)])
    here = made.model_copy(update={"device": made.device.model_copy(update={"kind": "cpu"})})
    told = content.memory_line(here, here.pick)
    assert told == "126 MB at the peak, as on an NVIDIA GPU; here the probes' process held 602 MB"
    assert "NVIDIA" not in content.memory_line(made, made.pick).partition("(")[0]
