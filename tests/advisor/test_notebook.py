"""A notebook's cell, executed by the shell that notebooks run: `rec` shows itself, and its data is a table."""

from __future__ import annotations

import pytest

from advisor.outcome import Recommendation
from tests.advisor.factories import result


@pytest.fixture
def shell():
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    capture = pytest.importorskip("IPython.utils.capture")
    made = interactive.InteractiveShell.instance(history_manager=None)
    made.user_ns["rec"] = Recommendation(result())

    def run(cell: str):
        """What the cell displays: (outcome, {MIME type: text})."""
        with capture.capture_output() as captured:
            done = made.run_cell(cell, store_history=False)
        assert done.success, captured.stdout
        data, _ = made.display_formatter.format(done.result)
        return done.result, data

    yield run
    interactive.InteractiveShell.clear_instance()


def test_a_recommendation_shows_summary_and_frontier_by_itself(shell):
    _, shown = shell("rec")
    page = shown["text/html"]
    assert page.startswith("<iframe") and "sandbox" in page
    assert "&lt;svg" in page and "Quality against memory" in page  # the frontier, inside of the frame
    assert "Recommended" in shown["text/plain"] and "rsLoRA" in shown["text/plain"]
    assert "frontier" in shown["text/plain"] and "\x1b" not in shown["text/plain"]


def test_its_candidates_are_a_table_that_is_shown_too(shell):
    frame, shown = shell("rec.to_dataframe().sort_values('predicted', ascending=False)")
    assert list(frame.method)[:2] == ["lily", "full"]
    assert "<table" in shown["text/html"]


def test_without_a_pick_it_says_so(shell):
    _, shown = shell(
        "from advisor.outcome import Recommendation\n"
        "from tests.advisor.factories import result\n"
        "Recommendation(result([]))"
    )
    assert "No recommendation" in shown["text/plain"]
    assert "No method came through" in shown["text/html"]


def test_what_the_package_offers_is_found_by_completion(shell):
    found, _ = shell("import advisor; dir(advisor)")
    assert {"recommend", "estimate_memory"} <= {*found}
