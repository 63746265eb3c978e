"""What each requirement took out, in lines for the terminal and the page."""

from __future__ import annotations

from advisor.recommendation import Result
from advisor.text import clean, listed, plural

TITLES_NAMED = 4


def requirement_lines(result: Result) -> list[str]:
    """What each requirement took out: 'mergeable: 6 methods removed (Lily, BEFT and 4 more), 2 by nothing else'."""
    lines = []
    for effect in result.requirements:
        names = [clean(title, 60) for title in effect.methods]
        told = f" ({listed(names, TITLES_NAMED)})" if names else ""
        text = f"{plural(len(names), 'method')} removed{told}" if names or not effect.rates else ""
        text += f", {effect.alone} of them by nothing else" if 0 < effect.alone < len(names) else ""
        if effect.rates:
            rates = f"{plural(effect.rates, 'learning rate')} of methods that stayed at another"
            text += f", and {rates}" if text else f"{rates} removed"
        lines.append(f"{clean(effect.requirement, 60)}: {text}")
    return lines
