"""Forgetting as something that can be compared: only where the comparison is fair, and only beyond noise."""

from __future__ import annotations

import math

from advisor.recommendation import CandidateReport
from advisor.text import rounded

NOTICEABLE_NATS = 0.05  # per token: five percent in perplexity; less is no reason to choose


def forgets_more(one: CandidateReport, other: CandidateReport) -> bool:
    """True if `one` clearly forgets more than `other`: by more than noise, and by enough to matter.

    Forgetting grows along a run, so `one` must not have been measured at a later step of it. Both were measured on the
    same texts, which makes the noise of the difference smaller than that of two independent samples: this errs on the
    side of calling them equal.
    """
    if None in (one.forgetting, other.forgetting, one.forgetting_share, other.forgetting_share):
        return False
    noise = math.hypot(one.forgetting_noise or 0.0, other.forgetting_noise or 0.0)
    more = one.forgetting - other.forgetting
    return one.forgetting_share <= other.forgetting_share and more > max(NOTICEABLE_NATS, noise)


def forgetting_text(candidate: CandidateReport) -> str:
    """'+0.12', the growth of the loss in nats per token; '' where it was not measured."""
    return "" if candidate.forgetting is None else f"{rounded(candidate.forgetting, 2):+.2f}"
