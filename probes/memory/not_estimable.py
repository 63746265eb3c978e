"""The error that stands in place of a guess."""

from __future__ import annotations

from knowledge.errors import AdvisorError


class NotEstimable(AdvisorError):
    """The memory of a method on a model cannot be found out by a dry run; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
