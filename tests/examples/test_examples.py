"""The examples run as a reader would run them, on a tiny model and with a small budget."""

from __future__ import annotations

import sys

import pytest

from tests.advisor.tiny_run import save_tiny

pytestmark = pytest.mark.usefixtures("forked_workers")

SMALL = ["--budget", "0.25"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("examples") / "model", "llama"))


def run(main, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["example", *map(str, arguments)])
    main()


def test_chat(model, monkeypatch, tmp_path, capsys):
    from examples.chat import main

    run(main, monkeypatch, "--model", model, *SMALL, "--out", tmp_path / "out")
    shown = capsys.readouterr().out
    assert "Recommended" in shown
    assert "learning_rate" in shown
    assert (tmp_path / "out" / "train.py").exists()


def test_own_metric(model, monkeypatch, capsys):
    from examples.own_metric import main, right_letters

    assert right_letters(["abc", ""], ["abd", "x"]) == 0.5
    run(main, monkeypatch, "--model", model, *SMALL)
    assert "right letters" in capsys.readouterr().out


def test_plan_for_a_gpu(model, monkeypatch, capsys):
    from examples.plan_for_a_gpu import main

    run(main, monkeypatch, "--model", model, "--gpu", "RTX 4090")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 2 * 4
    assert any(line.endswith("fits") for line in lines)
