"""The chart of the frontier: what each method is expected to reach, against the memory that it needs."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.deciding.quality import QualityField, baseline_of, lower_is_better
from advisor.recommendation import CandidateReport, Result
from advisor.report import content, headline
from advisor.report.markup import Markup, element
from advisor.report.plot import Frame, Labels, LogScale, Scale, axes, chart, padded_range
from advisor.text import bytes_text, clean, is_percentage, quality_text

MUCH_MORE = 1.6  # times what the others need: not drawn to scale, or all that is compared lies at the axis


def frontier_chart(result: Result, width: float) -> Markup | None:
    """Quality against peak memory with 80 % intervals, the frontier as steps and the device's limit."""
    quality = content.compared_by(result)
    plotted = [c for c in content.one_per_method(result) if getattr(c, quality) and c.memory]
    if not plotted:
        return None
    frame = Frame(width, 440 if width > 500 else 400, right=24)
    metric = getattr(plotted[0], quality).metric
    limit = result.device.limit_bytes / 1e9
    x = frame.x_of_sizes(_drawn_to_scale(plotted, result, limit))
    values = [v for c in plotted for v in _interval(c, quality)]
    y_low, y_high = padded_range(values)
    y = frame.y(max(0.0, y_low) if min(values) >= 0 else y_low, y_high)
    parts = axes(
        frame,
        x,
        y,
        x_title=f"expected peak memory, GB{', by ratio' if isinstance(x, LogScale) else ''} (left is better)",
        y_title=f"predicted {clean(metric, 40)} ({'down' if lower_is_better(metric) else 'up'} is better)",
        x_text=lambda v: f"{v:g}",
        y_text=lambda v: f"{100 * v:g} %" if is_percentage(metric) else f"{v:g}",
    )
    parts += _limit_area(frame, x(limit), result)
    parts += _baseline(frame, y, plotted[0], quality, metric)
    parts.append(_frontier_line(plotted, quality, x, y))
    order = {"pick": 3, "frontier": 2, "tie": 1}
    drawn = sorted(plotted, key=lambda c: order.get(content.mark(c, result), 0))
    parts += [_point(c, result, quality, x, y) for c in drawn]
    parts += _labels(frame, drawn[::-1], result, quality, x, y)
    return chart(
        frame,
        parts,
        name="Predicted quality against expected peak memory",
        description=f"{len(plotted)} methods; the limit is {bytes_text(result.device.limit_bytes)}.",
        class_=frame.form,
    )


def _drawn_to_scale(plotted: Sequence[CandidateReport], result: Result, limit: float) -> list[float]:
    """GB of what the axis spans: those that compete, the limit and all others that are near to them."""
    apart = ("reference", "does not fit", "excluded")
    competing = [c for c in plotted if content.mark(c, result) not in apart] or plotted
    far = MUCH_MORE * max(c.memory.peak_bytes / 1e9 for c in competing)
    near = [gb for c in plotted if (gb := c.memory.peak_bytes / 1e9) <= far]
    return [*near, limit] if limit < far else near


def _place(candidate: CandidateReport, quality: QualityField, x: Scale, y: Scale) -> tuple[float, float, bool]:
    """Where its marker stands, and whether it lies beyond the axis: then at its end."""
    gb = candidate.memory.peak_bytes / 1e9
    is_beyond = gb > x.high
    return x.end - 6 if is_beyond else x(gb), y(getattr(candidate, quality).value), is_beyond


def _labels(
    frame: Frame, ranked: Sequence[CandidateReport], result: Result, quality: QualityField, x: Scale, y: Scale
) -> list[Markup | None]:
    """Names, the important first; what lies beyond the axis with its memory, which the axis does not tell."""
    labels, parts = Labels(frame), []
    places = [(c, *_place(c, quality, x, y)) for c in ranked]
    for _, at_x, at_y, _ in places:
        labels.block(at_x, at_y)
    for c, at_x, at_y, is_beyond in sorted(places, key=lambda place: not (place[-1] or place[0] is result.pick)):
        kind, text = content.mark(c, result), clean(c.title, 26)
        if is_beyond:  # at the end of its bar: beside its marker are those of all others
            text, at_y = f"{text}, {bytes_text(c.memory.peak_bytes)}", min(y(v) for v in _interval(c, quality))
        parts.append(labels.place(text, at_x, at_y, f"label {content.css_class(kind)}", must=kind == "pick"))
    return parts


def _interval(candidate: CandidateReport, quality: QualityField) -> tuple[float, float, float]:
    p = getattr(candidate, quality)
    return p.low, p.value, p.high


def _limit_area(frame: Frame, place: float, result: Result) -> list[Markup]:
    """Everything to the right of the limit does not fit."""
    if not frame.left < place < frame.width - frame.right:
        return []
    height, right = frame.height - frame.bottom - frame.top, frame.width - frame.right
    text = f"limit {bytes_text(result.device.limit_bytes)}"
    return [
        element("rect", x=place, y=frame.top, width=right - place, height=height, class_="beyond"),
        element("line", x1=place, x2=place, y1=frame.top, y2=frame.top + height, class_="limit"),
        element("text", text, x=place - 6, y=frame.top + 12, text_anchor="end", class_="label limit-text"),
    ]


def _baseline(frame: Frame, y, candidate: CandidateReport, quality: QualityField, metric: str) -> list[Markup]:
    """The untuned model as a line, or as a note where it is far from everything."""
    start = baseline_of(candidate, quality)
    if start is None:
        return []
    start = -start if lower_is_better(metric) else start
    text = f"untuned model: {quality_text(start, metric)}"
    if y.low <= start <= y.high:
        place, right = y(start), frame.width - frame.right
        line = element("line", x1=frame.left, x2=right, y1=place, y2=place, class_="baseline")
        return [line, element("text", text, x=frame.left + 6, y=place - 6, class_="label quiet")]
    below = start < y.low
    place = frame.height - frame.bottom - 8 if below else frame.top + 12
    return [element("text", f"{text} {'↓' if below else '↑'}", x=frame.left + 6, y=place, class_="label quiet")]


def _frontier_line(candidates: Sequence[CandidateReport], quality: QualityField, x, y) -> Markup | None:
    """Steps: up to the memory of the next member, the best is the one before."""
    members = sorted((c for c in candidates if c.on_frontier), key=lambda c: c.memory.peak_bytes)
    if len(members) < 2:
        return None
    places = [(x(c.memory.peak_bytes / 1e9), y(getattr(c, quality).value)) for c in members]
    path = f"M{places[0][0]:.1f},{places[0][1]:.1f}" + "".join(f"H{a:.1f}V{b:.1f}" for a, b in places[1:])
    return element("path", d=path, class_="frontier-line")


def _point(candidate: CandidateReport, result: Result, quality: QualityField, x: Scale, y: Scale) -> Markup:
    p, memory, kind = getattr(candidate, quality), candidate.memory, content.mark(candidate, result)
    at_x, at_y, is_beyond = _place(candidate, quality, x, y)
    tip = f"{clean(candidate.title, 60)} at {content.rate(candidate)}: {headline.quality_line(p, None)}, "
    tip += f"{bytes_text(memory.peak_bytes)} ({bytes_text(memory.low_bytes)} to {bytes_text(memory.high_bytes)})"
    # The lower end is what a run needs at the least, and may lie far outside of what is compared here.
    sides = [min(max(x(b / 1e9), x.start), x.end) for b in (memory.low_bytes, memory.high_bytes)]
    return element(
        "g",
        element("title", tip),
        element("line", x1=at_x, x2=at_x, y1=y(p.low), y2=y(p.high), class_="interval"),
        None if is_beyond else element("line", x1=sides[0], x2=sides[1], y1=at_y, y2=at_y, class_="interval"),
        _marker(kind, at_x, at_y, is_beyond),
        class_=f"point {content.css_class(kind)}",
    )


def _marker(kind: str, x: float, y: float, is_beyond: bool) -> Markup:
    """A diamond for the pick, larger than the dots of the others; an arrowhead for what lies beyond the axis."""
    if kind == "pick":
        return element("path", d=f"M{x:.1f},{y - 9:.1f}l8,9l-8,9l-8,-9Z", class_="marker")
    if is_beyond:
        return element("path", d=f"M{x - 5:.1f},{y - 5:.1f}l10,5l-10,5Z", class_="marker")
    return element("circle", cx=x, cy=y, r=5.0 if kind == "frontier" else 4.0, class_="marker")
