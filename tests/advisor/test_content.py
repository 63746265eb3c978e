"""The table shows the rates that the sentences are about, and marks them as these do."""

from __future__ import annotations

from advisor.deciding.decision import decide
from advisor.deciding.wording import compare
from advisor.recommendation import CandidateReport, Result
from advisor.report.content import mark, one_per_method
from tests.advisor.factories import candidate, device, result

NOISE = 0.02


def known(name: str, value: float, rate: float = 1e-4, gigabytes: float = 20.0, **fields) -> CandidateReport:
    """Measured in one race, with its own noise."""
    made = candidate(name, value, gigabytes, title=name, learning_rate=rate, **fields)
    noise = {"noise": NOISE}
    told = {field: getattr(made, field).model_copy(update=noise) for field in ("predicted", "predicted_loss")}
    return made.model_copy(update=told)


def decided(*candidates: CandidateReport, limit_gigabytes: float = 80.0) -> Result:
    judged, decision = decide(candidates, device(limit_gigabytes), "accuracy")
    made = result(candidates, device=device(limit_gigabytes))
    return made.model_copy(update={"candidates": tuple(judged), "recommendation": decision})


def row(found: Result, name: str) -> CandidateReport:
    [shown] = [c for c in one_per_method(found) if c.name == name]
    return shown


LORA_LEFT = {"status": "eliminated", "steps": 20, "reason": "learning rate 1e-4 does better"}


def test_a_gain_over_lora_within_noise_is_a_tie_whichever_rate_of_it_is_meant():
    """With high confidence and no tie it was told as within noise of a rate that had left."""
    kept = known("lora", 0.5)
    found = decided(known("dora", 0.6), kept, known("lora", 0.59, 3e-4, **LORA_LEFT))
    assert "within noise" in found.recommendation.gain_over_lora
    assert found.recommendation.ties == ("lora",) and found.recommendation.confidence != "high"
    assert mark(row(found, "lora"), found) == "tie" and row(found, "lora").learning_rate == 3e-4


def test_a_rate_of_lora_that_is_ahead_beyond_noise_is_no_tie():
    found = decided(known("dora", 0.6), known("lora", 0.58), known("lora", 0.65, 3e-4, **LORA_LEFT))
    assert "5.0 points worse" in found.recommendation.gain_over_lora
    assert found.recommendation.ties == () and mark(row(found, "lora"), found) == "behind"


def test_an_own_finished_run_is_not_shown_in_place_of_the_rate_that_is_compared():
    ended = known("rslora", 0.45, steps=600, rests_on_own_runs=True)
    found = decided(known("dora", 0.6), known("rslora", 0.59, 3e-4), ended, known("lora", 0.4))
    assert found.recommendation.ties == ("rslora",)
    assert row(found, "rslora").learning_rate == 3e-4 and mark(row(found, "rslora"), found) == "tie"


def test_a_rate_that_does_not_fit_is_not_shown_in_place_of_one_that_does():
    too_large, fits = known("oft", 0.61, gigabytes=24.6), known("oft", 0.59, 3e-4, gigabytes=23.9)
    found = decided(known("dora", 0.6), too_large, fits, known("lora", 0.3), limit_gigabytes=24.0)
    assert found.recommendation.ties == ("oft",)
    assert row(found, "oft").learning_rate == 3e-4 and mark(row(found, "oft"), found) == "tie"
    alone = decided(known("dora", 0.6), too_large, limit_gigabytes=24.0)
    assert mark(row(alone, "oft"), alone) == "does not fit"


def test_one_that_needs_no_more_for_one_is_not_dearer_for_the_other():
    """201 MB of 20 GB are more than one percent of the one and less than that of the other."""
    less, more = known("dora", 0.6, gigabytes=20.0), known("lora", 0.6, gigabytes=20.201)
    assert "needs 201 MB more" in compare(more, less, "predicted")
    assert "needs 201 MB less" in compare(less, more, "predicted")
