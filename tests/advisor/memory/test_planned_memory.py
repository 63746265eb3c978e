"""The memory of the planned run, corrected by what a probe held."""

from types import SimpleNamespace

import pytest

from advisor.candidates import Candidate
from advisor.memory.planned_memory import corrected_memory, scaled, with_memory
from knowledge.methods import get_method
from knowledge.schema import MemoryEstimate, PlannedRun
from probes import memory as dry_run
from probes import parallel
from probes.data.rows import TokenRows
from probes.memory.batches import row_lengths
from tests.advisor.factories import device
from tests.probes.memory.test_estimate import LORA, llama

RUN = PlannedRun(max_steps=50, batch_size=4, max_length_tokens=128)
ESTIMATE = MemoryEstimate(
    peak_bytes=1000, low_bytes=900, high_bytes=1200, breakdown={"weights": 700, "overhead": 300}, note="told before"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path))


@pytest.fixture
def rows():
    return TokenRows.build(([1] * n, [False] * 10 + [True] * (n - 10)) for n in range(20, 120))


def candidate(memory):
    return Candidate("lora", get_method("lora"), 1e-4, LORA, memory)


def survey(rows, **changes):
    return SimpleNamespace(
        config=llama(),
        planned_run=RUN,
        data=SimpleNamespace(train=rows),
        device=device(24.0).model_copy(update=changes),
    )


def test_all_of_the_estimate_changes_by_the_same_factor_and_the_parts_add_up():
    made = scaled(ESTIMATE, measured_bytes=110, dry_bytes=100)
    assert (made.peak_bytes, made.low_bytes, made.high_bytes) == (1100, 990, 1320)
    assert sum(made.breakdown.values()) == made.peak_bytes and made.breakdown["weights"] == 700
    assert made.basis == "dry run, corrected by the probe"
    assert made.note.startswith("told before; ") and made.note.endswith("corrected by +10.0 %")


@pytest.mark.parametrize("factor", [0.5, 0.8, 0.95, 1.3])
def test_no_part_is_less_than_nothing_however_much_less_was_held(factor):
    parts = {"weights": 300, "activations": 500, "logits": 150, "overhead": 50}
    made = scaled(ESTIMATE.model_copy(update={"breakdown": parts}), measured_bytes=round(100 * factor), dry_bytes=100)
    assert sum(made.breakdown.values()) == made.peak_bytes == round(1000 * factor)
    assert min(made.breakdown.values()) >= 0 and made.breakdown["weights"] == 300


def test_a_probe_is_compared_with_a_dry_run_of_its_own_batches(rows):
    here = survey(rows, planned=False)
    lengths = row_lengths(rows, RUN.task)
    expected = dry_run.peak_of_first_steps(here.config, LORA, RUN, 5, lengths_tokens=lengths)
    whole = dry_run.estimate_peak(here.config, LORA, RUN, lengths_tokens=lengths)
    assert expected <= whole.high_bytes
    exact = corrected_memory(candidate(whole), here, steps=5, measured_bytes=expected)
    assert exact.peak_bytes == whole.peak_bytes
    more = corrected_memory(candidate(whole), here, steps=5, measured_bytes=round(1.2 * expected))
    assert more.peak_bytes == pytest.approx(1.2 * whole.peak_bytes, rel=1e-6)


@pytest.mark.parametrize("elsewhere", [{"planned": True}, {"kind": "cpu", "planned": False}])
def test_what_was_measured_elsewhere_corrects_nothing(rows, elsewhere):
    assert corrected_memory(candidate(ESTIMATE), survey(rows, **elsewhere), steps=5, measured_bytes=5000) == ESTIMATE


def test_without_a_measurement_or_an_estimate_nothing_is_made_up(rows):
    here = survey(rows, planned=False)
    assert corrected_memory(candidate(ESTIMATE), here, steps=5, measured_bytes=None) == ESTIMATE
    assert corrected_memory(candidate(None), here, steps=5, measured_bytes=5000) is None


def test_what_does_not_fit_is_reported_with_its_memory_and_how_vllm_serves_this_model(rows):
    small = survey(rows, limit_bytes=1)
    small.shape, small.source = SimpleNamespace(is_narrow=False), SimpleNamespace(kind="gguf file")
    fitting, (report,) = with_memory([candidate(None)], small, lambda text: None)
    assert not fitting and (report.status, report.fits) == ("does not fit", False)
    assert report.memory.low_bytes > 1
    assert report.capabilities["vllm"] == "merged"


def test_dry_runs_on_other_cores_find_the_same_and_tell_what_cannot_be_estimated(rows, tmp_path, monkeypatch):
    def found(folder, worth_processes_s):
        monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path / folder))
        monkeypatch.setattr(parallel, "WORTH_PROCESSES_S", worth_processes_s)
        said = []
        fitting, too_large = with_memory(candidates, survey(rows, limit_bytes=10**12), said.append)
        assert not too_large
        return [c.memory for c in fitting], said

    monkeypatch.setattr(parallel, "cpu_cores", lambda: 2)
    broken = {**LORA, "target_modules": ["nowhere"]}
    names = {"lora": LORA, "rslora": {**LORA, "r": 64}, "dora": broken, "pissa": {**LORA, "r": 4}}
    candidates = [Candidate(name, get_method(name), 1e-4, config, None) for name, config in names.items()]
    here, there = found("here", 1e6), found("there", -1.0)
    assert here == there
    memories, said = here
    assert [memory is None for memory in memories] == [False, False, True, False]
    optimizer_bytes = [memory.breakdown["optimizer"] for memory in memories if memory]
    assert optimizer_bytes[1] > optimizer_bytes[0] > optimizer_bytes[2]
    assert said[:2] == ["dry run of memory: LoRA (1 of 4)", "dry run of memory: rsLoRA (2 of 4)"]
    assert said[3].startswith("no memory estimate for DoRA: ")
