"""The shipped benchmark table, the user's own part, and the prior drawn from both."""

from __future__ import annotations

import pytest

from knowledge import table
from knowledge.errors import BadInput
from knowledge.importers.peft_method_comparison import read
from knowledge.prior import NEUTRAL, method_priors, probing_order, suite_of
from tests.knowledge.suite_files import llm_run


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path))
    return tmp_path


def find(experiment, date):
    (record,) = [r for r in table.shipped() if r.experiment == experiment and r.created_at.startswith(date)]
    return record


@pytest.mark.parametrize(
    ("experiment", "date", "method", "metric", "memory", "unit"),
    [
        ("lily/llama-3.2-3B-rank140-mlp-a2-b2-s8.0", "2026-04", "lily", 0.549, 25.6, 1e9),
        ("beft/llama-3.2-3B-target-v_proj", "2026-05", "beft", 0.329, 20.2, 1e9),
        ("lora/llama-3.2-3B-rank64-rslora", "2026-01", "rslora", 0.532, 22.6, 1e9),
        ("oft/flux2-klein-default", "2026-06", "oft", 0.708, 9.01, 2**30),
        ("lora/flux2-klein-default", "2026-06", "lora", 0.697, 9.97, 2**30),
    ],
)
def test_the_shipped_table_reproduces_published_figures(experiment, date, method, metric, memory, unit):
    record = find(experiment, date)
    assert record.method == method
    assert record.metric == pytest.approx(metric, abs=0.0005)
    assert record.peak_bytes / unit == pytest.approx(memory, abs=0.005 if unit == 2**30 else 0.05)


def test_the_shipped_table_is_whole():
    runs = table.shipped()
    assert len({table.record_id(r) for r in runs}) == len(runs)
    published = [r for r in runs if r.source == "peft-method-comparison"]
    assert sum(r.task == "causal-lm" for r in published) == 84
    assert sum(r.task == "text-to-image" for r in published) == 31
    for run in published:
        assert run.curve.points and run.curve.last_step == run.max_steps - run.max_steps % 100
        assert run.metric is not None and run.peak_bytes > 9e9 and run.train_s > 60


def test_merging_twice_changes_nothing(tmp_path):
    path = tmp_path / "deep" / "runs.jsonl"
    runs = [read(llm_run()), read(llm_run(created_at="2026-07-16T00:00:00+00:00"))]
    assert table.merge(path, runs).added == 2
    written = path.read_bytes()
    assert table.merge(path, runs) == table.MergeReport(added=0, unchanged=2, conflicts=())
    assert path.read_bytes() == written
    assert sorted(table.read(path), key=table.record_id) == sorted(runs, key=table.record_id)


def test_a_differing_run_is_never_overwritten_silently(tmp_path):
    path = tmp_path / "runs.jsonl"
    old, new = read(llm_run(accuracy=0.4)), read(llm_run(accuracy=0.5))
    table.merge(path, [old])
    report = table.merge(path, [new])
    assert len(report.conflicts) == 1
    assert table.read(path) == (old,)
    assert len(table.merge(path, [new], replace=True).conflicts) == 1
    assert table.read(path) == (new,)


def test_own_runs_join_the_shipped_ones_and_replace_their_equals(own_folder):
    shipped = table.load(include_user=False)
    corrected = shipped[0].model_copy(update={"metric": 0.123})
    extra = read(llm_run(experiment="lora/mine"))
    table.user_store().add([corrected, extra])
    everything = table.load()
    assert len(everything) == len(shipped) + 1
    assert corrected in everything and shipped[0] not in everything and extra in everything


def test_what_unicode_takes_for_a_line_end_may_stand_in_a_name(tmp_path):
    run = read(llm_run(experiment="lora/\u2028 \x85 one"))
    table.merge(tmp_path / "runs.jsonl", [run])
    assert table.read(tmp_path / "runs.jsonl") == (run,)


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    table.merge(path, [read(llm_run())])
    path.write_text(path.read_text() + '{"benchmark": "x"}\n')
    with pytest.raises(BadInput, match=r"line 2 is no run record: \w+: .* \(and \d+ more\).*knowledge export"):
        table.read(path)


def test_an_experiment_that_was_run_twice_does_not_shift_its_era():
    new = {"torch": "2.13.0+cu130", "transformers": "5.13.1"}
    old = {"torch": "2.6.0+cu124", "transformers": "4.52.1"}
    runs = [
        read(llm_run(experiment="lora", accuracy=0.60, **old)),
        read(llm_run(experiment="lora", accuracy=0.50, **old)),
        read(llm_run({"peft_type": "OFT"}, experiment="oft", accuracy=0.56, **old)),
        read(llm_run({"peft_type": "OFT"}, experiment="oft", accuracy=0.46, **old)),
        read(llm_run({"peft_type": "VERA"}, experiment="vera", accuracy=0.52, **new)),
    ]
    for in_some_order in (runs, runs[::-1]):  # means of .55, .51 and .52
        priors = method_priors(in_some_order, "causal-lm")
        assert sorted(priors, key=lambda method: -priors[method].score) == ["lora", "vera", "oft"]


def test_the_worst_of_ones_own_finished_runs_is_no_bad_method():
    """A race had chosen it among many, which are not on record."""
    better = read(llm_run(experiment="lora", accuracy=0.60))
    worse = read(llm_run({"peft_type": "OFT"}, experiment="oft", accuracy=0.59))
    priors = method_priors([better, worse], "causal-lm", suite=suite_of(better))
    assert priors["lora"].score > 0.9 and priors["oft"].score == pytest.approx(0.5)


def test_costs_are_compared_on_one_device():
    """Those of a card and of a processor, as of a colleague's runs that were imported, say nothing of methods."""
    lora, oft = read(llm_run(experiment="lora")), read(llm_run({"peft_type": "OFT"}, experiment="oft"))
    runs = [
        lora.model_copy(update={"device": "card", "train_s": 10.0}),
        oft.model_copy(update={"device": "card", "train_s": 15.0}),
        oft.model_copy(update={"device": "processor", "train_s": 900.0}),
    ]
    assert method_priors(runs, "causal-lm")["oft"].relative_time == pytest.approx(1.5)


def test_the_learning_rate_of_the_best_own_run_is_kept():
    rates = ((1e-4, 0.60), (3e-4, 0.65), (1e-3, 0.62))
    run = read(llm_run())
    runs = [run.model_copy(update={"learning_rate": rate, "metric": accuracy}) for rate, accuracy in rates]
    assert method_priors(runs, "causal-lm", suite=suite_of(runs[0]))["lora"].own_learning_rate == 3e-4
    assert method_priors(runs, "causal-lm")["lora"].own_learning_rate is None


def test_a_later_software_era_does_not_look_like_a_worse_method():
    """One method is run in both eras, one in the worse era only: the offset between the eras is taken out."""
    old, new = {"torch": "2.9.0+cu128", "transformers": "4.57.1"}, {}
    runs = [
        read(llm_run(experiment="lora", accuracy=0.50, **old)),
        read(llm_run({"peft_type": "IA3"}, experiment="ia3", accuracy=0.44, **old)),
        read(llm_run(experiment="lora", accuracy=0.40, **new)),
        read(llm_run({"peft_type": "OFT"}, experiment="oft", accuracy=0.41, **new)),
        read(llm_run({"peft_type": "VERA"}, experiment="vera", accuracy=0.30, **new)),
    ]
    assert list(method_priors(runs, "causal-lm")) == ["oft", "lora", "ia3", "vera"]


def test_a_method_with_more_seeds_has_no_better_chances():
    """Three seeds of one method, the best of them by luck: their mean is compared."""
    runs = [read(llm_run(experiment=f"lora-{i}", accuracy=a)) for i, a in enumerate((0.40, 0.42, 0.50))]
    runs.append(read(llm_run({"peft_type": "OFT"}, experiment="oft", accuracy=0.45)))
    assert list(method_priors(runs, "causal-lm")) == ["oft", "lora"]


def test_runs_are_ranked_by_one_metric_alone():
    runs = [
        read(llm_run(experiment=f"{name}/x", accuracy=value)) for name, value in (("a", 0.5), ("b", 0.6), ("c", 0.7))
    ]
    runs = [run.model_copy(update={"method": run.experiment[0]}) for run in runs]
    other = runs[0].model_copy(update={"method": "d", "metric": 0.99, "metric_name": "token accuracy"})
    priors = method_priors([*runs, other], "causal-lm")
    assert priors["c"].score > priors["b"].score > priors["a"].score and priors["d"].score == 0.5


def test_runs_that_compare_nothing_rank_nothing():
    runs = [read(llm_run(experiment="lora", accuracy=0.4)), read(llm_run({"peft_type": "OFT"}, accuracy=0.5))]
    assert list(method_priors(runs, "causal-lm")) == ["oft", "lora"]
    few = [run.model_copy(update={"is_compared": False}) for run in runs]
    assert {prior.score for prior in method_priors(few, "causal-lm").values()} == {NEUTRAL}


def test_priors_are_shares_with_honest_intervals():
    priors = method_priors(table.shipped(), "causal-lm")
    assert list(priors) == sorted(priors, key=lambda m: (-priors[m].score, m))
    for prior in priors.values():
        assert 0 <= prior.low <= prior.score <= prior.high <= 1
    assert priors["lora"].relative_memory == 1
    assert priors["full"].relative_memory > 1.5 > 1 > priors["beft"].relative_memory
    assert priors["rslora"].score > priors["lora"].score > priors["ln-tuning"].score
    assert priors["lora"].high - priors["lora"].low > 0.4  # ranks transfer badly between tasks: no false comfort


def test_the_probing_order_starts_with_lora_and_spans_the_families():
    scores = {name: prior.score for name, prior in method_priors(table.shipped(), "causal-lm").items()}
    families = {"rslora": "low-rank", "lora": "low-rank", "hira": "low-rank", "miss": "low-rank", "gralora": "low-rank"}
    families |= {"oft": "orthogonal", "shira": "sparse", "ia3": "multiplicative", "prefix-tuning": "prompt"}
    order = probing_order(families, scores)
    assert order[0] == "lora" and sorted(order) == sorted(families)
    assert {families[m] for m in order[:4]} >= {"low-rank", "orthogonal", "sparse"}
    assert order == probing_order(dict(reversed(families.items())), scores)


def test_a_method_nobody_compared_is_neither_first_nor_last():
    order = probing_order({"rslora": "a", "brand-new": "b", "ln-tuning": "c"}, {"rslora": 0.8, "ln-tuning": 0.1})
    assert order == ["rslora", "brand-new", "ln-tuning"]
