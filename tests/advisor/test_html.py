"""The report page: what it shows, that nothing foreign becomes markup, and how a real browser renders it."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import itertools
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from advisor.report import content
from advisor.report.html import page, render_fragment, write_report
from advisor.report.markup import Markup, element
from advisor.report.plot import Frame, Labels, Scale, spread
from advisor.requirements.effects import effects
from knowledge.schema import Curve
from tests.advisor.factories import candidate, curve, field_of_candidates, result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Reader(HTMLParser):
    """Elements, attributes and text, as a browser would see them."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def hostile(nasty: str):
    """A result in which every string from outside is `nasty`."""
    base = result()
    return base.model_copy(
        update={
            "command": nasty,
            "versions": {nasty: nasty},
            "model": base.model.model_copy(update={"reference": nasty, "location": nasty}),
            "data": base.data.model_copy(update={"path": nasty, "format": nasty}),
            "device": base.device.model_copy(update={"name": nasty, "driver": nasty}),
            "files": (f"{nasty}/train.py", f"{nasty}/adapter_config.json"),
            "candidates": tuple(
                c.model_copy(update={"title": nasty, "reason": nasty, "peft_config": {nasty: nasty}})
                for c in base.candidates
            ),
            "recommendation": base.recommendation.model_copy(
                update={
                    "title": nasty,
                    "reasons": (nasty,),
                    "warnings": (nasty,),
                    "gain_over_lora": nasty,
                    "alternatives": (nasty,),
                    "ties": (nasty,),
                }
            ),
        }
    )


def test_the_page_tells_the_whole_story():
    text = " ".join(Reader(page(result(), Path("out"))).text.split())
    for fact in (
        "Recommended, with moderate confidence",
        "rsLoRA at learning rate 1e-4",
        "5.4 points better in exact match",
        "53.2 %",
        "22.6 GB",
        "limit 24.0 GB",
        "untuned model: 4.0 %",
        "training loss is nan at step 14",
        "Rung 1: to step 20, 11 entered",
        "python out/train.py",
        "vllm serve meta-llama/Llama-3.2-3B --enable-lora --lora-modules tuned=out/adapter --max-lora-rank 32",
        "advisor recommend --model meta-llama/Llama-3.2-3B",
        "torch 2.13.0",
        "NVIDIA RTX 4090",
        "seed",
    ):
        assert fact in text, fact


def test_the_charts_are_well_formed_and_hold_every_candidate():
    charts = re.findall(r"<svg.*?</svg>", page(result()), re.DOTALL)
    assert len(charts) == 6  # frontier, curves and memory, each wide and narrow
    frontier = ElementTree.fromstring(charts[0])
    names = {e.text.split(" at ")[0] for e in frontier.iter() if e.tag.endswith("title") and " at " in (e.text or "")}
    assert {"rsLoRA", "DoRA", "LoRA", "OFT", "BEFT", "Lily", "Full fine-tuning"} <= names
    for chart in charts[1:]:
        ElementTree.fromstring(chart)


def test_what_needs_far_more_memory_than_all_that_competes_does_not_press_them_together():
    near = [candidate("lora", 0.50, 12.0), candidate("oft", 0.48, 13.0, title="OFT")]
    places = {}
    for gb in (14.0, 15.0, 40.0):
        full = candidate("full", 0.52, gb, title="Full fine-tuning", status="reference")
        wide = re.search(r"<svg.*?</svg>", page(result([*near, full])), re.DOTALL)[0]
        places[gb] = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', wide)]
        assert ("Full fine-tuning, 40.0 GB<" in wide) == (gb == 40.0)
    assert len(places[14.0]) == 2  # OFT and full fine-tuning; the pick is a diamond
    assert len(places[40.0]) == 1  # an arrowhead at the end of the axis in place of its dot
    assert places[40.0][0] > min(places[15.0])  # OFT has more room than with the other on the axis


def test_of_a_tied_method_the_rate_that_ties_alone_is_marked_so():
    rates = [
        candidate("oft", 0.495, 12.0, title="OFT", learning_rate=1e-4),
        candidate("oft", 0.44, 12.0, title="OFT", learning_rate=2e-4),
        candidate("oft", 0.30, 12.0, title="OFT", learning_rate=3e-4, status="eliminated", steps=20),
        candidate("oft", None, 12.0, title="OFT", learning_rate=4e-4, status="diverged", curve=curve(9.0)),
    ]
    answer = result([candidate("lora", 0.50, 12.0), *rates])
    assert answer.recommendation.ties == ("OFT",)
    marks = {c.learning_rate: content.mark(c, answer) for c in answer.candidates if c.name == "oft"}
    assert marks == {1e-4: "tie", 2e-4: "", 3e-4: "behind", 4e-4: ""}
    curves = re.findall(r"<svg.*?</svg>", page(answer), re.DOTALL)[2]
    assert len(re.findall(r'class="line is-tie"', curves)) == 1


def test_every_point_of_the_curves_is_in_the_table():
    answer = result()
    document = page(answer)
    for c in answer.candidates:
        for point in c.curve.points:
            assert f'<td class="number">{point.eval_loss:.4f}</td>' in document


def test_the_page_needs_nothing_and_runs_nothing():
    document = page(result())
    seen = Reader(document)
    assert not set(seen.tags) & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("style", "href", "src")]
    assert set(re.findall(r"https?://[^\"'\s<]+", document)) == {"http://www.w3.org/2000/svg"}
    policy = next(value for name, value in seen.attributes if "default-src" in value)
    style = re.search(r"<style>(.*?)</style>", document, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@pytest.mark.parametrize(
    "nasty",
    [
        "</title></style></svg><script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        "]]><!--",
        "&lt;script&gt; & <b>",
        "\x1b[31m\x00\u202e",
    ],
)
def test_hostile_strings_stay_text(nasty):
    honest, attacked = Reader(page(result())), Reader(page(hostile(nasty)))
    assert set(attacked.tags) <= set(honest.tags)
    assert {name for name, _ in attacked.attributes} <= {name for name, _ in honest.attributes}
    assert not set(attacked.text) & set("\x00\x1b\u202e")
    visible = re.sub(r"[\x00\x1b\u202e]", "", nasty)
    assert visible in attacked.text


def test_markup_is_made_by_element_alone():
    assert element("p", "<b>", Markup("<i></i>"), None, title='"x"') == '<p title="&quot;x&quot;">&lt;b&gt;<i></i></p>'


def test_a_result_without_a_pick_or_curves_still_makes_a_page():
    nothing = page(result([candidate(status="diverged", reason="training loss is nan")]))
    assert "No method came through" in nothing
    bare = [c.model_copy(update={"curve": Curve(), "status": "from table"}) for c in field_of_candidates()[:3]]
    from_table = page(result(bare, race=None, data=None, training=None, files=()))
    assert "Nothing was probed" in from_table
    assert "Held-out loss of the probes" not in from_table


def test_methods_that_left_for_one_reason_share_a_line():
    left = [candidate(n, None, None, title=n.upper(), status="excluded", reason="not asked for") for n in ("a", "b")]
    assert "<b>A, B</b>: not asked for" in page(result([candidate(), *left]))


def test_captions_tell_of_what_is_drawn_alone():
    def words(made):
        return " ".join(Reader(page(made, Path("out"))).text.split())

    both = words(result([candidate(on_frontier=True), candidate("oft", 0.4, 5.0, title="OFT", on_frontier=True)]))
    assert "Dashed lines mark the rungs" in both and "The line joins the frontier" in both
    plain = result([candidate(on_frontier=True)])
    race = plain.race.model_copy(update={"rungs": plain.race.rungs[:1]})
    none = words(plain.model_copy(update={"race": race}))
    assert "Dashed lines" not in none and "The line joins" not in none


def test_one_candidate_alone_makes_a_chart():
    assert page(result([candidate()])).count("<svg") == 6


def test_ticks_are_round_and_labels_keep_their_distance():
    assert Scale(19.3, 26.4, 0, 100).ticks(8) == [20, 21, 22, 23, 24, 25, 26]
    assert Scale(0, 0.05, 0, 100).ticks(5) == [0, 0.01, 0.02, 0.03, 0.04, 0.05]
    sizes = Frame(400, 300).x_of_sizes([0.9, 1.1, 7.0])
    assert sizes.ticks(8) == [1, 2, 5]
    assert sizes(2) - sizes(1) == pytest.approx(sizes(4) - sizes(2))
    assert isinstance(Frame(400, 300).x_of_sizes([19.3, 26.4]), Scale)
    assert Frame(400, 300).x_of_sizes([0.0, 26.4]).ticks(3) == [0, 20]
    moved = spread([10, 11, 12, 200], 15, 0, 210)
    assert moved == sorted(moved)
    assert min(b - a for a, b in itertools.pairwise(moved)) >= 15
    labels = Labels(Frame(400, 300))
    placed = [labels.place("a long name", 200, 150) for _ in range(10)]
    assert placed.count(None) >= 4


def test_the_report_is_written_whole(tmp_path):
    path = write_report(tmp_path / "report.html", result(), tmp_path / "out")
    assert path.read_text(encoding="utf-8") == page(result(), tmp_path / "out")
    assert f"advisor train {tmp_path}/out" in path.read_text(encoding="utf-8")


def test_a_notebook_gets_the_page_in_a_frame_of_its_own():
    frame = Reader(render_fragment(result()))
    assert frame.tags == ["iframe"]
    attributes = dict(frame.attributes)
    assert attributes["sandbox"] == ""
    assert attributes["srcdoc"] == page(result()).rstrip("\n")


# ---------------------------------------------------------------- in a real browser


Colours = dict[tuple[int, int, int], int]


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium here")

    def render(document: str, width: int, height: int, *flags: str) -> bytes:
        source, picture = tmp_path / "page.html", tmp_path / "page.png"
        source.write_text(document, encoding="utf-8")
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars", f"--window-size={width},{height}"]
        command += [f"--screenshot={picture}", *flags, source.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return picture.read_bytes()

    return render


def colours(png: bytes, box: tuple[int, int, int, int]) -> Colours:
    """How many pixels of each colour there are within (left, top, right, bottom)."""
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(png)).convert("RGB").crop(box)
    return {colour: count for count, colour in image.getcolors(maxcolors=2**24)}


def rgb(code: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(code)
    return red, green, blue


LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"


@pytest.mark.parametrize(("scheme", "background", "pick"), [(LIGHT, "fbfaf8", "0b7a53"), (DARK, "14171d", "4cc794")])
def test_the_plot_is_there_in_light_and_dark(browser, scheme, background, pick):
    picture = browser(page(result()), 1000, 1000, scheme)
    whole = colours(picture, (0, 0, 1000, 1000))
    assert max(whole, key=whole.get) == rgb(background)
    plot = colours(picture, (60, 540, 940, 980))
    assert plot.get(rgb(pick), 0) > 60  # the diamond of the pick, drawn in its colour


def test_on_a_phone_the_narrow_chart_is_shown_and_nothing_sticks_out(browser):
    inner = page(result()).replace("&", "&amp;").replace('"', "&quot;")
    frame = f'<iframe srcdoc="{inner}" width=390 height=1500 frameborder=0></iframe>'
    picture = browser(f'<body style="margin:0;background:#f0f">{frame}', 500, 1500, LIGHT)
    assert colours(picture, (0, 700, 390, 1500)).get(rgb("0b7a53"), 0) > 60
    assert set(colours(picture, (392, 0, 500, 1490))) == {rgb("ff00ff")}


def test_no_request_leaves_the_page(browser):
    asked: list[str] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        lures = f'"></title><img src="{url}img"><link rel=stylesheet href="{url}css"><script src="{url}js"></script>'
        browser(page(hostile(lures + f"<style>@import '{url}import'</style>")), 800, 600)
        assert asked == []
        # The trap works: the same lures outside of the page's care are fetched.
        browser(f"<img src='{url}img'>", 800, 600)
        assert asked == ["/img"]
    finally:
        server.shutdown()
        server.server_close()


def test_what_requirements_took_out_is_told_and_escaped():
    out = candidate("lily", status="excluded", title="<b>Lily</b>", violates=("mergeable",), reason="cannot be merged")
    shown = page(result([candidate(), out], requirements=effects(["mergeable"], [candidate(), out])))
    assert "What the requirements took out" in shown
    assert "mergeable: 1 method removed (&lt;b&gt;Lily&lt;/b&gt;)" in shown
    assert "What the requirements took out" not in page(result())
