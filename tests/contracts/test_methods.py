"""Every entry of the catalogue does what it claims, on every architecture it says it supports."""

from __future__ import annotations

import pytest

from knowledge.methods import all_methods
from tests.contracts.observe import SAME, SAME_LOSS, hold_against_matrix, observe
from tests.tiny import ARCHITECTURES

METHODS = [method for method in all_methods().values() if not method.special_purpose]
by_name = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@by_name
def test_does_what_it_claims(method, architecture):
    seen = observe(method, architecture)
    hold_against_matrix(seen.as_seen(), method.name, architecture)
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
        assert seen.is_identity_at_start
    if claims.restores_base:
        assert seen.restores_base


@by_name
def test_does_not_claim_less_than_it_can(method):
    observations = (observe(method, architecture) for architecture in ("llama", "gpt2", "llama-nf4"))
    seen = next(observation for observation in observations if not observation.unsupported)
    claims = method.capabilities
    assert claims.mergeable == (seen.merge_difference is not None and seen.merge_difference < SAME)
    assert claims.identity_start == seen.is_identity_at_start
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
