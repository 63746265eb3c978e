"""Two charts of the report: the probe curves, and where the memory goes. Each is drawn for a given width."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.deciding.quality import value_of
from advisor.recommendation import CandidateReport, Result
from advisor.report import content
from advisor.report.markup import Markup, element
from advisor.report.plot import LINE_HEIGHT, Frame, axes, chart, padded_range, spread
from advisor.text import bytes_text, clean
from probes.memory.kinds import BREAKDOWN

MAX_CURVES = 40


def curves_chart(result: Result, width: float) -> Markup | None:
    """Held-out loss of each probed candidate over its steps; the end of each rung as a line."""
    probed = [c for c in result.candidates if any(p.eval_loss is not None for p in c.curve.points)]
    if not probed:
        return None
    frame = Frame(width, 420 if width > 500 else 380, right=150 if width > 500 else 92)
    ranked = sorted(probed, key=lambda c: _rank(c, result))[:MAX_CURVES]
    losses = [p.eval_loss for c in ranked for p in c.curve.points if p.eval_loss is not None]
    # A diverging curve must not press all others into a line: the axis ends a little above the untuned model.
    start = ranked[0].baseline_loss
    ceiling = max(min(losses) * 1.5, start if start is not None else max(losses))
    seen = [*losses, *([start] if start is not None else [])]
    y = frame.y(*padded_range([v for v in seen if v <= 1.05 * ceiling], 0.06))
    x = frame.x(0, max(c.curve.last_step for c in ranked) * 1.02)
    parts = axes(
        frame,
        x,
        y,
        x_title="optimizer step",
        y_title="held-out loss, nats per label (down is better)",
        x_text=lambda v: f"{v:g}",
        y_text=lambda v: f"{v:g}",
    )
    for rung in result.race.rungs if result.race else ():
        step = rung.get("steps")
        if isinstance(step, int) and step <= x.high:
            parts.append(
                element("line", x1=x(step), x2=x(step), y1=frame.top, y2=frame.height - frame.bottom, class_="rung")
            )
    for c in reversed(ranked):
        parts.append(_curve(c, result, x, y, frame))
    parts += _curve_labels(ranked, result, x, y, frame)
    return chart(
        frame,
        parts,
        name="Held-out loss of the probes",
        description=f"{len(ranked)} candidates, evaluated on the same held-out rows.",
        class_=frame.form,
    )


def _rank(candidate: CandidateReport, result: Result) -> tuple:
    order = ["pick", "frontier", "tie"]
    kind = content.mark(candidate, result)
    return (order.index(kind) if kind in order else 3, candidate.name != "lora", -value_of(candidate, "predicted_loss"))


def _curve(candidate: CandidateReport, result: Result, x, y, frame: Frame) -> Markup:
    points = [(p.step, p.eval_loss) for p in candidate.curve.points if p.eval_loss is not None]
    if candidate.baseline_loss is not None and points[0][0] > 0:
        points.insert(0, (0, candidate.baseline_loss))
    places = [(x(step), max(frame.top, y(loss))) for step, loss in points]
    path = "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in places)
    tip = f"{clean(candidate.title, 60)} at {content.rate(candidate)}: {candidate.status}, loss {points[-1][1]:.3f} "
    return element(
        "g",
        element("title", f"{tip}at step {points[-1][0]}"),
        element("path", d=path, class_="curve"),
        element("circle", cx=places[-1][0], cy=places[-1][1], r=3.0, class_="marker"),
        class_=f"line {content.css_class(content.mark(candidate, result))}",
    )


def _curve_labels(ranked: Sequence[CandidateReport], result: Result, x, y, frame: Frame) -> list[Markup]:
    """Names at the right edge beside the ends, moved apart; as many as fit, the important first."""
    room = int((frame.height - frame.top - frame.bottom) / LINE_HEIGHT)
    ends = []
    for c in ranked[:room]:
        last = next(p for p in reversed(c.curve.points) if p.eval_loss is not None)
        ends.append((c, x(last.step), max(frame.top, y(last.eval_loss))))
    places = spread([e[2] for e in ends], LINE_HEIGHT, frame.top + 6, frame.height - frame.bottom)
    left, parts = frame.width - frame.right + 12, []
    for (c, end_x, end_y), place in zip(ends, places, strict=True):
        kind = content.css_class(content.mark(c, result))
        name = clean(c.title, 12 if frame.is_narrow else 16)
        parts.append(element("line", x1=end_x + 5, y1=end_y, x2=left - 3, y2=place, class_=f"leader {kind}"))
        text = name if frame.is_narrow else f"{name} {content.rate(c)}"
        parts.append(element("text", text, x=left, y=place + 4, class_=f"label {kind}"))
    return parts


def memory_chart(result: Result, width: float) -> Markup | None:
    """What the peak is made of, one bar a method, against the limit."""
    shown = [c for c in content.one_per_method(result) if c.memory and c.memory.breakdown]
    shown = sorted(shown, key=lambda c: (c is not result.pick, c.memory.peak_bytes))[:12]
    if not shown:
        return None
    bar, gap, narrow = 20.0, 16.0 if width < 500 else 10.0, width < 500
    left = 8.0 if narrow else 150.0
    step = bar + gap + (12 if narrow else 0)
    frame = Frame(width, 30 + step * len(shown) + 42, left=left, right=70, top=24)
    limit = result.device.limit_bytes / 1e9
    highest = max(c.memory.peak_bytes / 1e9 for c in shown)
    x = frame.x(0, max(highest, limit if limit < 1.6 * highest else 0) * 1.02)
    bottom = frame.top + 6 + len(shown) * step
    parts = _memory_limit(frame, x, limit, bottom, result)
    for number, c in enumerate(shown):
        top = frame.top + 6 + number * step + (12 if narrow else 0)
        kind = content.css_class(content.mark(c, result))
        place = {"x": left, "y": top - 4} if narrow else {"x": left - 10, "y": top + 14, "text_anchor": "end"}
        parts.append(element("text", clean(c.title, 22), class_=f"label {kind}", **place))
        parts += _bar(c, x, top, bar)
        end = x(c.memory.peak_bytes / 1e9)
        parts.append(element("text", bytes_text(c.memory.peak_bytes), x=end + 6, y=top + 14, class_="label quiet"))
    for value in x.ticks(4 if narrow else 8):
        parts.append(element("text", f"{value:g}", x=x(value), y=bottom + 16, text_anchor="middle", class_="tick"))
    parts.append(element("text", "GB at the peak of the planned run", x=(left + frame.width - frame.right) / 2,
                         y=bottom + 34, text_anchor="middle", class_="title"))  # fmt: skip
    return chart(
        frame,
        parts,
        name="What the peak memory is made of",
        description=", ".join(f"{clean(c.title, 40)} {bytes_text(c.memory.peak_bytes)}" for c in shown),
        class_=frame.form,
    )


def _memory_limit(frame: Frame, x, limit: float, bottom: float, result: Result) -> list[Markup]:
    if limit > x.high:
        return []
    text = f"limit {bytes_text(result.device.limit_bytes)}"
    line = element("line", x1=x(limit), x2=x(limit), y1=frame.top - 4, y2=bottom, class_="limit")
    label = element("text", text, x=x(limit) - 5, y=frame.top - 9, text_anchor="end", class_="label limit-text")
    return [line, label]


def _bar(candidate: CandidateReport, x, top: float, height: float) -> list[Markup]:
    known = [kind for kind in BREAKDOWN if candidate.memory.breakdown.get(kind, 0) > 0]
    others = [kind for kind in candidate.memory.breakdown if kind not in BREAKDOWN]
    parts, done = [], 0.0
    for kind in (*known, *others):
        size = candidate.memory.breakdown[kind] / 1e9
        tip = f"{clean(candidate.title, 40)}, {clean(kind, 40)}: {bytes_text(candidate.memory.breakdown[kind])}"
        number = BREAKDOWN.index(kind) if kind in BREAKDOWN else len(BREAKDOWN)
        start = x(done)
        parts.append(element("rect", element("title", tip), x=start, y=top, width=max(0.0, x(done + size) - start),
                             height=height, class_=f"kind{number}"))  # fmt: skip
        done += size
    return parts


def memory_legend(result: Result) -> Markup:
    """The colours of the kinds that occur."""
    seen = {kind for c in result.candidates if c.memory for kind, size in c.memory.breakdown.items() if size > 0}
    entries = [(kind, number) for number, kind in enumerate(BREAKDOWN) if kind in seen]
    return element(
        "p", [element("span", kind, class_=f"key kind{number}") for kind, number in entries], class_="legend"
    )
