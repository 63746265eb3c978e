"""What charts are made of: scales with round ticks, axes, and labels that do not cover each other. All in SVG units
(CSS pixels at the chart's own width); colours come from the page's style sheet through classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from advisor.report.markup import Markup, element

CHARACTER_WIDTH, CAPITAL_WIDTH = 6.7, 8.6  # of the 12 px font, generous
LINE_HEIGHT = 15.0
WIDE, NARROW = 860.0, 380.0
MANY_TIMES = 4  # beyond that a few large values press all others together at the axis


@dataclass(frozen=True)
class Scale:
    """A linear map from [low, high] to pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values (1, 2 or 5 times a power of ten apart) within the range."""
        rough = (self.high - self.low) / max(1, count)
        if rough <= 0 or not math.isfinite(rough):
            return [self.low]
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


@dataclass(frozen=True)
class LogScale(Scale):
    """Equal ratios are equally far apart; all values are positive."""

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / (math.log(self.high / self.low) or 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """1, 2 and 5 times powers of ten within the range."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [round(m * 10.0**power, 12) for power in powers for m in (1, 2, 5)]
        return [value for value in values if self.low <= value <= self.high]


def padded_range(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """The range of the values with some air around; never empty."""
    low, high = min(values), max(values)
    air = (high - low) * share or abs(high) * share or 1.0
    return low - air, high + air


@dataclass(frozen=True)
class Frame:
    """The plotting area of a chart of `width` by `height`."""

    width: float
    height: float
    left: float = 58
    right: float = 16
    top: float = 16
    bottom: float = 42

    @property
    def is_narrow(self) -> bool:
        return self.width < 500

    @property
    def form(self) -> str:
        """The class by which the style sheet shows the form that suits the screen."""
        return "narrow" if self.is_narrow else "wide"

    def x(self, low: float, high: float) -> Scale:
        return Scale(low, high, self.left, self.width - self.right)

    def x_of_sizes(self, values: Sequence[float]) -> Scale:
        """For sizes, of which some may be many times others: then by their ratios."""
        if min(values) <= 0 or max(values) <= MANY_TIMES * min(values):
            return self.x(*padded_range(values, 0.1))
        low, high = padded_range([math.log(value) for value in values])
        return LogScale(math.exp(low), math.exp(high), self.left, self.width - self.right)

    def y(self, low: float, high: float) -> Scale:
        """Pixels grow downwards, values upwards."""
        return Scale(low, high, self.height - self.bottom, self.top)


def both_widths(draw: Callable[[Any, float], Markup | None], shown: Any, description: str) -> Markup | None:
    """A chart in its wide and its narrow form, of which the style sheet shows the one that fits: text keeps its size on
    a phone."""
    wide = draw(shown, WIDE)
    if wide is None:
        return None
    return element("figure", wide, draw(shown, NARROW), element("figcaption", description))


def axes(
    frame: Frame, x: Scale, y: Scale, *, x_title: str, y_title: str, x_text: Callable, y_text: Callable
) -> list[Markup]:
    """Grid, ticks and titles."""
    bottom, parts = frame.height - frame.bottom, []
    for value in y.ticks(4 if frame.is_narrow else 6):
        place = y(value)
        parts.append(element("line", x1=frame.left, x2=frame.width - frame.right, y1=place, y2=place, class_="grid"))
        parts.append(element("text", y_text(value), x=frame.left - 8, y=place + 4, text_anchor="end", class_="tick"))
    for value in x.ticks(4 if frame.is_narrow else 8):
        place = x(value)
        parts.append(element("line", x1=place, x2=place, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(element("text", x_text(value), x=place, y=bottom + 18, text_anchor="middle", class_="tick"))
    parts.append(element("line", x1=frame.left, x2=frame.width - frame.right, y1=bottom, y2=bottom, class_="axis"))
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(element("text", x_title, x=middle, y=frame.height - 6, text_anchor="middle", class_="title"))
    centre = (frame.top + bottom) / 2
    upright = f"rotate(-90 14 {centre:.1f})"
    title = element("text", y_title, x=14, y=centre, text_anchor="middle", transform=upright, class_="title")
    return [*parts, title]


@dataclass
class Labels:
    """Places labels beside points so that none covers another; those without a free place are left out (the table
    and the tooltip have them)."""

    frame: Frame
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def block(self, x: float, y: float, radius: float = 6) -> None:
        """Keeps labels off a marker."""
        self.taken.append((x - radius, y - radius, x + radius, y + radius))

    def place(self, text: str, x: float, y: float, class_: str = "label", *, must: bool = False) -> Markup | None:
        """The label of the point at (x, y), or None; with `must` it is put to the right whatever it covers."""
        width = sum(CAPITAL_WIDTH if letter.isupper() else CHARACTER_WIDTH for letter in text)
        spots = [
            (x + 7, y - 8, "start"),
            (x + 7, y + 17, "start"),
            (x - 7, y - 8, "end"),
            (x - 7, y + 17, "end"),
            (x + 10, y + 4, "start"),
            (x - 10, y + 4, "end"),
        ]
        for at_x, at_y, anchor in spots:
            left = at_x if anchor == "start" else at_x - width
            box = (left, at_y - 11, left + width, at_y + 3)
            if self._is_free(box):
                self.taken.append(box)
                return element("text", text, x=at_x, y=at_y, text_anchor=anchor, class_=class_)
        if must:
            return element("text", text, x=x + 10, y=y + 4, class_=class_)
        return None

    def _is_free(self, box: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = box
        inside_x = self.frame.left <= left and right <= self.frame.width - 2
        inside_y = top >= 2 and bottom <= self.frame.height - self.frame.bottom
        overlaps = any(left < x2 and x1 < right and top < y2 and y1 < bottom for x1, y1, x2, y2 in self.taken)
        return inside_x and inside_y and not overlaps


def spread(places: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """The places moved apart to at least `distance`, in their order, within [low, high] as far as that is possible."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [0.0] * len(places)
    previous = low - distance
    for i in order:
        previous = moved[i] = max(places[i], previous + distance)
    overflow = previous - high
    if overflow > 0:
        limit = high
        for i in reversed(order):
            moved[i] = min(moved[i], limit)
            limit = moved[i] - distance
    return moved


def chart(frame: Frame, parts: Sequence[Markup | None], *, name: str, description: str, class_: str) -> Markup:
    """The svg element, described for those who cannot see it."""
    return element(
        "svg",
        element("title", name),
        element("desc", description),
        [part for part in parts if part is not None],
        viewBox=f"0 0 {frame.width:g} {frame.height:g}",
        role="img",
        class_=f"chart {class_}",
        xmlns="http://www.w3.org/2000/svg",
    )
