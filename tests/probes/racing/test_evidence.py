"""What is known of a race while it runs."""

from __future__ import annotations

from probes.racing.evidence import Evidence
from probes.schema import ProbeOutcome
from tests.probes.races import curve


def outcome(id: str, status: str, last_step: int, reason: str = "") -> ProbeOutcome:
    return ProbeOutcome(id=id, status=status, reason=reason, last_step=last_step, duration_s=1.0)


def evidence() -> Evidence:
    lost = outcome("lost", "failed", 3, "its worker died")
    return Evidence(
        {"far": curve(3.0, 2.0), "lost": curve(3.0)},
        {
            "far": [outcome("far", "finished", 5), outcome("far", "out of memory", 7), outcome("far", "finished", 10)],
            "lost": [outcome("lost", "finished", 5), lost],
        },
        failed={"lost": lost},
    )


def test_how_far_a_candidate_is_on_record_is_told_by_what_came_to_an_end():
    found = evidence()
    assert [found.done_step(id) for id in ("far", "lost", "unknown")] == [10, 5, 0]
    assert found.ran_out_of_memory("far") and not found.ran_out_of_memory("lost")


def test_what_was_known_at_a_step_is_told_of_an_earlier_one_too():
    found = evidence()
    assert {id: o.last_step for id, o in found.last_finished(5).items()} == {"far": 5, "lost": 5}
    assert {id: o.last_step for id, o in found.last_finished(10).items()} == {"far": 10, "lost": 5}
    assert found.last_finished(4) == {}
    assert found.failed_before(10) == {"lost": "its worker died"}
    assert found.failed_before(5) == {}, "it was still in the race there"
    assert {id: c.last_step for id, c in found.curves_at(5).items()} == {"far": 5, "lost": 5}
