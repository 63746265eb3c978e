"""Every method that claims to continue from a checkpoint continues as if it had never stopped."""

import pytest

from knowledge.methods import all_methods
from probes import adapters, checkpoint
from tests.probes.runs import Run
from tests.tiny import tiny_model

SHAPE = adapters.model_shape(tiny_model("llama", trained=False), "causal-lm")
CANDIDATES = [name for name, method in all_methods().items() if method.unsupported_reason(SHAPE) is None]


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_continued_probe_equals_an_uninterrupted_one(name, tmp_path):
    whole = Run("llama", name, tmp_path)
    uninterrupted = whole.to(8)
    first = Run("llama", name, tmp_path)
    start = first.to(4)
    if not checkpoint.supported(first.model, first.optimizer):
        pytest.skip("starts over instead")
    checkpoint.save(tmp_path / "probe", first.model, first.optimizer, first.progress)
    second = Run("llama", name, tmp_path)
    second.progress = checkpoint.load(tmp_path / "probe", second.model, second.optimizer)
    assert second.progress.step == 4
    assert start + second.to(8) == pytest.approx(uninterrupted, abs=1e-6)


def test_a_checkpoint_of_another_method_is_not_taken(tmp_path):
    lora, miss = Run("llama", "lora", tmp_path), Run("llama", "miss", tmp_path)
    lora.to(1)
    checkpoint.save(tmp_path / "probe", lora.model, lora.optimizer, lora.progress)
    assert checkpoint.load(tmp_path / "probe", miss.model, miss.optimizer) is None
    assert checkpoint.load(tmp_path / "nothing", lora.model, lora.optimizer) is None


def test_large_runs_start_over_instead_of_writing_gigabytes(tmp_path, monkeypatch):
    run = Run("llama", "full", tmp_path)
    run.to(1)
    assert checkpoint.supported(run.model, run.optimizer)
    weights = sum(p.numel() * 4 for p in tiny_model().parameters())
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 3 * weights - 1)
    assert not checkpoint.supported(run.model, run.optimizer)
