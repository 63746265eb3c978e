"""Methods on a base in 4 or 8 bits: those that claim to work there train as on a plain base, the others are refused."""

from __future__ import annotations

import pytest
import torch

from knowledge.methods import all_methods, get_method
from knowledge.methods.base import QUANTIZED_BASES
from probes import adapters
from probes.shape import model_shape
from tests.contracts.observe import SAME, STEPS, hold_against_matrix, logits, observe
from tests.tiny import QUANTIZED, in_full, tiny_batch, tiny_model, tiny_task

pytest.importorskip("bitsandbytes", reason="quantised bases need the extra peft-advisor[quantized]")

METHODS = [method for method in all_methods().values() if not method.special_purpose]
REFUSED = [
    (method, kind)
    for method in METHODS
    for kind in QUANTIZED_BASES
    if kind not in method.capabilities.quantized and not (method.adds_in_place and kind == "int8")
]
# Lily cannot tell those layers apart by their packed weights; the others meet biases (Method.adds_in_place).
ALSO_REFUSED = {("lily", "bert-nf4"), ("c3a", "bert-nf4"), ("gralora", "bert-nf4"), ("gralora", "gpt2-nf4")}
by_name = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


@pytest.mark.parametrize("column", QUANTIZED)
@by_name
def test_does_on_a_quantised_base_what_it_claims(method, column):
    seen = observe(method, column)
    hold_against_matrix(seen.as_seen(), method.name, column)
    claims = method.capabilities
    if QUANTIZED[column] not in claims.quantized:
        assert seen.unsupported
    elif seen.unsupported and (method.name, column) not in ALSO_REFUSED:  # as on a full base of that architecture
        architecture = in_full(column)
        shape = model_shape(tiny_model(architecture), tiny_task(architecture))
        assert seen.unsupported == method.unsupported_reason(shape)
    if seen.unsupported:
        return
    assert seen.trainable_parameters > 0
    assert seen.trains_as_in_full
    assert seen.loss_falls, "training does not lower the loss"
    assert seen.reload_difference < SAME, "the saved adapter gives other outputs on a fresh base"
    if claims.mergeable:
        assert seen.merge_difference is not None
        assert seen.merge_difference < SAME
    if claims.identity_start:
        assert seen.is_identity_at_start


@pytest.mark.parametrize(("method", "kind"), REFUSED, ids=lambda value: getattr(value, "name", value))
def test_what_is_refused_on_such_a_base_would_indeed_fail(method, kind):
    """The other side of the claim: nothing that works is refused."""
    forced = method.variant(capabilities=method.capabilities.model_copy(update={"quantized": ("nf4", "int8")}))
    try:
        seen = observe(forced, f"llama-{kind}")
    except Exception:
        return  # PEFT and torch raise a dozen kinds of errors on packed weights
    # Some take the codes of packed weights for weights: they start elsewhere, or learn what holds for the codes alone.
    starts_as_in_full = seen.is_identity_at_start or not method.capabilities.identity_start
    works = seen.as_seen().works and starts_as_in_full and seen.carried_over < 0.9
    assert not works, f"{method.title} works on a base in {kind} and is refused there"


def test_in_8_bits_nothing_is_added_in_place_on_a_gpu():
    """On a processor bitsandbytes takes another product, after which it works: here stands the one that GPUs take."""
    from bitsandbytes.autograd._functions import MatMul8bitLt, MatmulLtState
    from bitsandbytes.functional import int8_vectorwise_quant

    packed, scales, _ = int8_vectorwise_quant(torch.randn(8, 16, dtype=torch.float16))
    state = MatmulLtState(CB=packed, SCB=scales)
    state.threshold, state.has_fp16_weights = 6.0, False
    inputs = torch.randn(2, 3, 16, dtype=torch.float16, requires_grad=True)
    with pytest.raises(RuntimeError, match="view and is being modified inplace"):
        MatMul8bitLt.apply(inputs, packed, None, None, state).add_(1)
    in_place = [method for method in METHODS if method.adds_in_place]
    assert in_place and all(method.capabilities.quantized == ("nf4",) for method in in_place)


def test_the_refusal_names_the_kind_of_base():
    shape = model_shape(tiny_model("llama-int8"), "causal-lm")
    assert shape.quantization == "int8"
    assert get_method("dora").unsupported_reason(shape) == f"DoRA does not work on a base in {QUANTIZED_BASES['int8']}"
    assert get_method("lora").unsupported_reason(shape) is None


def gradients(base):
    torch.manual_seed(0)
    method = get_method("lora-all-linear")
    model = adapters.apply_method(base, method, method.peft_config(model_shape(base, "causal-lm"), STEPS))
    model.train()
    model(**tiny_batch()).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def test_an_evaluation_before_training_does_not_cut_the_gradient():
    """bitsandbytes packs the weights for inference on some CPUs, after which no gradient passes through them."""
    evaluated, kept = tiny_model("llama-nf4"), tiny_model("llama-nf4")
    logits(evaluated, tiny_batch())
    adapters.keep_differentiable(kept)
    logits(kept, tiny_batch())
    expected = gradients(tiny_model("llama-nf4"))
    assert torch.equal(gradients(kept), expected)
    # Packing has rounded the scales of the quantisation, so this one is the same up to that.
    assert torch.cosine_similarity(gradients(evaluated), expected, dim=0) > 0.95
