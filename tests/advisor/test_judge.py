"""What the evidence says of a candidate, beside its forecast."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from advisor.candidates import Candidate, report_without_probe
from advisor.judge import judge, judge_from_table, not_tried, shortlist_from_table, would_be_probed
from knowledge.methods import get_method
from knowledge.prior import MethodPrior
from knowledge.schema import Curve
from probes.racing.evidence import Evidence
from probes.schema import Baseline, ProbeOutcome
from tests.advisor.factories import memory, result


def proposed(*names):
    return [Candidate(name, get_method(name), 1e-4, {"r": 16}, memory(2.0)) for name in names]


def surveyed(*, source="hub", task="causal-lm", **device):
    """A survey with what reports are made of."""
    made = result()
    return SimpleNamespace(
        request=SimpleNamespace(metric=None),
        source=SimpleNamespace(kind=source),
        model=made.model,
        shape=None,
        planned_run=made.planned_run.model_copy(update={"task": task}),
        data=SimpleNamespace(profile=made.data, train=None),
        device=made.device.model_copy(update=device),
    )


@pytest.mark.parametrize(
    ("source", "task", "served"),
    [
        ("hub", "causal-lm", "adapter"),
        ("gguf file", "causal-lm", "merged"),
        ("hub", "sequence-classification", "no"),
        ("hub", "seq2seq-lm", "no"),
    ],
)
def test_a_report_without_a_probe_tells_how_vllm_serves_this_model_and_task(monkeypatch, source, task, served):
    monkeypatch.setattr("advisor.judge.SHORTLIST", 1)
    survey, candidates = surveyed(source=source, task=task), proposed("lora", "rslora")
    priors = {"lora": MethodPrior("lora", 0.6, 0.5, 0.7), "rslora": MethodPrior("rslora", 0.5, 0.4, 0.6)}
    method = get_method("lora")
    chosen, rest = shortlist_from_table(survey, candidates, priors)
    reports = [
        *not_tried(survey, candidates, {"lora": "no time"}),
        *would_be_probed(survey, candidates),
        *judge_from_table(survey, chosen, priors),
        *rest,
        report_without_probe(method, survey, "excluded", "not asked for", learning_rate=1e-4),
    ]
    assert [r.status for r in reports] == ["not tried", "planned", "planned", "from table", "not tried", "excluded"]
    assert {r.capabilities["vllm"] for r in reports} == {served}
    assert {r.capabilities["mergeable"] for r in reports} == {method.capabilities.mergeable}


def test_a_report_without_a_probe_keeps_what_is_known_of_its_candidate():
    (candidate,) = proposed("lora")
    (report,) = would_be_probed(surveyed(), [candidate])
    assert (report.learning_rate, report.memory, report.peft_config) == (1e-4, candidate.memory, {"r": 16})
    (reference,) = judge_from_table(surveyed(), proposed("full"), {"full": MethodPrior("full", 0.6, 0.5, 0.7)})
    assert reference.status == "reference"


def judged_memory(survey, probed_on, estimate, monkeypatch):
    """The memory in the report of a candidate whose probe held 7 GB; its dry run says 5 GB of the probe."""
    monkeypatch.setattr("advisor.judge.benchmark_of_survey", lambda survey: "")
    monkeypatch.setattr("probes.memory.peak_of_first_steps", lambda *a, **k: 5_000_000_000)
    monkeypatch.setattr("probes.memory.batches.row_lengths", lambda *a: None)
    survey.config = None
    (candidate,) = proposed("lora")
    candidate = Candidate(candidate.id, candidate.method, 1e-4, candidate.peft_config, estimate)
    outcome = ProbeOutcome(id="lora", status="failed", last_step=5, peak_bytes=7_000_000_000)
    curve = Curve.model_validate({"points": [{"step": 5, "eval_loss": 2.0}]})
    evidence = Evidence({"lora": curve}, {"lora": [outcome]}, failed={"lora": outcome})
    race = SimpleNamespace(decisions=[], finalists=(), beaten=())
    baseline = Baseline(eval_loss=2.0, metric=0.1, load_s=1.0, eval_s=1.0, eval_tokens=10)
    (report,) = judge(survey, [candidate], evidence, race, baseline, [], probed_on)
    assert report.probe_peak_bytes == 7_000_000_000
    return report.memory


@pytest.mark.parametrize("planned", [True, False])
def test_what_a_process_held_on_a_processor_is_not_the_memory_of_a_card(monkeypatch, planned):
    """As of a Ray cluster without GPUs, whatever is here or planned for."""
    survey = surveyed(kind="cuda", planned=planned)
    assert judged_memory(survey, "cpu", None, monkeypatch) is None
    assert judged_memory(survey, "cpu", memory(6.0), monkeypatch) == memory(6.0)
    assert judged_memory(survey, "cuda", None, monkeypatch).peak_bytes == 7_000_000_000


def test_where_probes_train_on_what_is_planned_for_they_correct_the_estimate(monkeypatch):
    here = judged_memory(surveyed(kind="cuda", planned=False), "cuda", memory(6.0), monkeypatch)
    assert here.peak_bytes == pytest.approx(6e9 * 7 / 5)
    on_processor = judged_memory(surveyed(kind="cpu", planned=False), "cpu", None, monkeypatch)
    assert on_processor.basis == "measured"
