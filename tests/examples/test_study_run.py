"""The study on a tiny model: all protocols are run, and it goes on where it was stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from transformers import LlamaConfig, LlamaForCausalLM

from examples.study import bench, collect, held_out_rows, rates, run, warmup
from examples.study.bench import Workbench
from examples.study.candidates import Candidate, candidates
from examples.study.kept import read
from examples.study.records import candidate_name, read_collected, read_running
from examples.study.records import collect as keep
from examples.study.schedules import FRACTIONS, branch_schedule, full_eval_steps, rung, trunk_schedule, trunk_steps
from examples.study.tasks import TASKS, StudyTask
from tests.probes.tokenizers import byte_tokenizer

STEPS = 20


class TinyTask(StudyTask):
    """Counts letters with a model that the test has saved in a folder, which stands where a package's name would."""

    def model_reference(self):
        return self.package


def rows():
    return [{"prompt": f"{i:03d}", "completion": "a" * (i % 5 + 1)} for i in range(120)]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    byte_tokenizer().save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)  # else models end with .18 to .76 of the tokens right, and a test of that failed once
    LlamaForCausalLM(config).save_pretrained(folder)
    return TinyTask(
        name="tiny",
        model="owner/Tiny-Instruct",
        package=str(folder),
        task="causal-lm",
        rows=rows,
        batch_size=4,
        max_steps=STEPS,
        eval_rows=8,
    )


@pytest.fixture
def study(task, monkeypatch):
    """Three candidates on the tiny task."""
    few = [Candidate(task, "lora", rate, seed=0) for rate in (1e-3, 1e-2)] + [Candidate(task, "lora", 1e-2, seed=1)]
    monkeypatch.setattr(run, "TASKS", {"tiny": task})
    monkeypatch.setattr(run, "candidates", lambda tasks: few)
    return few


def test_a_candidate_is_trained_under_every_protocol(task, tmp_path):
    result = Workbench(task, 0, tmp_path).measure(Candidate(task, "lora", 1e-2, seed=0))
    assert [(r.protocol, r.fraction) for r in result.runs] == [
        ("full", 1.0),
        *[("short", f) for f in FRACTIONS],
        *[("branch", f) for f in FRACTIONS],
    ]
    assert {r.status for r in result.runs} == {"finished"}
    full = result.run("full", 1.0)
    assert [p.step for p in full.points] == [3, 4, 8, 12, 16, 20]
    assert full.final_loss < full.points[0].eval_loss < result.baseline_loss
    assert result.run("short", 0.2).points[-1].step == result.run("short", 0.2).schedule.total_steps == 4
    assert result.benchmark == "tiny/tiny"
    assert 0 < full.train_share < 1 and full.cpu_s > 0
    assert not list((tmp_path / "tiny" / "work").rglob("*.safetensors"))


def test_a_task_without_probes_has_its_planned_runs_and_its_own_metric(task, tmp_path):
    unprobed = replace(task, name="unprobed", is_compared=False, metric_name="token accuracy")
    result = Workbench(unprobed, 0, tmp_path).measure(Candidate(unprobed, "lora", 1e-2, seed=0))
    assert [run.protocol for run in result.runs] == ["full"] and not result.is_compared
    assert result.metric_name == "token accuracy" and result.run("full", 1.0).points[-1].metric > 0


def test_a_branch_continues_the_trunk_as_one_run_would_have_gone(task, tmp_path):
    workbench = Workbench(task, 0, tmp_path)
    result = workbench.measure(Candidate(task, "lora", 1e-2, seed=0))
    branch, length = result.run("branch", 0.2), rung(0.2, STEPS)
    assert branch.trained_steps == length - trunk_steps(length) == 1
    training = bench.Training(workbench, Candidate(task, "lora", 1e-2, seed=0))
    unbroken = training.run("full", 1.0, branch_schedule(length, STEPS), (length,))
    assert unbroken.trained_steps == length
    assert branch.final_loss == pytest.approx(unbroken.final_loss, abs=1e-6)


def test_rates_beyond_the_study_are_run_once_and_told_in_a_table(task, tmp_path, monkeypatch, capsys):
    runs = []

    def counted(bench, method, rate):
        runs.append((method, rate))
        return end_of(bench, method, rate)

    end_of = rates.end_of
    monkeypatch.setattr(rates, "RATES", tmp_path / "rates.jsonl")
    monkeypatch.setattr(rates, "TASKS", {"debian_sections": task})
    monkeypatch.setattr(rates, "end_of", counted)
    monkeypatch.setattr("sys.argv", ["rates", "--out", str(tmp_path), "lora"])
    for _ in range(2):
        rates.main()
    assert runs == [("lora", rate) for rate in (3e-4, 1e-3, 3e-3)]
    ends = read(tmp_path / "rates.jsonl")
    best = min(ends, key=lambda end: end["eval_loss"])["learning_rate"]
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("| tiny | lora | 0.0003, 0.001, 0.003 |") and line.endswith(f"| {best:g} |")


def test_a_shorter_warm_up_is_tried_once_on_what_the_study_holds(task, tmp_path, monkeypatch, capsys):
    trained = []

    def counted(bench, candidate, share):
        trained.append((candidate.learning_rate, share))
        return train(bench, candidate, share)

    train = warmup.train
    monkeypatch.setattr(warmup, "KEPT", tmp_path / "warmup.jsonl")
    monkeypatch.setattr(warmup, "TASKS", {"tiny": task})
    monkeypatch.setattr(warmup, "LEARNING_RATES", {"lora": (1e-4, 1e-3, 1e-2, 3e-2)})
    monkeypatch.setattr(warmup, "ANEW", ("lora",))
    monkeypatch.setattr(warmup, "TO_THE_END", ("tiny",))
    monkeypatch.setattr(warmup, "train", counted)
    monkeypatch.setattr("sys.argv", ["warmup", "--out", str(tmp_path / "out"), "--task", "tiny"])
    for _ in range(2):
        warmup.main()
    assert trained == [(3e-2, 0.03), (1e-2, 0.03), (1e-3, 0.03), (1e-2, 0.1)]
    kept = read(tmp_path / "warmup.jsonl")
    assert [*kept[0]["losses"]] == [str(step) for step in sorted(set(full_eval_steps(STEPS)))]
    apart = kept[1]["losses"][str(STEPS)] - kept[3]["losses"][str(STEPS)]
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"tiny: {apart:+.3f} nats with 3 % on the same batches")


def test_many_rows_are_held_out_and_kept_once(task, tmp_path, monkeypatch):
    monkeypatch.setattr(held_out_rows, "KEPT", tmp_path / "rows.jsonl")
    monkeypatch.setattr(held_out_rows, "TASKS", {"tiny": task})
    monkeypatch.setattr(held_out_rows, "LEARNING_RATES", {"lora": (1e-4, 1e-3, 1e-2, 3e-2)})
    (tmp_path / "out").mkdir()
    for _ in range(2):
        held_out_rows.run(["tiny"], tmp_path / "out")
    (kept,) = read(tmp_path / "rows.jsonl")
    assert kept["learning_rate"] == 1e-2
    assert [*kept["rows"]] == [str(STEPS // 5), str(STEPS)]
    assert task.eval_rows < len(kept["label_tokens"]) <= 0.4 * len(task.rows()) + 1
    assert all(len(end["nats"]) == len(end["right"]) == len(kept["label_tokens"]) for end in kept["rows"].values())
    losses = [sum(end["nats"]) for end in kept["rows"].values()]
    assert losses[1] < losses[0]


def test_what_either_warm_up_tells_is_measured_on_the_same_candidates():
    """A record with the study's own losses tells what the study's runs tell."""
    ours = [r for r in read_collected() if r.task == "word_sorting" and r.seed == 0][:4]
    records = [
        {
            "task": r.task,
            "method": r.method,
            "learning_rate": r.learning_rate,
            "warmup_fraction": warmup.SHORTER,
            "status": "finished",
            "losses": {str(p.step): p.eval_loss for p in r.runs[0].points},
        }
        for r in ours
    ]
    *_, last, _, _, _, mean = warmup.table(records)
    cells = last.strip("| ").split(" | ")
    assert cells[:3] == ["word_sorting", "4", "20%"] and cells[3::2] == cells[4::2]
    assert mean.endswith(" | ".join(cells[2:]) + " |")


def test_branches_share_the_trunks_rates():
    for fraction in FRACTIONS:
        length = rung(fraction, 200)
        branch, trunk = branch_schedule(length, 200), trunk_schedule(200)
        before = trunk_steps(length)
        assert [branch.factor(s) for s in range(before)] == [trunk.factor(s) for s in range(before)]
        falling = [branch.factor(s) for s in range(before, length)]
        assert falling == sorted(falling, reverse=True) and 0 < falling[-1] <= falling[0] < 1


def test_it_goes_on_where_it_was_killed(study, tmp_path, monkeypatch):
    measured = []
    measure = Workbench.measure

    def killed_at_the_second(self, candidate):
        measured.append(candidate.name)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(self, candidate)

    monkeypatch.setattr(Workbench, "measure", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run.work(tmp_path, ["tiny"], kept=tmp_path / "kept")
    assert len(read_running(tmp_path)) == 1
    run.work(tmp_path, ["tiny"], kept=tmp_path / "kept")
    assert measured == [study[0].name, study[1].name, study[1].name, study[2].name]
    assert {r.candidate for r in read_running(tmp_path)} == {c.name for c in study}
    seeds = {r.seed: r.run("full", 1.0).final_loss for r in read_running(tmp_path) if r.learning_rate == 1e-2}
    assert seeds[0] != seeds[1]

    # What is kept is enough to go on somewhere else, and keeping it twice changes nothing.
    assert keep(tmp_path, tmp_path / "kept") == 3
    kept = (tmp_path / "kept" / "tiny.jsonl").read_bytes()
    assert keep(tmp_path, tmp_path / "kept") == 0
    assert (tmp_path / "kept" / "tiny.jsonl").read_bytes() == kept
    run.work(tmp_path / "elsewhere", ["tiny"], kept=tmp_path / "kept")
    assert len(measured) == 4
    assert {r.candidate for r in read_collected(tmp_path / "kept")} == {c.name for c in study}


def test_a_candidate_that_another_worker_is_at_is_left_to_it(study, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(Workbench, "__init__", lambda self, task, seed, out: vars(self).update(task=task, seed=seed))
    monkeypatch.setattr(Workbench, "measure", lambda self, candidate: measured.append(candidate.name))
    monkeypatch.setattr(run, "write", lambda result, folder: None)
    (tmp_path / "locks").mkdir()
    with FileLock(tmp_path / "locks" / f"tiny.{study[0].name}.lock"):
        run.work(tmp_path, ["tiny"], kept=tmp_path / "kept")
    assert measured == [c.name for c in study[1:]]


def test_a_training_that_broke_down_is_told_and_done_again(study, tmp_path, monkeypatch):
    def fail(self, candidate):
        raise bench.ProbeFailed("no memory")

    monkeypatch.setattr(Workbench, "measure", fail)
    with pytest.raises(SystemExit, match="no memory"):
        run.work(tmp_path, ["tiny"], kept=tmp_path / "kept")
    assert read_running(tmp_path) == []


def test_only_whole_tasks_enter_the_benchmark_table(monkeypatch):
    from tests.examples.study_results import result

    tasks = {"chain_sum": None}
    monkeypatch.setattr(collect, "TASKS", tasks)
    wanted = [Candidate(None, "lora", rate, seed) for rate, seed in ((1e-3, 0), (1e-2, 0), (1e-2, 1))]
    monkeypatch.setattr(collect, "candidates", lambda tasks: wanted)
    first = result(learning_rate=1e-3)
    assert collect.run_records([first]) == []
    records = collect.run_records([first, result(learning_rate=1e-2, status="diverged")])
    assert [r.experiment for r in records] == ["lora/lr0.001-seed0"]


def test_a_reasoning_task_does_without_what_is_least_likely_to_win(task):
    names = [c.name for c in candidates([task])]
    assert len(set(names)) == len(names)
    assert names[0] == candidate_name("lora", 3e-4, 0) and names[-1] == candidate_name("ia3", 2e-2, 2)
    cheap = [c.name for c in candidates([TASKS["debian_sections"]])]
    assert set(names) < set(cheap) and len(set(cheap)) == len(cheap)
    assert cheap[-1] == candidate_name("lora-fa", 1e-4, 0)
    few = [c.name for c in candidates([replace(task, is_compared=False)])]
    assert len(few) == 8 and set(few) < set(names)
