"""Values as people read them, and foreign strings made safe to print.

Model names, data and error messages come from outside. `clean` takes away what could steer a terminal or hide text
(control and format characters); HTML is escaped on top of that where it is written.
"""

from __future__ import annotations

import math
import shlex
import unicodedata
from collections.abc import Sequence

from probes.metrics import is_share

_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def clean(text: object, limit: int = 500) -> str:
    """`text` on one line, without control, format and unassigned characters, cut to `limit` characters."""
    raw = str(text)[: 4 * limit]
    kept = "".join(c if unicodedata.category(c) not in _HIDDEN_CATEGORIES else " " for c in raw)
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def printable(text: object) -> str:
    """`text` without control and format characters, its line breaks kept: for messages of several lines."""
    return "\n".join(
        "".join(c for c in line.expandtabs(4) if unicodedata.category(c) not in _HIDDEN_CATEGORIES)
        for line in str(text).splitlines()
    )


def in_shell(place: object) -> str:
    """A path or name as an argument of a command to be copied, whole, with all its spaces."""
    return shlex.quote(" ".join(printable(place).split("\n")))


def bytes_text(count: int | float | None) -> str:
    """Decimal units as on a graphics card's box: '25.6 GB', '1.24 GB', '640 MB', '12 kB'."""
    if count is None:
        return "unknown"
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # 999.9 MB is shown as 1.00 GB, not as 1000 MB.
        if abs(count) >= 0.9995 * size:
            value = count / size
            digits = 2 if unit in ("GB", "TB") and abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{count:.0f} B"


def duration_text(seconds: float | None) -> str:
    """'45 s', '12 min', '3 h 20 min', '2 days 4 h'."""
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(whole / 3600), 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def plural(count: int, noun: str) -> str:
    """'1 row', '2,000 rows'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], limit: int = 6) -> str:
    """'a, b and c', of many the first and how many more."""
    names = [*names[:limit], f"{len(names) - limit} more"] if len(names) > limit else list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def rounded(value: float, digits: int) -> float:
    """`value` at that many decimals; what rounds to nothing has no sign, so that no '-0.00' is shown."""
    return round(value, digits) + 0.0


def share_text(share: float) -> str:
    """'12 %', and 'under 1 %' of what is little but not nothing."""
    return "under 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def count_text(count: int | None) -> str:
    """'1.03 T', '3.21 B', '135 M', '920 k', '512'."""
    if count is None:
        return "unknown"
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        # 999,999 is shown as 1 M, not as 1e+03 k.
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def rate_text(rate: float) -> str:
    """A learning rate as people write it: '1e-4', '4.5e-3', '0.3'."""
    if rate >= 0.1 or rate == 0 or not math.isfinite(rate):
        return f"{rate:g}"
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def is_percentage(metric: str) -> bool:
    """True for metrics that are shares of right answers, shown in percent."""
    return is_share(metric)


def quality_text(value: float | None, metric: str) -> str:
    """A value of a metric: '53.2 %' for shares of right answers, '0.812' for a loss."""
    if value is None:
        return "unknown"
    if is_percentage(metric):
        return f"{100 * value:.1f} %"
    return f"{value:.2g}" if value and rounds_away(value, metric) else f"{rounded(value, 3):.3f}"


def difference_text(difference: float, metric: str) -> str:
    """The size of a difference: '1.7 points' for shares of right answers, '0.043' for a loss, of less '4e-05'."""
    size = abs(difference)
    if is_percentage(metric):
        return f"{100 * size:.1f} points"
    return f"{size:.2g}" if size and rounds_away(size, metric) else f"{size:.3f}"


def rounds_away(value: float, metric: str) -> bool:
    """Whether nothing is left of a value or difference with the usual digits."""
    return float(f"{100 * value:.1f}" if is_percentage(metric) else f"{value:.3f}") == 0
