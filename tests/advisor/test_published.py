"""The answer for image generators: from published runs of the same model, told as such."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from advisor import recommend
from advisor.cli import build
from advisor.published import SETTLED_POINTS, evaluation_noise
from advisor.report.next_steps import next_steps
from knowledge import table
from knowledge.errors import BadInput, NothingFits
from knowledge.schema import Curve, CurvePoint

MODEL = "flux2-klein"
RUNS = [r for r in table.shipped() if r.task == "text-to-image" and r.metric is not None]


def answer(**options):
    return recommend(MODEL, probe=False, show_progress=False, **options).result


def test_every_figure_of_the_pick_is_that_of_its_published_run():
    result = answer(vram="12GB")
    pick = result.pick
    run = next(r for r in RUNS if (r.method, r.learning_rate, r.peak_bytes) == _key(pick))
    assert pick.predicted.value == run.metric
    assert pick.drift == run.drift
    assert pick.planned_run_s == run.train_s
    assert pick.memory.basis == "published"
    assert pick.fits
    assert {"peft_type": run.peft_type, **run.peft_config} == dict(pick.peft_config)


def _key(candidate):
    return candidate.name, candidate.learning_rate, candidate.memory.peak_bytes


def test_the_card_decides_who_may_be_picked():
    small, large = answer(vram="10.2GB", objective="accuracy"), answer(vram="80GB", objective="accuracy")
    assert small.pick.memory.peak_bytes <= small.device.limit_bytes
    assert large.pick.predicted.value >= small.pick.predicted.value
    assert any(c.fits is False for c in small.candidates)


def test_of_two_runs_of_a_method_at_one_rate_the_one_that_fits_stands_for_it():
    lora = sorted((r for r in RUNS if r.method == "lora"), key=lambda r: r.peak_bytes)
    between = (lora[0].peak_bytes + lora[1].peak_bytes) // 2
    shown = next(c for c in answer(vram=f"{between}B").candidates if c.name == "lora")
    assert shown.memory.peak_bytes == lora[0].peak_bytes


def test_intervals_are_as_wide_as_neighbouring_evaluations_differ():
    points = [CurvePoint(step=i, metric=0.5 + (0.1 if i % 2 else 0.0)) for i in range(8)]
    run = RUNS[0].model_copy(update={"curve": Curve(points=tuple(points))})
    assert evaluation_noise([run]) == pytest.approx(0.1 / 2**0.5)
    steady = points[:-SETTLED_POINTS] + [CurvePoint(step=i, metric=0.7) for i in range(8, 8 + SETTLED_POINTS)]
    assert evaluation_noise([run.model_copy(update={"curve": Curve(points=tuple(steady))})]) == 0.0
    widths = {round(c.predicted.high - c.predicted.low, 9) for c in answer(vram="24GB").candidates if c.predicted}
    assert len(widths) == 1


def test_it_says_that_nothing_was_probed_and_that_the_images_were_others(tmp_path):
    command = ["recommend", "--model", MODEL, "--no-probe", "--vram", "12GB", "--quiet", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 0, done.output
    assert "Nothing was probed" in done.output
    assert "on other data" in " ".join(done.output.split())
    assert "drift" in done.output


def test_the_whole_answer_is_there_as_json(tmp_path):
    command = ["recommend", "--model", MODEL, "--task", "text-to-image", "--no-probe", "--vram", "12GB", "--json"]
    done = CliRunner().invoke(build(), [*command, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["planned_run"]["task"] == "text-to-image"
    assert (tmp_path / "out" / "adapter_config.json").exists()


def test_the_next_step_is_for_the_pipelines_transformer_and_none_is_for_a_server_of_language_models():
    [step] = next_steps(answer(vram="12GB"))
    assert "pipeline.transformer = peft.get_peft_model(pipeline.transformer, config)" in step.code


def test_full_fine_tuning_is_shown_and_not_recommended():
    """Its published run is shorter than the others, so that its time is none of the run that is told."""
    settings = {"probe": False, "vram": "80GB", "show_progress": False}
    full = next(c for c in recommend("flux2-klein", **settings).candidates if c.name == "full")
    assert full.status == "reference" and full.predicted is not None and full.planned_run_s is None
    assert recommend("flux2-klein", methods=("full",), **settings).result.recommendation is None


def test_requirements_and_exclusions_hold():
    result = answer(vram="24GB", require=["mergeable", "max-adapter-size=50MB"], exclude=["lora"])
    assert result.pick.capabilities["mergeable"]
    assert result.pick.adapter_bytes <= 50e6
    out = {c.name: c.reason for c in result.candidates if c.status == "excluded"}
    assert out["lora"] == "excluded by the request"


def test_all_methods_can_be_asked_for():
    assert answer(vram="24GB", methods=("all",)).pick == answer(vram="24GB").pick


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probe": True, "data": "cats.jsonl"}, "--no-probe"),
        ({"batch_size": 4}, "leave out batch_size"),
        ({"quantize": "nf4"}, "leave out quantize"),
        ({"gradient_checkpointing": True}, "leave out gradient_checkpointing"),
        ({"require": ("edge",)}, "small for a device"),
        ({"methods": ("lorra",)}, "no method 'lorra'"),
        ({}, "no GPU is here"),  # its processor's memory is no card's
        ({"require": ("vllm",)}, "serves no image generators"),
    ],
)
def test_what_the_published_runs_cannot_answer_is_refused(options, words):
    with pytest.raises(BadInput, match=words):
        recommend(MODEL, **{"probe": False, "show_progress": False, **options})


def test_without_repeated_evaluations_there_is_no_noise_to_tell():
    assert evaluation_noise([run.model_copy(update={"curve": Curve()}) for run in RUNS]) == 0


def test_a_generator_without_published_runs_is_refused_with_those_that_have_some():
    with pytest.raises(BadInput, match="no published run"):
        recommend("flux2", probe=False, show_progress=False)


def test_a_card_that_is_too_small_is_told_what_the_smallest_run_held():
    with pytest.raises(NothingFits, match="the smallest"):
        answer(vram="4GB")
