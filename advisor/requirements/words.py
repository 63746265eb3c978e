"""The words of `--require`, read; which of them a model and a request can meet is for requirements.py to say."""

from __future__ import annotations

from advisor.requirements.kinds import KINDS, WORDS, Requirement
from advisor.requirements.scope import Scope
from knowledge.errors import BadInput, did_you_mean


def parse_requirement(text: str, scope: Scope) -> Requirement:
    """'max-adapter-size=50MB' as the requirement; raises BadInput that names the word and what is known."""
    name, equals, value = text.partition("=")
    kind = KINDS.get(name.strip().lower())
    if kind is None:
        raise BadInput(f"Unknown requirement {text!r}. {did_you_mean(text, list(WORDS))}")
    if not equals and kind.value != "needed":
        return kind(text, scope, kind.limit_if_none)
    if not value:
        raise BadInput(f"The requirement {text!r} is not complete. Write {kind.example or kind.name}.")
    return kind(text, scope, kind.parse_limit(text, value))
