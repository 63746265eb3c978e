from pathlib import Path

from knowledge.places import at_home


def test_the_home_folder_is_put_in_and_other_names_stay(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert at_home("~/runs") == Path("/somewhere/runs")
    assert at_home(Path("~")) == Path("/somewhere")
    for name in ("~nobody-of-that-name/runs", "~my.jsonl", "runs/~"):
        assert at_home(name) == Path(name)
