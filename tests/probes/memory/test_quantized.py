"""The dry run's quantised base has the layers that bitsandbytes makes of the real one."""

from __future__ import annotations

import pytest
import torch

from knowledge.schema import PlannedRun
from probes.memory import cache, estimate_peak
from probes.memory.bases import build_base
from tests.tiny import QUANTIZED, tiny_model, tiny_task

bitsandbytes = pytest.importorskip("bitsandbytes", reason="quantised bases need the extra peft-advisor[quantized]")


def layers(model) -> dict[str, tuple]:
    """Of each linear layer, by name: which of bitsandbytes' classes it is, its features, the bytes of its weight."""
    kinds = (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)
    return {
        name: (
            next((kind.__name__ for kind in kinds if isinstance(module, kind)), "in full"),
            (module.in_features, module.out_features, module.bias is not None),
            module.weight.numel() * module.weight.element_size(),
        )
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


@pytest.mark.parametrize("column", QUANTIZED)
def test_the_same_layers_are_quantised_as_in_a_real_load(column):
    real = tiny_model(column)
    run = PlannedRun(
        task=tiny_task(column),
        batch_size=2,
        max_steps=1,
        max_length_tokens=16,
        dtype="float32",
        quantization=QUANTIZED[column],
    )
    assert layers(build_base(real.config, run)) == layers(real)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_method_that_selects_weights_can_be_followed_with_every_layer_packed(quantization, tmp_path, monkeypatch):
    """SHiRA asks for the positions of its random selection, which meta cannot tell: one layer is built and copied."""
    monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_in_memory", {})
    config = tiny_model("llama", trained=False).config
    run = PlannedRun(batch_size=2, max_steps=5, max_length_tokens=32, quantization=quantization)
    kinds = {"SHIRA": {"mask_type": "random"}, "LORA": {}}
    shira, lora = (
        estimate_peak(config, {"peft_type": kind, "r": 4, "target_modules": ["q_proj", "v_proj"], **settings}, run)
        for kind, settings in kinds.items()
    )
    assert "copied" in shira.note
    assert all(shira.breakdown[part] == lora.breakdown[part] for part in ("weights", "adapter", "optimizer"))
