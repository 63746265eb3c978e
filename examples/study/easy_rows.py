"""Tasks that are learned to nearly nothing, as many are that people write by templates, and short runs on few rows.

Without them the table holds hardly any whose losses fall so far: on rows of that kind forecasts ended too high, and
their intervals missed.
"""

from __future__ import annotations

import datetime
import random
from typing import Any

from examples.study.puzzles import puzzles

KINDS = (
    *("calendar_arithmetic", "caesar_cipher", "family_relationships", "gcd", "letter_counting"),
    *("simple_equations", "spell_backward", "time_intervals"),
)
ROWS_PER_KIND = 300
FEW_PER_KIND = 30
FEW_ROWS = 400
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
MESSAGES = (
    "Good morning, my order {code} has not arrived yet.",
    "I would like to return {code}, it does not fit.",
    "Please change the address of {code} to my office.",
    "{code} was damaged when the parcel came.",
    "Two weeks ago I asked for a refund of {code} and heard nothing.",
    "Can I still add a gift card to order {code}?",
    "The invoice of {code} shows the wrong amount.",
    "Where is {code}? The tracking page is empty.",
)


def puzzle_kinds() -> list[dict[str, Any]]:
    """Questions of reasoning-gym, and which of eight kinds each is: every kind has its own words."""
    return _of_kinds(ROWS_PER_KIND)


def few_puzzle_kinds() -> list[dict[str, Any]]:
    """The same in a short run on few rows."""
    return _of_kinds(FEW_PER_KIND)


def date_formats() -> list[dict[str, str]]:
    """`1987-10-28`, and how it is written: 28 October 1987."""
    draw, first = random.Random(0), datetime.date(1950, 1, 1)
    days = (first + datetime.timedelta(days=number) for number in draw.sample(range(36_500), FEW_ROWS))
    return [{"prompt": f"{day.isoformat()} =", "completion": f" {day.day} {day:%B} {day.year}"} for day in days]


def order_numbers() -> list[dict[str, str]]:
    """Messages to a shop, and the number of the order that they are about."""
    draw = random.Random(0)
    rows = []
    for i in range(FEW_ROWS):
        code = f"{''.join(draw.choices(LETTERS, k=2))}-{draw.randrange(1000, 10_000)}"
        rows.append({"prompt": f"{MESSAGES[i % len(MESSAGES)].format(code=code)}\nOrder:", "completion": f" {code}"})
    return rows


def _of_kinds(rows_per_kind: int) -> list[dict[str, Any]]:
    rows = [
        {"text": entry["question"].strip(), "label": kind}
        for kind in KINDS
        for entry in puzzles(kind, size=rows_per_kind)
    ]
    random.Random(0).shuffle(rows)
    return rows
