"""Every entry of the catalogue does what it claims, on every architecture it says it supports."""

from __future__ import annotations

import pytest

from knowledge.methods import all_methods
from tests.contracts.observe import SAME, observe
from tests.tiny import ARCHITECTURES

METHODS = list(all_methods().values())
by_name = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@by_name
def test_does_what_it_claims(method, architecture):
    seen = observe(method, architecture)
    if seen.unsupported:
        pytest.skip(seen.unsupported)
    claims = method.capabilities
    assert seen.trainable_parameters > 0
    assert seen.last_loss < 0.99 * seen.first_loss, "training does not lower the loss"
    assert seen.reload_difference < SAME, "the saved adapter gives other outputs on a fresh base"
    assert seen.adapter_bytes == seen.stored_bytes
    assert (abs(seen.extra_loss) > SAME) == method.trains_through_model_loss
    if claims.mergeable:
        assert seen.merge_difference is not None
        assert seen.merge_difference < SAME
    if claims.identity_start:
        assert seen.start_difference < SAME
    if claims.restores_base:
        assert seen.restores_base


@by_name
def test_does_not_claim_less_than_it_can(method):
    seen = observe(method, "llama")
    claims = method.capabilities
    assert claims.mergeable == (seen.merge_difference is not None and seen.merge_difference < SAME)
    assert claims.identity_start == (seen.start_difference < SAME)
    assert claims.restores_base == seen.restores_base
