"""What a report says of a candidate: what its jobs measured, how it came out of the race, how well its end is known."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from advisor.candidates import Candidate
from advisor.forecast.held_out import held_out_noise, own_parts
from advisor.forecast.own_task import benchmark_of_survey
from advisor.judge import judge, judge_from_table, not_tried, shortlist_from_table, would_be_probed
from advisor.report.provenance import race_line
from knowledge.methods import get_method
from knowledge.prior import MethodPrior
from knowledge.schema import CurvePoint
from probes.racing.evidence import Evidence
from probes.schema import AllRows, Baseline, ProbeOutcome
from tests.advisor import factories
from tests.advisor.curves import record
from tests.advisor.factories import curve, memory, result
from tests.advisor.test_judge import surveyed

STEPS = 60
BASELINE = Baseline(eval_loss=2.4, metric=0.04, load_s=1.0, eval_s=1.0, eval_tokens=10)
UNTUNED = CurvePoint(step=0, eval_loss=2.6, metric=0.03)  # on all held-out rows


def raced(name, rate=1e-4, estimate=None):
    return Candidate(f"{name}@{rate:g}", get_method(name), rate, {"r": 16}, estimate)


def job(last_step=STEPS, status="finished", **measured):
    return ProbeOutcome(id="", status=status, last_step=last_step, **measured)


def judged(*probed, finalists=(), left=None, metric="exact match", accuracy=0.3, eval_rows=200, row_labels=(), own=()):
    """The reports of a race on a processor, for which the run is planned. probed: candidates with their jobs. own: what
    each of the user's finished runs has beside what makes it a run of this task."""
    survey = surveyed(kind="cpu")
    survey.planned_run = survey.planned_run.model_copy(update={"max_steps": STEPS})
    survey.data.eval = SimpleNamespace(arrays={}, class_labels=None)
    survey.data.profile = survey.data.profile.model_copy(update={"metric_name": metric, "eval_rows": eval_rows})
    curves, failed = {}, {}
    for number, (candidate, jobs) in enumerate(probed):
        if jobs and jobs[-1].last_step:
            found = curve(1.0 + 0.1 * number, steps=jobs[-1].last_step, metric=accuracy)
            curves[candidate.id] = found.model_copy(update={"metric_name": metric})
        if jobs and jobs[-1].status != "finished":
            failed[candidate.id] = jobs[-1]
    evidence = Evidence(curves, {candidate.id: jobs for candidate, jobs in probed}, failed=failed)
    race = SimpleNamespace(decisions=[SimpleNamespace(left=left or {})], finalists=finalists, beaten=[*(left or {})])
    baseline = BASELINE.model_copy(update={"row_labels": row_labels})
    records = [own_run(metric, **{"benchmark": benchmark_of_survey(survey), **of_one}) for of_one in own]
    return judge(survey, [candidate for candidate, _ in probed], evidence, race, baseline, records, "cpu")


def own_run(metric, **changes):
    """A finished run with the settings that `raced` gives LoRA."""
    made = curve(0.2, steps=STEPS, metric=0.9).model_copy(update={"metric_name": metric})
    fields = {"method": "lora", "peft_config": {"r": 16}, "learning_rate": 1e-4, "curve": made, "max_steps": STEPS}
    fields |= {"metric": 0.9, "metric_name": f"held-out {metric}", "source": "own", "seed": 0}
    return record("own", 0.2, 0.3).model_copy(update=fields | changes)


def test_what_was_trained_to_the_end_before_is_told_as_it_ended():
    probed = [(raced("lora"), [job(20)]), (raced("oft"), [job(20)]), (raced("lora", 1e-3), [job(20)])]
    left = {"lora@0.0001": "behind"}
    known, other, other_rate = judged(*probed, finalists=("oft@0.0001",), left=left, own=[{}])
    assert (known.status, known.reason, known.rests_on_own_runs) == ("finished", "", True)
    assert known.predicted.value == pytest.approx(0.9, abs=0.02) and known.predicted_loss.value == pytest.approx(0.2)
    assert not (other.rests_on_own_runs or other_rate.rests_on_own_runs)


@pytest.mark.parametrize(
    ("own", "forgetting", "share"),
    [
        ({"drift": 0.4, "drift_name": "forgetting, own texts"}, 0.4, 1.0),
        ({"drift": 0.4, "drift_name": "image drift"}, 0.01, 20 / STEPS),
        ({}, 0.01, 20 / STEPS),
    ],
)
def test_what_a_run_that_is_known_forgot_is_told_as_at_its_end(own, forgetting, share):
    """A limit of .1 was kept by a probe of a third, and by the run it was not."""
    probed = (raced("lora"), [job(20, forgetting=0.01, forgetting_noise=0.02)])
    (known,) = judged(probed, finalists=("lora@0.0001",), own=[own])
    assert (known.forgetting, known.forgetting_share) == (forgetting, share)


def test_times_and_memory_of_a_run_that_is_known_are_of_its_probe(monkeypatch):
    """What the probe of today held was held in its few steps."""
    steps = []
    monkeypatch.setattr("advisor.judge.corrected_memory", lambda _c, _s, probed_steps, _b: steps.append(probed_steps))
    probed = [(raced("lora"), [job(20, train_s=20.0)]), (raced("oft"), [job(20, train_s=20.0)])]
    known, other = judged(*probed, finalists=("lora@0.0001",), own=[{}])
    assert known.curve.last_step == STEPS and steps == [20, 20]
    assert known.planned_run_range_s == other.planned_run_range_s


@pytest.mark.parametrize(
    "changes",
    [
        {"benchmark": "another/task/era"},
        {"learning_rate": 2e-4},
        {"peft_config": {"r": 8}},
        {"seed": 1},
        {"source": "https://published"},
        {"curve": curve(0.2, steps=STEPS - 1, metric=0.9)},
    ],
)
def test_a_run_of_something_else_is_not_taken_for_it(changes):
    (report,) = judged((raced("lora"), [job(20)]), finalists=("lora@0.0001",), own=[changes])
    assert not report.rests_on_own_runs and report.curve.last_step == 20


def test_the_status_is_how_a_candidate_came_out_of_the_race():
    reports = judged(
        (raced("lora"), [job()]),
        (raced("oft"), [job(30)]),
        (raced("ia3"), [job(20), job(status="diverged", reason="loss is nan")]),
        (raced("vera"), []),
        (raced("full"), [job()]),
        (raced("miss"), [job(30), job()]),
        finalists=("lora@0.0001", "full@0.0001"),
        left={
            "oft@0.0001": "behind",
            "ia3@0.0001": "left",
            "miss@0.0001": "behind, then back",
        },
    )
    assert [(r.status, r.reason) for r in reports] == [
        ("finished", ""),
        ("eliminated", "behind"),
        ("diverged", "loss is nan"),
        ("not tried", "the race ended before it was evaluated"),
        ("reference", ""),
        ("finished", ""),
    ]
    assert [r.predicted_loss is not None for r in reports] == [True, False, False, False, True, True]
    assert {(r.baseline_value, r.baseline_loss) for r in reports} == {(BASELINE.metric, BASELINE.eval_loss)}


def test_the_time_of_the_run_is_that_of_the_last_jobs_of_all_rates_of_a_method():
    low, high, stopped = (raced("lora", rate) for rate in (1e-4, 1e-3, 1e-2))
    reports = judged(
        (low, [job(20, train_s=80.0), job(40, train_s=100.0)]),  # counted from the beginning of the probe
        (high, [job(60, train_s=100.0)]),
        (stopped, [job(0, "failed", train_s=50.0)]),
        (raced("oft"), [job(60, train_s=30.0)]),
        (raced("ia3"), []),
    )
    assert [r.planned_run_s for r in reports] == [120.0, 120.0, 120.0, 30.0, None]


def test_what_a_probe_is_at_its_end_is_told_from_the_last_job_that_measured_it():
    first = {"adapter_bytes": 1, "trainable_parameters": 10, "latency_overhead": 0.1, "forgetting": 0.1}
    second = {"adapter_bytes": 2, "trainable_parameters": 20, "latency_overhead": 0.2, "forgetting": 0.3}
    noted = {"forgetting_noise": 0.01, "forgetting_note": "too little time"}
    (report,) = judged(
        (raced("lora"), [job(15, **first), job(30, **second, forgetting_noise=0.02), job(60, forgetting_note="late")])
    )
    assert {name: getattr(report, name) for name in second} == second
    assert (report.forgetting_noise, report.forgetting_share) == (0.02, 30 / STEPS)
    (unmeasured,) = judged((raced("lora"), [job(30), job(60, **noted)]))
    assert (unmeasured.forgetting, unmeasured.forgetting_note) == (None, "too little time")


def test_what_a_probe_cost_is_told_of_all_its_jobs():
    (report,) = judged(
        (
            raced("lora"),
            [
                job(30, duration_s=10.0, peak_bytes=3000, micro_batches=4, trained_tokens=100, train_s=1.0),
                job(60, duration_s=20.0, peak_bytes=2000, micro_batches=2, trained_tokens=400, train_s=2.0),
            ],
        )
    )
    assert (report.probe_s, report.probe_peak_bytes, report.micro_batches) == (30.0, 3000, 4)
    assert report.tokens_per_s == 200.0  # of the last one, which counts from the beginning


@pytest.mark.parametrize(
    ("jobs", "is_told"),
    [
        ([job(peak_bytes=3000)], True),
        ([job(30, micro_batches=2, peak_bytes=3000), job(peak_bytes=2000)], False),
        ([job(30, peak_bytes=2000), job(40, "out of memory", peak_bytes=3000)], False),
    ],
)
def test_only_a_probe_of_whole_batches_that_were_held_tells_what_the_run_holds(jobs, is_told):
    (report,) = judged((raced("lora"), jobs))
    assert report.probe_peak_bytes == 3000
    assert (report.memory is not None) == is_told


def rows_of(seed, spread=0.3):
    return tuple(np.exp(spread * np.random.default_rng(seed).standard_normal(50)))


def test_what_the_choice_of_rows_leaves_open_widens_the_noise_of_the_loss():
    rows = {name: rows_of(seed) for seed, name in enumerate(("lora", "oft"))}
    plain = judged(*((raced(name), [job()]) for name in rows))
    earlier = [job(30, row_losses=rows_of(7))]
    measured = judged(*((raced(name), [*earlier, job(row_losses=losses)]) for name, losses in rows.items()))
    for name, without, report in zip(rows, plain, measured, strict=True):
        widened = math.hypot(without.predicted_loss.noise, held_out_noise(rows)[name] * report.predicted_loss.value)
        assert report.predicted_loss.noise == pytest.approx(widened)


def test_of_a_probe_that_was_cut_off_the_noise_is_the_largest_of_the_others():
    rows = {"lora": rows_of(0, 0.2), "oft": rows_of(1, 0.4), "vera": rows_of(2, 0.1), "ia3": ()}
    cut = judged(*((raced(name), [job(row_losses=losses)]) for name, losses in rows.items()))[-1].predicted_loss
    plain = judged(*((raced(name), [job()]) for name in rows))[-1].predicted_loss
    assert cut.noise == pytest.approx(math.hypot(plain.noise, max(held_out_noise(rows).values()) * cut.value))


def metric_noise(right=((), ()), **details):
    """The noise of the first of two candidates, with the right tokens of their rows."""
    return judged(*((raced(n), [job(row_right=r)]) for n, r in zip(("lora", "oft"), right, strict=True)), **details)[0]


def test_whole_answers_vary_as_counts_of_the_rows_that_are_evaluated():
    noise = [metric_noise(eval_rows=rows).predicted.noise for rows in (1, 2, 16, 64, 200)]
    assert noise[0] == noise[1] > noise[2] > noise[3] == noise[4]
    counted = noise[2] ** 2 - noise[3] ** 2
    assert counted == pytest.approx(1.28**2 * 0.3 * 0.7 * (1 / 16 - 1 / 64), rel=0.01)
    tokens = [tuple(range(50)), tuple(range(50, 0, -1))]
    assert metric_noise(tokens, eval_rows=16).predicted.noise == noise[2]


def test_that_no_answer_is_right_is_not_known_exactly():
    few, many = (metric_noise(accuracy=0.0, eval_rows=rows).predicted.noise for rows in (4, 64))
    assert few > many > 0


def test_right_tokens_vary_from_row_to_row():
    right = {
        spread: [tuple(map(int, 20 * np.array(rows_of(seed, spread)))) for seed in (0, 1)] for spread in (0.1, 0.4)
    }
    calm, wild = (metric_noise(rows, metric="token accuracy").predicted for rows in right.values())
    shares = [held_out_noise(dict(zip("ab", rows, strict=True)))["a"] for rows in right.values()]
    assert calm.noise < wild.noise == pytest.approx(wild.value * shares[1])


def test_answers_that_candidates_share_are_no_noise_between_them():
    easy = (1,) * 12 + (0,) * 4
    turned = (0, 1, *easy[2:12], 1, *easy[13:])
    hard = tuple(1 - right for right in easy)
    alike, apart = (
        metric_noise((easy, other), eval_rows=16, row_labels=(1,) * 16).predicted.noise for other in (turned, hard)
    )
    assert alike < apart == metric_noise(eval_rows=16).predicted.noise


def test_finalists_are_told_apart_by_what_they_do_not_share_with_each_other():
    """Two that went on learned the same rows; the one that left did not."""
    easy, hard = rows_of(0), rows_of(1)
    likewise = tuple(np.array(easy) * rows_of(2, 0.05))
    jobs = [job(row_losses=easy), job(row_losses=likewise), job(20, row_losses=hard)]
    (*two, _), pair = (
        judged(*((raced(name), [one]) for name, one in zip(("lora", "oft", "ia3"), of, strict=False)))
        for of in (jobs, jobs[:2])
    )
    assert [r.predicted_loss.noise for r in two] == [r.predicted_loss.noise for r in pair]


ALL_ROWS = AllRows(end=CurvePoint(step=STEPS, eval_loss=1.3, metric=0.25), untuned=UNTUNED, row_labels=(1,) * 200)


def test_finalists_are_told_by_all_held_out_rows_and_so_are_those_that_left():
    """The rows beyond the first sixty-four are harder."""
    rows = [tuple(np.array(rows_of(0)) * rows_of(seed, 0.1)) * 4 for seed in (1, 2)]
    ended = [job(row_losses=row, all_rows=ALL_ROWS) for row in rows]
    left = job(30, row_losses=rows_of(3)[:64])
    lora, oft, early = judged(*((raced(n), [j]) for n, j in zip(("lora", "oft", "ia3"), [*ended, left], strict=True)))
    for report in (lora, oft):
        assert report.predicted_loss.value == pytest.approx(1.3) and report.predicted.value == pytest.approx(0.25)
        assert report.predicted_loss.rows == report.predicted.rows == 200
    assert early.predicted_loss is None, "no table tells how it would have gone on"
    assert {(r.baseline_loss, r.baseline_value) for r in (lora, oft, early)} == {(UNTUNED.eval_loss, UNTUNED.metric)}
    half = held_out_noise(dict(zip(("lora", "oft"), rows, strict=True)))["lora"]
    again = judged(*((raced(n), [job(all_rows=ALL_ROWS)]) for n in ("lora", "oft")))[0].predicted_loss.noise
    assert lora.predicted_loss.noise == pytest.approx(math.hypot(again, half * 1.3))


def test_the_noise_of_right_answers_is_that_of_as_many_rows_as_were_evaluated():
    of_all, of_first = (judged((raced("lora"), [job(all_rows=all_rows)]))[0].predicted for all_rows in (ALL_ROWS, None))
    assert of_all.noise == pytest.approx(1.28 * math.sqrt(0.25 * 0.75 / 200), rel=0.01)
    assert of_first.noise == pytest.approx(1.28 * math.sqrt(0.3 * 0.7 / 64), rel=0.01)
    assert of_first.rows == 64


def test_answers_to_all_held_out_rows_are_compared_where_all_were_evaluated():
    right = [tuple(int(begin <= row < begin + 50) for row in range(200)) for begin in (0, 2)]
    told, untold = (
        judged(
            *(
                (raced(name), [job(row_right=answers, all_rows=all_rows)])
                for name, answers in zip(("lora", "oft"), right, strict=True)
            ),
            row_labels=(1,) * 64,
        )[0].predicted.noise
        for all_rows in (ALL_ROWS, ALL_ROWS.model_copy(update={"row_labels": ()}))
    )
    assert told < 0.7 * untold
    alone = judged((raced("lora"), [job(all_rows=ALL_ROWS)]))[0].predicted.noise
    assert told == pytest.approx(alone * own_parts(dict(zip("ab", right, strict=True)))["a"], rel=0.01)


RATES = (1e-5, 1e-4, 1e-3)


def test_a_method_that_was_not_reached_is_told_once_at_its_usual_rate():
    proposed = [raced(name, rate) for name in ("lora", "oft", "ia3") for rate in RATES]
    reasons = {c.id: f"no time for {c.id}" for c in proposed if c.method.name != "ia3"}
    assert [(r.name, r.learning_rate, r.status, r.reason) for r in not_tried(surveyed(), proposed, reasons)] == [
        ("lora", 1e-4, "not tried", "no time for lora@0.0001"),
        ("oft", 1e-4, "not tried", "no time for oft@0.0001"),
    ]


def test_what_would_be_probed_is_told_with_its_rates():
    planned = [*(raced("lora", rate) for rate in RATES[:2]), raced("oft")]
    several, one = (r.reason for r in would_be_probed(surveyed(), planned))
    assert several.startswith("at learning rates ") and len(several.split(", ")) == 2
    assert one.startswith("at learning rate ") and "," not in one


def prior(name):
    return MethodPrior(name, 0.6, 0.5, 0.7)


def test_without_probes_the_best_of_the_table_are_looked_at_and_plain_lora_in_any_case():
    ranked = ["oft", "ia3", "vera", "dora", "rslora", "pissa", "boft", "adalora", "shira", "lora"]
    proposed = [raced(name, rate) for name in sorted([*ranked, "lily"]) for rate in RATES]
    chosen, rest = shortlist_from_table(surveyed(), proposed, {name: prior(name) for name in ranked})
    assert [c.id for c in chosen] == [f"{name}@0.0001" for name in (*ranked[:8], "lora")]
    assert {(r.name, r.learning_rate): r.reason for r in rest} == {
        ("lily", 1e-4): "no published run to judge it by",
        ("shira", 1e-4): "published runs favour others",
    }


def test_what_the_table_says_is_told_with_its_interval_as_no_more_than_a_guess():
    (report,) = judge_from_table(surveyed(), [raced("lora")], {"lora": prior("lora")})
    told = report.predicted
    assert (told.metric, told.value, told.low, told.high, told.extrapolated) == ("table rank", 0.6, 0.5, 0.7, True)


@pytest.mark.parametrize(("knows_task", "words"), [(True, "own runs of this task"), (False, "published runs")])
def test_own_runs_of_the_task_are_not_told_as_published_ones_on_other_data(knows_task, words):
    known = replace(prior("lora"), knows_task=knows_task)
    (report,) = judge_from_table(surveyed(), [raced("lora", estimate=memory(2.0))], {"lora": known})
    assert report.reason.startswith(f"known from {words}")
    made = result([report], race=None)
    assert ("own runs of this task" in race_line(made)) == knows_task
    assert ("your own runs of this task" in made.recommendation.warnings[0]) == knows_task


@pytest.mark.parametrize(
    ("name", "times"),
    [("lora", 1), ("pissa", 2), ("lily", None)],  # pissa becomes a LoRA of twice its rank; lily saves something else
)
def test_an_adapter_is_as_large_as_what_is_saved_of_it(name, times):
    estimate = memory(2.0)
    (report,) = judge_from_table(surveyed(), [raced(name, estimate=estimate)], {name: prior(name)})
    assert report.adapter_bytes == (times and times * estimate.breakdown["adapter"])
    (unknown,) = judge_from_table(surveyed(), [raced(name)], {name: prior(name)})
    assert unknown.adapter_bytes is None


def test_who_failed_before_anything_was_evaluated_was_probed_too():
    made = result(
        [factories.candidate("lora", None, status="failed"), factories.candidate("oft", None, status="not tried")]
    )
    assert race_line(made).startswith("1 candidate of 1 method probed")
