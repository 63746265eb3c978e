"""Cards before Ampere run in float16: there every method trains as in float32, or is refused with the reason."""

import pytest
import torch

from knowledge.methods import all_methods
from probes.shape import model_shape
from tests.probes.runs import Run
from tests.tiny import tiny_model

SHAPE = model_shape(tiny_model("llama", trained=False), "causal-lm")
METHODS = {name: method for name, method in all_methods().items() if method.unsupported_reason(SHAPE) is None}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_in_float16_as_in_float32_or_is_refused(name, tmp_path):
    half = SHAPE.model_copy(update={"dtype": "float16"})
    refused = METHODS[name].unsupported_reason(half)
    run = Run("llama", name, tmp_path, dtype="float16")
    stays = any(p.dtype == torch.float16 for p in run.model.parameters() if p.requires_grad)
    assert bool(refused) == stays
    if not refused:
        assert run.to(3) == pytest.approx(Run("llama", name, tmp_path).to(3), abs=0.02)
