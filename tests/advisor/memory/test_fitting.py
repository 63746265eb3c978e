"""The run that is planned where the user left it open: smaller portions first, a base in 4 bits only where needed."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from advisor import recommend
from advisor.memory.fitting import check_weights_fit, with_fitting_run
from advisor.request import make_request
from advisor.survey import survey
from knowledge.errors import NothingFits
from probes import memory
from tests.advisor.tiny_run import save_tiny

GB = 10**9


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A survey of the tiny model for a planned card, without data."""
    folder = save_tiny(tmp_path_factory.mktemp("model"), "llama")
    return survey(make_request(model=str(folder), vram="1GB", probe=False), lambda _: None)


@pytest.fixture
def needs(monkeypatch):
    """Makes LoRA need `base` GB (a third of it in nf4) and `row` GB for each row of a batch; up to `spread` more
    in an unlucky order of batches."""

    def need(base: float, row: float, spread: float = 0.0) -> None:
        def estimate(config, adapter, run, **settings):
            weights = base / 3 if run.quantization == "nf4" else base
            peak = round((weights + row * run.batch_size) * GB)
            return memory.MemoryEstimate(peak_bytes=peak, low_bytes=peak, high_bytes=round((1 + spread) * peak))

        monkeypatch.setattr(memory, "estimate_peak", estimate)

    return need


def fitted(found, limit_gigabytes, **request):
    said: list[str] = []
    device = found.device.model_copy(update={"limit_bytes": round(limit_gigabytes * GB)})
    asked = found.request.model_copy(update=request)
    run = found.planned_run.model_copy(update={"batch_size": request.get("batch_size") or 8})
    return with_fitting_run(replace(found, device=device, request=asked, planned_run=run), said.append), said


def facts(survey):
    run = survey.planned_run
    return run.batch_size, run.gradient_accumulation_steps, run.quantization, survey.shape.quantization


def test_what_fits_stays_as_it_is(found, needs):
    needs(base=6, row=0.5)
    result, said = fitted(found, 10)
    assert facts(result) == (8, 1, "none", "none")
    assert said == []


@pytest.mark.parametrize(
    ("quantize", "fits", "advice"), [("none", False, "--quantize nf4"), ("auto", True, ""), ("nf4", True, "")]
)
def test_weights_that_are_more_than_the_card_has_need_no_dry_run_to_be_refused(found, quantize, fits, advice):
    """A card with half of what the weights take as they are, and twice what they take in 4 bits."""
    limit = found.model.parameters * (2 if found.planned_run.dtype == "float32" else 1)
    asked = found.request.model_copy(update={"quantize": quantize})
    small = replace(found, request=asked, device=found.device.model_copy(update={"limit_bytes": limit}))
    with nullcontext() if fits else pytest.raises(NothingFits, match=f"alone need .* Try {advice}"):
        check_weights_fit(small)


def test_smaller_portions_come_before_fewer_bits(found, needs):
    needs(base=6, row=1)
    result, said = fitted(found, 8)
    assert facts(result) == (2, 4, "none", "none")
    assert said[-1] == "the run is planned with batches of 2, 4 per optimizer step"


def test_a_base_that_does_not_fit_is_kept_in_4_bits_in_the_largest_portions_that_fit(found, needs):
    needs(base=12, row=1)
    result, said = fitted(found, 8)
    assert facts(result) == (4, 2, "nf4", "nf4")
    assert said[-1] == "the run is planned with batches of 4, 2 per optimizer step, and the base in nf4"


def test_what_fits_unless_batches_come_unluckily_is_better_than_nothing(found, needs):
    needs(base=12, row=0.5, spread=0.5)
    result, _ = fitted(found, 6)
    assert facts(result) == (4, 2, "nf4", "nf4")  # 6 GB expected; one row at a time may take 6.75


def test_what_fits_as_expected_in_full_is_not_kept_in_4_bits(found, needs):
    needs(base=22, row=0.01, spread=0.1)
    assert facts(fitted(found, 24, batch_size=8)[0]) == (8, 1, "none", "none")  # 24.3 GB in an unlucky order


def test_what_fits_by_no_means_stays_as_it_is(found, needs):
    needs(base=12, row=0.5)
    assert facts(fitted(found, 1)[0]) == (8, 1, "none", "none")


def test_a_batch_size_that_was_given_is_kept(found, needs):
    needs(base=12, row=0.5)
    assert facts(fitted(found, 8, batch_size=8)[0]) == (8, 1, "nf4", "nf4")


def test_what_was_asked_for_is_not_changed(found, needs):
    needs(base=12, row=1)
    assert facts(fitted(found, 8, quantize="none")[0])[2:] == ("none", "none")
    assert facts(fitted(found, 99, quantize="int8")[0])[2:] == ("int8", "int8")


def test_without_bitsandbytes_probes_stay_in_full_and_say_what_to_install(found, needs, monkeypatch):
    needs(base=12, row=1)
    monkeypatch.setattr("advisor.memory.fitting.find_spec", lambda name: None)
    result, said = fitted(found, 8, probe=True, data="rows.jsonl")
    assert facts(result)[2:] == ("none", "none")
    assert "peft-advisor[quantized]" in said[-1]
    assert facts(fitted(found, 8)[0])[2:] == ("nf4", "nf4")  # a dry run alone does not need it


def test_a_processor_is_not_looked_at(found, needs):
    needs(base=12, row=1)
    result, _ = fitted(replace(found, device=found.device.model_copy(update={"kind": "cpu"})), 1)
    assert facts(result) == (8, 1, "none", "none")


def test_an_answer_for_a_small_card_is_about_the_base_in_4_bits():
    """Llama-3.2-3B has 6.4 GB in bfloat16."""
    small = {"model": "llama", "probe": False, "vram": "7GB", "methods": ("lora", "qlora"), "show_progress": False}
    result = recommend(**small).result
    assert result.planned_run.quantization == "nf4"
    assert {c.name for c in result.candidates if c.memory} == {"lora"}  # no published run of QLoRA to judge it by
    with pytest.raises(NothingFits):
        recommend(**small, quantize="none")
