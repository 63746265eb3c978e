"""The summary as it looks: at 80 and 200 columns, with and without colour, in a pipe, with hostile names.

Snapshots lie in tests/advisor/snapshots; `UPDATE_SNAPSHOTS=1 pytest` writes them anew, to be looked at in the diff.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from advisor.recommendation import Result
from advisor.report.content import left_the_race, shown_candidates
from advisor.report.terminal import print_summary
from advisor.requirements.effects import effects
from tests.advisor.factories import candidate, curve, field_of_candidates, result

SNAPSHOTS = Path(__file__).parent / "snapshots"


def printed(summary_of: Result, columns: int, **console_settings) -> str:
    console = Console(file=io.StringIO(), width=columns, **console_settings)
    print_summary(summary_of, console, Path("out"))
    return console.file.getvalue()


def check_snapshot(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_snapshots(columns, terminal):
    text = printed(result(), columns, force_terminal=terminal, color_system=None)
    assert all(len(line) <= columns for line in text.splitlines())
    check_snapshot(f"summary-{columns}-{'terminal' if terminal else 'pipe'}.txt", text)


def test_a_very_narrow_table_keeps_qualities_whole():
    text = printed(result(), 40, force_terminal=False)
    assert re.search(r"▶.*53\.2 %", text)


@pytest.mark.parametrize("columns", [48, 56, 64, 72, 80, 119, 120])
def test_on_any_width_the_table_keeps_marks_qualities_and_memory_whole(columns):
    text = printed(result(), columns, force_terminal=False)
    rows = text[text.index("  method") :].splitlines()
    assert "…" not in rows[0] and all(len(line) <= columns for line in rows)
    pick = next(line for line in rows if line.startswith("▶"))
    for cell in ("rsLoRA", "1e-4", "53.2 %", "22.6 GB"):
        assert cell in pick
    assert ("80 % interval" in rows[0]) == (columns >= 64)
    assert ("run time" in rows[0]) == (columns >= 74)


def test_colour_changes_no_character():
    without_colour = printed(result(), 80, force_terminal=True, color_system=None)
    coloured = printed(result(), 80, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == re.sub(r"\x1b\[[0-9;]*m", "", without_colour)


def test_ten_seconds_are_enough():
    """The pick, its gain over LoRA, quality, memory, time, files and the next command come in the first screen."""
    screen = "\n".join(printed(result(), 80, force_terminal=False).splitlines()[:24])
    for fact in ("rsLoRA", "5.4 points better", "53.2 %", "untuned 4.0 %", "22.6 GB", "20 min", "advisor train out"):
        assert fact in screen


def test_a_long_name_gives_way_to_the_numbers():
    made = result()
    candidates = [c.model_copy(update={"title": "LoRA (all linear layers)"}) for c in made.candidates]
    text = printed(made.model_copy(update={"candidates": tuple(candidates)}), 80, force_terminal=False)
    rows = [line for line in text.splitlines() if "LoRA (all line" in line and " GB" in line]
    assert rows and not any(re.search(r"[0-9.]…", row) for row in rows)
    assert any("53.2 %" in row for row in rows)


def test_a_pipe_gets_no_escape_codes_and_no_trailing_blanks():
    text = printed(result(), 80)
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_an_encoding_without_our_marks_is_no_error():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_summary(result(), Console(file=stream, width=80))
    stream.flush()
    assert b"rsLoRA" in stream.buffer.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_hostile_strings_are_shown_and_not_obeyed(terminal):
    nasty = "[bold red]x[/bold red] [/] \x1b[2J\x1b]0;title\x07 a\u202eb\r\n[link=file:///etc/passwd]y"
    base = result()
    hostile = base.model_copy(
        update={
            "model": base.model.model_copy(update={"reference": nasty}),
            "data": base.data.model_copy(update={"path": nasty}),
            "files": (nasty, f"{nasty}/train.py"),
            "device": base.device.model_copy(update={"name": nasty}),
            "candidates": tuple(c.model_copy(update={"title": nasty, "reason": nasty}) for c in base.candidates),
        }
    )
    text = printed(hostile, 200, force_terminal=terminal, color_system=None)
    assert "[bold red]x[/bold red]" in text
    assert not set(re.sub(r"\x1b\[[0-9;]*m", "", text)) & set("\x1b\x07\r\u202e")


def test_without_a_pick_it_says_so_and_what_to_do():
    nothing = result([candidate(status="diverged", reason="training loss is nan at step 3")])
    text = printed(nothing, 80)
    assert "No recommendation" in text
    assert "None of them lacked memory; each is told with its reason." in text
    assert "diverged  lora (training loss is nan at step 3)" in text


def test_where_a_requirement_left_nothing_it_is_named():
    limit = "max-forgetting=0.1"
    reason = "forgets 0.300 nats per token, over 0.1"
    out = candidate(status="excluded", reason=reason, violates=(limit,), curve=candidate().curve)
    text = printed(result([out], requirements=effects([limit], [out])), 80)
    assert "Without --require max-forgetting=0.1 1 method comes back: lora. Or loosen its" in text
    assert "-  max-forgetting=0.1: 1 method removed (lora)" in text
    assert "--batch-size" not in text
    assert "excluded  lora at 1e-4 (forgets 0.300 nats per token, over 0.1)" in text


def test_what_a_requirement_costs_is_told_and_the_pick_is_not_called_behind():
    shown = [
        candidate("lora", 0.4, 12.0, learning_rate=1e-4, status="eliminated", reason="rate 1e-3 does better"),
        candidate("lora", 0.6, 12.0, learning_rate=1e-3, status="excluded", curve=candidate().curve, reason="forgets"),
    ]
    text = printed(result(shown), 80)
    assert "excluded  lora at 1e-3 (forgets)" in text
    assert "behind in the race" not in text
    assert re.search("▶ +lora +1e-4", text)


def test_what_a_requirement_took_out_comes_after_those_that_can_be_used_and_is_marked():
    shown = [
        candidate("lora", 0.4, 12.0),
        candidate("oft", 0.6, 12.0, status="excluded", reason="forgets", curve=candidate().curve),
    ]
    text = printed(result(shown), 80)
    assert text.index("▶   lora") < text.index("✗   oft")
    assert "✗ not as required" in text


def test_where_nothing_was_forgotten_there_is_no_word_of_it():
    classifier = [c.model_copy(update={"forgetting": None}) for c in field_of_candidates()]
    assert "forget" not in printed(result(classifier), 200)


def test_an_answer_from_the_table_says_that_nothing_was_probed():
    known = [c.model_copy(update={"status": "from table"}) for c in field_of_candidates()[:4]]
    known = [c.model_copy(update={"curve": type(c.curve)()}) for c in known]
    known.append(candidate("oft", None, status="excluded", reason="not mergeable"))
    text = printed(result(known, race=None, training=None, files=()), 80)
    assert "Left out" in text and "Left the race" not in text
    assert "Nothing was probed" in text
    assert "confidence: low" in text
    assert "from the table of published runs" in " ".join(text.split())


def test_the_rate_that_stayed_in_the_race_stands_for_its_method():
    """A shorter probe of another rate may promise more; it lost at equal steps."""
    field = [
        candidate("lora", 0.6, 12.0),
        candidate("oft", 0.5, 14.0, title="OFT", learning_rate=1e-3),
        candidate("oft", 0.55, 14.0, title="OFT", learning_rate=1e-4, noise=0.3, status="eliminated"),
    ]
    text = printed(result(field), 80)
    assert re.search(r"OFT +1e-3", text)
    assert not re.search(r"OFT +1e-4", text)


def test_who_stayed_in_the_race_is_shown_before_who_left_it_and_may_end_better():
    stayed = [candidate(f"stayed{i}", 0.4 + 0.01 * i, 14.0) for i in range(7)]
    left = [candidate(f"left{i}", 0.455, 14.0, status="eliminated", noise=0.2, reason="behind") for i in range(9)]
    text = printed(result([candidate("lora", 0.47, 12.0), *left, *stayed]), 80)
    table = text[text.index("method") : text.index("Why")]
    assert [f"stayed{i}" in table for i in range(7)] == [True] * 7 and "left" not in table
    assert "Tied in eval loss with stayed6, stayed5, stayed4, left0, " in " ".join(text.split())
    assert "advisor choose out stayed6" in text


def test_the_table_has_lora_at_the_rate_that_the_pick_is_compared_with():
    rates = [
        candidate("lora", 0.10, title="LoRA", learning_rate=3e-4),  # stayed, and stood still
        candidate("lora", 0.40, title="LoRA", learning_rate=1e-4, status="eliminated"),
    ]
    answer = result([candidate("oft", 0.60, 21.0, title="OFT"), *rates])
    [lora] = [c for c in shown_candidates(answer) if c.name == "lora"]
    assert lora.learning_rate == 1e-4
    assert answer.recommendation.gain_over_lora.startswith("Against tuned LoRA (rate 1e-4): 20.0 points better")


def test_a_tie_that_is_named_has_a_row():
    """Of many that left the race early, with ends that are foretold better, only one may be as good as the pick."""

    def seen(name, quality, noise, **fields):
        made = candidate(name, quality, **fields)
        return made.model_copy(update={"predicted": made.predicted.model_copy(update={"noise": noise})})

    left = [seen(f"m{i}", 0.5 + i / 100, 0.01, status="eliminated") for i in range(10)]
    vague = seen("frod", 0.45, 0.2, title="FRoD", status="eliminated")
    answer = result([seen("oft", 0.64, 0.01), seen("lora", 0.3, 0.01), *left, vague])
    assert answer.recommendation.ties == ("FRoD",)
    assert "FRoD" in [c.title for c in shown_candidates(answer)]


def test_what_never_applies_to_such_a_model_is_named_in_a_line_and_what_was_asked_for_with_its_reason():
    field = [
        candidate("lora"),
        *(candidate(f"m{i}", None, status="excluded", reason=f"is for a special purpose {i}") for i in range(12)),
        candidate("lily", None, status="excluded", reason="cannot be merged", violates=("mergeable",)),
        candidate("oft", None, status="excluded", reason="excluded by the request"),
    ]
    text = " ".join(printed(result(field), 80).split())
    assert "not applicable m0, m1, m2, m3, m4, m5, m6, m7 and 4 more (advisor inspect tells why)" in text
    assert "special purpose" not in text
    assert "lily (cannot be merged)" in text and "oft (excluded by the request)" in text


def test_of_a_method_that_left_the_rate_that_stayed_longest_tells_why():
    out = {"title": "OFT", "status": "eliminated"}
    early = candidate("oft", learning_rate=1e-4, reason="another rate does better", curve=curve(2.0, steps=8), **out)
    late = candidate("oft", learning_rate=1e-3, reason="0.093 behind at step 34", curve=curve(1.5, steps=34), **out)
    for order in ([early, late], [late, early]):
        assert left_the_race(result([candidate("lora"), *order]))[0][1] == [("OFT", "0.093 behind at step 34")]
    beaten = candidate("oft", learning_rate=1e-4, reason="learning rate 0.001 does better", curve=late.curve, **out)
    assert left_the_race(result([candidate("lora"), beaten, late]))[0][1] == [("OFT", "0.093 behind at step 34")]
