"""When one candidate forgets more than another: beyond noise, by enough to matter, and measured no later."""

from __future__ import annotations

import pytest

from advisor.deciding.forgetting import forgets_more, forgetting_text
from tests.advisor.factories import candidate


def forgetful(nats, noise=0.0, share=0.1):
    return candidate(forgetting=nats, forgetting_noise=noise, forgetting_share=share)


@pytest.mark.parametrize(
    ("more", "noise", "expected"),
    [
        (0.04, 0.0, False),  # known exactly, and too little to matter
        (0.07, 0.0, True),
        (0.07, None, True),  # how far the texts reach was not told
        (0.16, 0.1, True),
        (0.20, 0.15, False),  # each is known to less than the difference, both together are not
    ],
)
def test_more_is_what_matters_and_what_the_noise_of_both_leaves_over(more, noise, expected):
    assert forgets_more(forgetful(0.1 + more, noise), forgetful(0.1, noise)) is expected
    assert not forgets_more(forgetful(0.1, noise), forgetful(0.1 + more, noise))


def test_it_grows_along_a_run_so_only_who_was_measured_no_later_can_forget_more():
    shares = {0.1: True, 0.2: True, 0.3: False}
    assert {s: forgets_more(forgetful(0.5, share=s), forgetful(0.1, share=0.2)) for s in shares} == shares


@pytest.mark.parametrize("missing", ["forgetting", "forgetting_share"])
def test_what_was_not_measured_is_not_compared(missing):
    unknown = forgetful(0.5).model_copy(update={missing: None})
    assert not forgets_more(unknown, forgetful(0.1))
    assert not forgets_more(forgetful(0.5), unknown.model_copy(update={"forgetting": None}))


def test_it_is_told_with_its_sign_for_a_run_may_bring_the_base_closer_to_its_own_texts():
    assert [forgetting_text(candidate(forgetting=f)) for f in (0.123, -0.04, None)] == ["+0.12", "-0.04", ""]
