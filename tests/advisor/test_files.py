from contextlib import suppress
from pathlib import Path

import pytest

from advisor.files import gone_after, own_folder
from knowledge.errors import BadInput, NothingFits


@pytest.mark.parametrize(
    ("there", "error", "left"),
    [
        ("", NothingFits, ""),
        ("runs", NothingFits, "runs"),
        ("runs/race", NothingFits, "runs runs/race"),
        ("runs/race/own", NothingFits, "runs runs/race runs/race/journal.jsonl runs/race/own"),
        ("", BadInput, "runs runs/race runs/race/journal.jsonl"),
    ],
)
def test_a_folder_that_was_made_for_nothing_goes_again_and_one_that_was_there_stays(tmp_path, there, error, left):
    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    race = tmp_path / "runs" / "race"
    with suppress(error), gone_after(NothingFits, race):
        race.mkdir(parents=True, exist_ok=True)
        (race / "journal.jsonl").touch()
        raise error("made for this test")
    assert " ".join(sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))) == left


def test_what_another_race_made_beside_it_stays(tmp_path):
    with pytest.raises(NothingFits), gone_after(NothingFits, tmp_path / "runs" / "race"):
        for name in ("race", "other"):
            (tmp_path / "runs" / name).mkdir(parents=True)
        raise NothingFits("made for this test")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["other"]


def test_two_that_ask_for_the_same_folder_at_once_get_one_each(tmp_path):
    wanted = tmp_path / "runs" / "model-20260101-120000"
    with own_folder(wanted) as first, own_folder(wanted) as second, own_folder(wanted) as third:
        assert [p.name.removeprefix(wanted.name) for p in (first, second, third)] == ["", "-2", "-3"]
        (second / "recommendation.json").touch()
    assert [path.name for path in wanted.parent.iterdir()] == [second.name], "those with nothing in them are gone"


def test_an_own_folder_that_nothing_is_written_to_leaves_nothing_behind(tmp_path):
    with suppress(BadInput), own_folder(tmp_path / "runs" / "race"):
        raise BadInput("made for this test")
    assert not any(tmp_path.iterdir())


def test_an_own_folder_that_cannot_be_made_is_left_to_its_writer(tmp_path):
    (tmp_path / "runs").touch()
    with own_folder(tmp_path / "runs" / "race") as folder:
        assert folder == tmp_path / "runs" / "race"


def test_commands_without_out_that_begin_in_one_second_write_to_two_folders(tmp_path, monkeypatch):
    from advisor import api
    from advisor.cli import recommend

    places = []

    def run(*_, out, **__):
        (out / "journal.jsonl").touch()
        places.append(out)
        raise BadInput("made for this test")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "run", run)
    monkeypatch.setattr(recommend, "_default_folder", lambda model: Path("runs/model-20260101-120000"))
    for _ in range(2):
        with pytest.raises(BadInput):
            recommend.command(model="m", data="d")
    assert len(set(places)) == 2 and all((place / "journal.jsonl").exists() for place in places)
