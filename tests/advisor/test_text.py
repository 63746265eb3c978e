"""Values as people read them, and foreign strings made safe."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.text import (
    bytes_text,
    clean,
    count_text,
    difference_text,
    duration_text,
    printable,
    quality_text,
    rate_text,
    rounded,
    share_text,
)


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text):
    for safe in (clean(text), printable(text).replace("\n", "")):
        assert not [c for c in safe if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert "\n" not in clean(text)


def test_plain_text_stays_and_long_text_is_cut():
    assert clean("IA³ – größer, 模型") == "IA³ – größer, 模型"
    assert clean("a" * 600, limit=10) == "a" * 9 + "…"
    assert printable("one\n\ttwo\x1b[0m") == "one\n    two[0m"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((25_620_905_984, "25.6 GB"), (1_240_000_000, "1.24 GB"), (640_000_000, "640 MB"), (999_960_000, "1.00 GB")),
        *((18_400_000, "18.4 MB"), (12_000, "12.0 kB"), (512, "512 B"), (None, "unknown")),
    ],
)
def test_bytes(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.42, "0.4 s"), (45, "45 s"), (119.6, "2 min"), (871.4, "15 min"), (12_000, "3 h 20 min"), (7200, "2 h")),
        *((200_000, "2 days 8 h"), (None, "unknown")),
    ],
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text


def test_counts_rates_and_qualities():
    assert [count_text(n) for n in (3_212_749_824, 134_515_008, 920_000, 512)] == ["3.21 B", "135 M", "920 k", "512"]
    rounded = [count_text(n) for n in (999_999, 999_700_000, 999_499, 999_600_000_000, 1_026_000_000_000, 999, None)]
    assert rounded == ["1 M", "1 B", "999 k", "1 T", "1.03 T", "999", "unknown"]
    assert [rate_text(r) for r in (1e-4, 4.5e-3, 0.3, 1e-2)] == ["1e-4", "4.5e-3", "0.3", "1e-2"]
    assert [rate_text(float(rate)) for rate in ("nan", "inf")] == ["nan", "inf"]
    assert quality_text(0.532, "exact match") == "53.2 %"
    assert quality_text(1.1488, "eval loss") == "1.149"
    assert quality_text(53.2, "f1") == "53.200", "an own one may count to a hundred"
    assert quality_text(0.532, "held-out exact match") == "53.2 %"
    assert difference_text(-0.0171, "test accuracy") == "1.7 points"
    assert difference_text(0.0432, "eval loss") == "0.043"


def test_what_rounds_to_nothing_has_no_sign_and_what_is_little_is_not_nothing():
    assert [f"{rounded(v, 2):+.2f}" for v in (-0.001, 0.0, 0.001, -0.006, 0.12)] == [
        *("+0.00", "+0.00", "+0.00", "-0.01", "+0.12")
    ]
    assert [quality_text(v, "my metric") for v in (-0.0, -0.0001, 0.00031)] == ["0.000", "-0.0001", "0.00031"]
    assert [difference_text(v, "my metric") for v in (0.0, -1.4e-6)] == ["0.000", "1.4e-06"]
    assert [share_text(s) for s in (0.0, 0.003, 0.006, 0.1, 1.0)] == ["0 %", "under 1 %", "1 %", "10 %", "100 %"]
