from contextlib import suppress

import pytest

from advisor.files import gone_after
from knowledge.errors import BadInput, NothingFits


@pytest.mark.parametrize(
    ("there", "error", "left"),
    [
        ("", NothingFits, ""),
        ("runs", NothingFits, "runs"),
        ("runs/race", NothingFits, "runs runs/race runs/race/journal.jsonl"),
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
