"""The journal keeps what was measured through any death of the process."""

import json

import pytest

from knowledge.errors import BadInput
from knowledge.schema import CurvePoint
from probes.racing.journal import Journal, is_in_use
from probes.schema import ProbeOutcome


def write_race(path, points=3):
    with Journal(path, "race-a", resume=False) as journal:
        for step in range(1, points + 1):
            journal.add_point("lora", CurvePoint(step=step, eval_loss=2.0 / step), "exact match")
        journal.add_outcome(ProbeOutcome(id="lora", status="finished", last_step=points))


def read_race(path):
    with Journal(path, "race-a", resume=True) as journal:
        return dict(journal.curves), dict(journal.outcomes)


def test_what_was_written_is_read_again(tmp_path):
    write_race(tmp_path / "journal.jsonl")
    curves, outcomes = read_race(tmp_path / "journal.jsonl")
    assert [p.eval_loss for p in curves["lora"].points] == [2.0, 1.0, pytest.approx(2 / 3)]
    assert curves["lora"].metric_name == "exact match"
    assert outcomes["lora"][0].status == "finished"


def test_what_is_only_read_is_neither_held_nor_changed(tmp_path):
    path = tmp_path / "journal.jsonl"
    write_race(path)
    before = path.read_bytes()
    with Journal(path, "race-a", resume=True), Journal(path, "race-a", resume=True, read_only=True) as seen:
        seen.add_plan("a request", [1])
        assert seen.plans == {"a request": [1]} and seen.curves["lora"].last_step == 3
    with Journal(tmp_path / "none" / "journal.jsonl", "race-a", resume=True, read_only=True) as seen:
        assert seen.curves == {}
    assert path.read_bytes() == before and not (tmp_path / "none").exists()
    with pytest.raises(BadInput, match="another model"), Journal(path, "race-b", resume=True, read_only=True):
        pass


def test_probes_of_another_kind_of_device_are_not_mixed_in(tmp_path):
    path = tmp_path / "journal.jsonl"
    write_race(path)  # as of a version that kept no device
    for _ in range(2):
        with Journal(path, "race-a", resume=True) as journal:
            journal.goes_on_with("cpu")
    assert path.read_text().count('"device"') == 1
    with Journal(path, "race-a", resume=True) as journal, pytest.raises(BadInput, match=r"ran on 'cpu'.*on 'cuda'"):
        journal.goes_on_with("cuda")
    assert journal.device == "cpu" and read_race(path)[0]


def test_where_nothing_was_measured_another_race_may_begin(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, "race-a", resume=False) as journal:
        journal.goes_on_with("cpu")
        journal.add_plan("budget", {"fractions": [0.1]})
    with Journal(path, "race-b", resume=False) as journal:
        assert not journal.plans and journal.device == ""
        journal.add_plan("budget", {"fractions": [0.2]})
    with Journal(path, "race-b", resume=True) as journal:
        assert journal.plans == {"budget": {"fractions": [0.2]}}
        journal.add_point("lora", CurvePoint(step=1, eval_loss=2.0), "exact match")
    with pytest.raises(BadInput, match="already holds a race"), Journal(path, "race-b", resume=False):
        pass
    assert read_race_of("race-b", path)["lora"].points


def read_race_of(name, path):
    with Journal(path, name, resume=True) as journal:
        return dict(journal.curves)


def test_losses_of_rows_and_forgetting_are_read_again_and_older_journals_had_none(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, "race-a", resume=False) as journal:
        journal.add_outcome(
            ProbeOutcome(id="lora", status="finished", row_losses=(1.5, 0.25), row_right=(1, 2), forgetting=0.125)
        )
    assert read_race(path)[1]["lora"][0].row_losses == (1.5, 0.25)
    assert read_race(path)[1]["lora"][0].row_right == (1, 2)
    assert read_race(path)[1]["lora"][0].forgetting == 0.125
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("row_losses", "row_right", "forgetting", "forgetting_noise", "forgetting_note"):
        del lines[1]["outcome"][name]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_race(path)[1]["lora"][0].row_losses == ()
    assert read_race(path)[1]["lora"][0].forgetting is None


@pytest.mark.fault("journal cut at every byte")
def test_cut_at_every_byte_it_loses_only_the_torn_line_and_takes_new_ones(tmp_path, record_property):
    write_race(tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    record_property("injected", len(whole) + 1)
    lines_before = [whole[:cut].count(b"\n") for cut in range(len(whole) + 1)]
    for cut in range(len(whole) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:cut])
        with Journal(path, "race-a", resume=True) as journal:
            seen = sum(len(c.points) for c in journal.curves.values()) + sum(map(len, journal.outcomes.values()))
            assert seen == max(0, lines_before[cut] - 1)  # the first line is the header
            journal.add_point("dora", CurvePoint(step=1, eval_loss=1.5), "exact match")
        curves, _ = read_race(path)
        assert curves["dora"].points[0].eval_loss == 1.5
        for line in path.read_text().splitlines():
            json.loads(line)


def test_a_repeated_step_replaces_the_older_measurement(tmp_path):
    write_race(tmp_path / "journal.jsonl")
    with Journal(tmp_path / "journal.jsonl", "race-a", resume=True) as journal:
        journal.add_point("lora", CurvePoint(step=2, eval_loss=0.5), "exact match")
        assert [(p.step, p.eval_loss) for p in journal.curves["lora"].points][1] == (2, 0.5)


def test_a_point_that_is_evaluated_once_more_keeps_the_training_that_led_there(tmp_path):
    point = CurvePoint(step=2, train_loss=0.7, eval_loss=0.5)
    with Journal(tmp_path / "journal.jsonl", "race-a", resume=False) as journal:
        journal.add_point("lora", point, "exact match")
        journal.add_point("lora", point.model_copy(update={"train_loss": None}), "exact match")
    with Journal(tmp_path / "journal.jsonl", "race-a", resume=True) as journal:
        assert journal.curves["lora"].points == (point,)


def test_another_race_is_neither_overwritten_nor_mixed_in(tmp_path):
    path = tmp_path / "journal.jsonl"
    write_race(path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match="--resume"), Journal(path, "race-a", resume=False):
        pass
    with pytest.raises(BadInput, match="data, metric or planned run"), Journal(path, "race-b", resume=True):
        pass
    assert path.read_bytes() == before


def test_two_races_cannot_hold_one_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    write_race(path)
    with (
        Journal(path, "race-a", resume=True),
        pytest.raises(BadInput, match="Another race"),
        Journal(path, "race-a", resume=True),
    ):
        pass
    assert read_race(path)[0]  # and the lock is free again


def test_whether_it_is_held_can_be_asked_without_taking_it(tmp_path):
    path = tmp_path / "none yet" / "journal.jsonl"
    assert not is_in_use(path) and not path.parent.exists()
    with Journal(path, "race-a", resume=False) as journal:
        assert is_in_use(path)
        journal.add_outcome(ProbeOutcome(id="lora", status="finished"))
    assert not is_in_use(path)
    assert read_race(path)[1]["lora"]  # and the lock is free after the question


def test_values_that_are_no_numbers_never_enter(tmp_path):
    with pytest.raises(ValueError):
        CurvePoint(step=1, eval_loss=float("nan"))
