"""Every entry of the catalogue does what it claims, on every architecture it says it supports."""

from __future__ import annotations

import pytest

from knowledge.methods import all_methods
from knowledge.seen import Seen, matrix
from tests.contracts.observe import SAME, SAME_LOSS, SAME_START, observe
from tests.tiny import ARCHITECTURES

METHODS = [method for method in all_methods().values() if not method.special_purpose]
by_name = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@by_name
def test_does_what_it_claims(method, architecture):
    seen = observe(method, architecture)
    _hold_against_matrix(seen.as_seen(), matrix()[method.name][architecture])
    if seen.unsupported:
        pytest.skip(seen.unsupported)
    claims = method.capabilities
    assert seen.trainable_parameters > 0
    assert seen.loss_falls, "training does not lower the loss"
    assert seen.reload_difference < SAME, "the saved adapter gives other outputs on a fresh base"
    assert seen.adapter_bytes == seen.stored_bytes
    assert (abs(seen.extra_loss) > SAME_LOSS) == method.trains_through_model_loss
    if claims.mergeable:
        assert seen.merge_difference is not None
        assert seen.merge_difference < SAME
    if claims.identity_start:
        assert seen.start_difference < SAME_START
    if claims.restores_base:
        assert seen.restores_base


def _hold_against_matrix(seen: Seen, shipped: Seen) -> None:
    """The shipped facts are those seen; the error of a conversion may vary a little with the arithmetic."""
    vague = {"lora_error": None}
    assert seen.model_copy(update=vague) == shipped.model_copy(update=vague), "run tests.contracts.write_matrix"
    assert (seen.lora_error is None) == (shipped.lora_error is None)
    assert abs((seen.lora_error or 0) - (shipped.lora_error or 0)) <= 0.05


@by_name
def test_does_not_claim_less_than_it_can(method):
    seen = observe(method, "llama")
    if seen.unsupported:
        seen = observe(method, "gpt2")
    claims = method.capabilities
    assert claims.mergeable == (seen.merge_difference is not None and seen.merge_difference < SAME)
    assert claims.identity_start == (seen.start_difference < SAME_START)
    assert claims.restores_base == seen.restores_base


@pytest.mark.parametrize("method", [m for m in METHODS if not m.supports_conv1d], ids=lambda method: method.name)
def test_refused_conv1d_layers_would_indeed_fail(method):
    """The other side of `supports_conv1d`: nothing that works is refused."""
    forced = method.variant(supports_conv1d=True)
    try:
        seen = observe(forced, "gpt2")
    except Exception:
        return  # PEFT raises a dozen kinds of errors there, and Ineffective is ours
    assert seen.unsupported, f"{method.title} works on GPT-2 and is refused there"
