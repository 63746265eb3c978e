"""The overhead of an adapter at inference: measured where it stays beside the base, nothing where it merges."""

from __future__ import annotations

import pytest
from peft.tuners.lora import LoraLayer

from knowledge.methods import get_method
from probes import adapters
from probes.latency import WRITTEN_TOKENS, latency_overhead, measured_overhead
from probes.shape import model_shape
from tests.probes.runs import context_of
from tests.tiny import tiny_batch, tiny_model, tiny_task


def wrapped(name: str, architecture: str = "llama"):
    method, base = get_method(name), tiny_model(architecture)
    return adapters.apply_method(base, method, method.peft_config(model_shape(base, tiny_task(architecture)), 20))


def tokens_of(architecture: str = "llama") -> list[int]:
    return tiny_batch(architecture)["input_ids"][0].tolist()


class Clock:
    """Time that passes only in the model: one second in each pass through the base, `adapter_s` more in an adapter."""

    def __init__(self, model, monkeypatch, adapter_s: float) -> None:
        self.now = 0.0
        monkeypatch.setattr("probes.latency.time.perf_counter", lambda: self.now)
        base = model.get_base_model()
        norm = next(module for name, module in base.named_modules() if "norm" in type(module).__name__.lower())
        layer = next(module for module in model.modules() if isinstance(module, LoraLayer))
        norm.register_forward_hook(lambda *_: self.pass_by(1.0))
        layer.lora_A["default"].register_forward_hook(lambda *_: self.pass_by(adapter_s))

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("architecture", "expected"), [("llama", 0.25), ("bert", 0.25)])
def test_time_that_the_adapter_takes_is_overhead(architecture, expected, monkeypatch):
    model = wrapped("lora", architecture)
    Clock(model, monkeypatch, adapter_s=0.25)
    overhead = measured_overhead(model, tokens_of(architecture), tiny_task(architecture), "cpu")
    assert overhead == pytest.approx(expected)


def test_an_encoder_that_reads_once_and_a_decoder_that_writes_are_both_counted(monkeypatch):
    model = wrapped("lora", "t5")
    Clock(model, monkeypatch, adapter_s=1.0)  # in the encoder, which runs once for all tokens written
    assert 0 < measured_overhead(model, tokens_of("t5"), "seq2seq-lm", "cpu") <= 1


@pytest.mark.parametrize("name", ["lily", "beft", "prompt-tuning", "p-tuning", "prefix-tuning", "adaption-prompt"])
def test_every_method_that_stays_beside_the_base_can_be_timed(name):
    model = wrapped(name).train()
    assert measured_overhead(model, tokens_of(), "causal-lm", "cpu") >= 0
    assert model.training


def test_a_request_writes_as_many_tokens_with_the_adapter_as_without(monkeypatch):
    model, written = wrapped("lora"), []
    generate = type(model.get_base_model()).generate
    monkeypatch.setattr(
        type(model.get_base_model()),
        "generate",
        lambda self, *a, **k: written.append((out := generate(self, *a, **k)).shape[1]) or out,
    )
    measured_overhead(model, tokens_of(), "causal-lm", "cpu")
    assert set(written) == {len(tokens_of()) + WRITTEN_TOKENS}


def test_it_is_measured_where_asked_for_and_where_the_adapter_stays(tmp_path, monkeypatch):
    model, lora, lily = wrapped("lora"), get_method("lora"), get_method("lily")
    silent = context_of("llama", tmp_path)
    asked = context_of("llama", tmp_path, measures_latency=True)
    quantized = asked.model_copy(update={"quantization": "nf4"})
    Clock(model, monkeypatch, adapter_s=0.5)
    assert latency_overhead(model, lily, silent, tokens_of()) is None
    assert latency_overhead(model, lora, asked, tokens_of()) == 0.0
    assert latency_overhead(model, lora, quantized, tokens_of()) == pytest.approx(0.5)
    assert latency_overhead(model, lily, asked, tokens_of()) == pytest.approx(0.5)
