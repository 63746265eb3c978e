"""The report as one file: no network, no script, light and dark, readable on a phone.

Everything that comes from outside is escaped where an element is made (see markup.py), and a content security policy
forbids whatever could still slip through: the page loads nothing and runs nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from advisor.deciding.forgetting import forgetting_text
from advisor.deciding.quality import TABLE_RANK
from advisor.files import write_text
from advisor.recommendation import CandidateReport, Result
from advisor.report import charts, content, headline
from advisor.report.frontier_chart import frontier_chart
from advisor.report.markup import Markup, element
from advisor.report.next_steps import next_steps
from advisor.report.plot import both_widths
from advisor.report.provenance import facts_of_provenance, race_line, rung_lines
from advisor.report.required import requirement_lines
from advisor.report.style import STYLE
from advisor.report.without_pick import advice_without_pick, why_no_pick
from advisor.text import bytes_text, clean, duration_text, quality_text, rate_text

MAX_CURVE_ROWS = 2000


def write_report(path: Path, result: Result, folder: Path) -> Path:
    """Writes the page to `path` and returns it; the other files of the result lie in `folder`."""
    return write_text(path, page(result, folder))


def render_fragment(result: Result) -> str:
    """The page for a notebook's cell: in a frame of its own, so that neither's style reaches the other, and with
    scripts, forms and navigation switched off."""
    return element("iframe", srcdoc=page(result), sandbox="", width="100%", height="720", frameborder="0")


def page(result: Result, folder: Path | None = None) -> str:
    """The whole document. `folder` is where the files of the result lie."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = f"{result.recommendation.title} for" if result.recommendation else "No recommendation for"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", clean(f"{title} {result.model.reference}", 200)),
        element("style", Markup(STYLE)),
    )
    return (
        "<!doctype html>\n"
        + element("html", head, element("body", element("main", body(result, folder))), lang="en")
        + "\n"
    )


def body(result: Result, folder: Path | None) -> list[Markup | None]:
    """The page's content, section by section; each is left out where there is nothing to show."""
    return [
        _header(result),
        _cards(result),
        _notes(result),
        _section(
            "Quality against memory",
            both_widths(
                frontier_chart,
                result,
                content.about_the_frontier(result),
            ),
            _candidate_table(result),
        ),
        _section("Why this one", _reasons(result)),
        _section("The probes", _race_words(result), _curves(result)),
        _section("What the requirements took out", *_requirements(result)),
        _section("Why the others left" if result.race else "Why the others are left out", *_left(result)),
        _section("Where the memory goes", *_memory(result)),
        _section("What to run next", *_next(result, folder)),
        _section("How this was made", _provenance(result)),
        element("footer", f"Written by peft-advisor {clean(result.advisor_version)}. Nothing in this page leaves it."),
    ]


def _section(heading: str, *parts: Markup | None) -> Markup | None:
    shown = [part for part in parts if part]
    return element("section", element("h2", heading), shown) if shown else None


def _header(result: Result) -> Markup:
    decision = result.recommendation
    subject = element("p", content.subject_line(result), class_="quiet")
    if decision is None:
        why = why_no_pick(result)
        text = f"{why[0].upper()}{why[1:]}. The reasons are below. "
        text += advice_without_pick(result)
        return element(
            "header",
            element("p", "Nothing to recommend", class_="kicker none"),
            element("h1", "No method came through"),
            subject,
            element("p", text, class_="lead"),
        )
    kicker = content.verdict(decision)
    kicker += "" if decision.chosen_over else f", with {decision.confidence} confidence"
    rate = element("small", f"at learning rate {rate_text(decision.learning_rate)}")
    return element(
        "header",
        element("p", kicker, class_="kicker"),
        element("h1", clean(decision.title, 80), " ", rate),
        subject,
        element("p", clean(decision.gain_over_lora), class_="lead"),
    )


def _cards(result: Result) -> Markup | None:
    pick = result.pick
    if pick is None:
        return None
    cards = []
    for prediction, start in ((pick.predicted, pick.baseline_value), (pick.predicted_loss, pick.baseline_loss)):
        if prediction is None or any(prediction.metric == shown for shown, _ in cards):
            continue
        low, high = quality_text(prediction.low, prediction.metric), quality_text(prediction.high, prediction.metric)
        note = f"80 % interval {low} to {high}"
        note += f"; {headline.ABOUT_TABLE_RANK}" if prediction.metric == TABLE_RANK else ""
        note += f"; untuned {quality_text(start, prediction.metric)}" if start is not None else ""
        value = quality_text(prediction.value, prediction.metric)
        how = "measured" if headline.was_raced_to_the_end(result, pick) else "predicted"
        cards.append((prediction.metric, _card(f"{how} {clean(prediction.metric, 40)}", value, note)))
    shown = [card for _, card in cards]
    if pick.memory is not None:
        limit = result.device.limit_bytes
        elsewhere = headline.is_of_a_gpu_elsewhere(result, pick.memory)
        place = "as on an NVIDIA GPU" if elsewhere else f"of {bytes_text(limit)}"
        note = f"{place} ({headline.source_of_memory(pick.memory)})"
        note = ", ".join(filter(None, (headline.noise_of_memory(pick.memory), note)))
        shown.append(_card("peak memory", bytes_text(pick.memory.peak_bytes), note))
    size = headline.size_of_run(result.planned_run)
    size += "" if pick.planned_run_s is None else f" on {headline.place_of_time(result, pick)}"
    notes = filter(None, (headline.range_of_time(pick), size))
    shown.append(_card("planned run", duration_text(pick.planned_run_s), "; ".join(notes)))
    if pick.forgetting is not None:
        note = "nats per token more loss on texts that the base model wrote"
        note += f", ± {pick.forgetting_noise:.2f}" if pick.forgetting_noise is not None else ""
        shown.append(_card("forgetting", forgetting_text(pick), note + headline.measured_at(pick)))
    if pick.drift is not None:
        note = "distance of images for other prompts from the base model's; lower is better"
        shown.append(_card("drift", content.drift_text(pick), note))
    return element("dl", shown, class_="cards")


def _card(label: str, value: str, note: str) -> Markup:
    return element("div", element("dt", label), element("dd", value), element("p", note), class_="card")


def _notes(result: Result) -> Markup | None:
    if result.recommendation is None or not result.recommendation.warnings:
        return None
    return element("ul", [element("li", clean(w)) for w in result.recommendation.warnings], class_="notes")


def _candidate_table(result: Result) -> Markup | None:
    shown = content.shown_candidates(result, limit=len(result.candidates))
    if not shown:
        return None
    headings = [("method", ""), ("rate", "number"), (content.metric_heading(result), "number")]
    headings += [("80 % interval", "number"), ("memory", "number"), ("run", "number"), ("adapter", "number")]
    headings += [("forgets", "number")] if content.tells_forgetting(result) else []
    headings += [("drift", "number")] if content.tells_drift(result) else []
    headings += [("why it stands there", "")]
    head = element("tr", [element("th", text, class_=kind or None, scope="col") for text, kind in headings])
    rows = [_candidate_row(c, result) for c in shown]
    return _table(head, rows)


def _candidate_row(candidate: CandidateReport, result: Result) -> Markup:
    kind = content.mark(candidate, result)
    value, interval = content.prediction_cell(candidate, content.compared_by(result))
    word = content.mark_word(kind, result)
    badge = element("span", word, class_="badge") if word else None
    cells = [
        element("td", clean(candidate.title, 60), badge, class_="name"),
        _number(content.rate(candidate)),
        _number(value),
        _number(interval),
        _number(bytes_text(candidate.memory.peak_bytes) if candidate.memory else "unknown"),
        _number(duration_text(candidate.planned_run_s)),
        _number(bytes_text(candidate.adapter_bytes)),
        _number(forgetting_text(candidate)) if content.tells_forgetting(result) else None,
        _number(content.drift_text(candidate)) if content.tells_drift(result) else None,
        element("td", clean(candidate.reason), class_="why"),
    ]
    return element("tr", cells, class_=content.css_class(kind) if kind else None)


def _number(text: str) -> Markup:
    return element("td", text, class_="number")


def _table(head: Markup, rows: Sequence[Markup]) -> Markup:
    table = element("table", element("thead", head), element("tbody", list(rows)))
    # Reachable by keyboard, for a wide table scrolls inside its box.
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="table")


def _reasons(result: Result) -> Markup | None:
    decision = result.recommendation
    if decision is None:
        return None
    parts = [element("ul", [element("li", clean(r)) for r in decision.reasons], class_="reasons")]
    if decision.alternatives:
        others = [element("li", clean(a)) for a in decision.alternatives]
        parts += [element("h3", "Other points of the frontier"), element("ul", others, class_="reasons")]
    return element("div", parts)


def _race_words(result: Result) -> Markup:
    return element("p", race_line(result) + ".", class_="quiet")


def _curves(result: Result) -> Markup | None:
    figure = both_widths(
        charts.curves_chart,
        result,
        content.about_the_curves(result),
    )
    if figure is None:
        return None
    rows, left_out = [], 0
    for c in result.candidates:
        for p in c.curve.points:
            if len(rows) >= MAX_CURVE_ROWS:
                left_out += 1
                continue
            metric = "" if p.metric is None else quality_text(p.metric, c.curve.metric_name or "")
            cells = [element("td", clean(c.title, 60)), _number(content.rate(c)), _number(str(p.step))]
            cells += [_number("" if v is None else f"{v:.4f}") for v in (p.train_loss, p.eval_loss)]
            elapsed = "" if p.elapsed_s is None else f"{p.elapsed_s:.1f}"
            rows.append(element("tr", cells, _number(metric), _number(elapsed)))
    names = ("method", "rate", "step", "training loss", "held-out loss", "metric", "training s")
    head = element("tr", [element("th", n, class_="number" if i else None, scope="col") for i, n in enumerate(names)])
    more = element("p", f"{left_out} further points are in recommendation.json.", class_="quiet") if left_out else None
    table = element("details", element("summary", f"All {len(rows)} points as a table"), _table(head, rows), more)
    return element("div", figure, table)


def _requirements(result: Result) -> list[Markup]:
    lines = [element("li", line) for line in requirement_lines(result)]
    return [element("ul", lines, class_="left")] if lines else []


def _left(result: Result) -> list[Markup]:
    parts: list[Markup] = []
    if result.race and result.race.rungs:
        rungs = [element("li", line) for line in rung_lines(result)]
        parts.append(element("ul", rungs, class_="reasons quiet"))
    for heading, members in content.left_the_race(result):
        entries = [
            element("li", element("b", ", ".join(titles)), f": {reason}" if reason else "")
            for reason, titles in content.by_reason(members).items()
        ]
        parts += [element("h3", heading[0].upper() + heading[1:]), element("ul", entries, class_="left")]
    return parts


def _memory(result: Result) -> list[Markup | None]:
    figure = both_widths(
        charts.memory_chart, result, "Bytes reserved on the device at the peak of the planned run, by what holds them."
    )
    if figure is None:
        return []
    pick = result.pick
    note = element("p", clean(pick.memory.note), class_="quiet") if pick and pick.memory and pick.memory.note else None
    return [figure, charts.memory_legend(result), note]


def _next(result: Result, folder: Path | None) -> list[Markup]:
    parts: list[Markup] = []
    for step in next_steps(result, folder):
        parts.append(element("h3", step.heading))
        parts += [element("p", step.words)] if step.words else []
        parts += [element("pre", step.code)] if step.code else []
    pick = result.pick
    if pick is not None and pick.peft_config is not None:
        config = json.dumps(pick.peft_config, indent=2, default=sorted)
        parts.append(element("details", element("summary", "adapter_config.json"), element("pre", config)))
    return parts


def _provenance(result: Result) -> Markup:
    facts = facts_of_provenance(result)
    return element("dl", [[element("dt", label), element("dd", text)] for label, text in facts], class_="facts")
