"""The example of a race on a cluster runs as a reader would run it, on a tiny model."""

import sys
from importlib.util import find_spec

import pytest

from tests.advisor.tiny_run import save_tiny, write_rows

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def test_ray_cluster(tmp_path, monkeypatch, capsys):
    from examples.ray_cluster import main

    model, data = save_tiny(tmp_path / "model", "llama"), write_rows(tmp_path / "rows.jsonl", "causal-lm")
    arguments = ["--model", model, "--data", data, "--budget", 2, "--max-steps", 20, "--methods", "lora", "ia3"]
    monkeypatch.setattr(sys, "argv", ["example", *map(str, arguments)])
    main()
    shown = capsys.readouterr().out
    assert "Recommended" in shown
    assert shown.endswith("2 workers on 2 nodes\n")
