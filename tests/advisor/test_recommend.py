"""The main job, end to end, on a tiny model: real probes in real worker processes."""

import json
import shutil
import subprocess
import sys

import peft
import pytest

from advisor import recommend
from advisor.recommendation import Result
from advisor.report.without_pick import advice_without_pick
from knowledge.errors import BadInput, NothingFits
from knowledge.schema import CurvePoint
from tests.advisor.tiny_run import save_tiny, write_rows

pytestmark = pytest.mark.usefixtures("forked_workers")

RACE = {
    "budget_minutes": 2,
    "max_steps": 40,
    "methods": ("lora", "ia3", "ln-tuning"),
    "batch_size": 8,
    "show_progress": False,
    "workers": 2,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data") / "sums.jsonl", "causal-lm")


@pytest.fixture(scope="module")
def recommendation(model, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("race") / "out"
    rec = recommend(model, data, out=out, **RACE)
    rec.folder = out
    return rec


def test_without_probes_the_next_of_the_table_are_looked_at_where_the_first_are_too_large(model):
    large = ("rslora", "lora-all-linear", "lily", "miss-bat", "gralora", "shira", "lora-mlp", "bd-lora")
    settings = {
        "probe": False,
        "vram": "1GB",
        "show_progress": False,
        "methods": (*large, "lora", "ln-tuning", "c3a", "road"),
    }
    rec = recommend(model, require=("max-adapter-size=3KB",), **settings)
    meet = [c for c in rec.candidates if c.status == "from table"]
    assert len(meet) >= 3 and all(c.adapter_bytes <= 3000 for c in meet)
    assert rec.pick in meet
    assert "does not fit" not in rec.result.recommendation.gain_over_lora
    none = recommend(model, require=("max-adapter-size=10B",), **settings).result
    assert none.recommendation is None and "max-adapter-size=10B" in advice_without_pick(none)


def test_a_folder_that_is_taken_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    from probes.racing.journal import InUse, Journal

    settings = {"out": tmp_path, "show_progress": False}
    with Journal(tmp_path / "journal.jsonl", "another race", resume=False) as journal:
        journal.add_point("lora", CurvePoint(step=1, eval_loss=2.0), "exact match")
        with pytest.raises(InUse, match="Wait for it"):
            recommend("no such model", "none.jsonl", resume=True, **settings)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    for out in (tmp_path, f"~/{tmp_path.name}"):
        with pytest.raises(BadInput, match=f"{tmp_path} already holds a race"):
            recommend("no such model", "none.jsonl", **settings | {"out": out})


def test_an_own_metric_whose_code_has_changed_is_another_one(tmp_path):
    from advisor.gather import fingerprint
    from tests.advisor.tiny_run import Case

    case, metric = Case(tmp_path, "llama", "lora"), tmp_path / "m.py"
    names = []
    for code in ("def f1(a, b): return 0", "def f1(a, b): return 1"):
        metric.write_text(code)
        names.append(fingerprint(case.data, "model", case.run, f"{metric}:f1"))
    assert len({*names, fingerprint(case.data, "model", case.run, None)}) == 3
    assert fingerprint(case.data, "model", case.run, "accuracy") == fingerprint(case.data, "model", case.run, None)


def test_another_candidate_can_be_chosen_and_is_trained_on_from_where_the_race_left_it(recommendation, tmp_path):
    from advisor.choice import choose_in
    from advisor.report.live_training import LiveTraining
    from advisor.training.train import train

    other = next(c for c in recommendation.candidates if c.curve.points and c.name != recommendation.pick.name)
    target = choose_in(recommendation.folder, other.name, other.learning_rate, tmp_path / "other")
    report = train(target, live=LiveTraining(quiet=True))
    assert (report.name, report.learning_rate) == (other.name, other.learning_rate)
    assert report.first_step == other.curve.last_step
    assert report.curve.points[: len(other.curve.points)] == other.curve.points


def test_rows_of_ones_own_are_held_out_from_the_race_to_the_end_of_the_training(model, tmp_path):
    from advisor.report.live_training import LiveTraining
    from advisor.training.train import train

    data, own = tmp_path / "sums.jsonl", [{"prompt": f"{a}+4=", "completion": f"{a + 4}"} for a in range(30, 50)]
    data.write_text(
        "".join(f'{{"prompt": "{a}+{b}=", "completion": "{a + b}"}}\n' for a in range(40) for b in range(5))
    )
    settings = RACE | {"methods": ("ln-tuning",), "max_steps": 8}
    rec = recommend(model, data, eval_data=own, out=tmp_path / "out", **settings)
    profile, plan = rec.result.data, rec.result.training
    assert (profile.train_rows, profile.eval_rows, plan.eval_rows) == (190, 20, 20)
    assert plan.eval_path == profile.eval_path == str(tmp_path / "out" / "eval-rows.jsonl")
    report = train(tmp_path / "out", live=LiveTraining(quiet=True))
    assert report.curve.points[: len(rec.pick.curve.points)] == rec.pick.curve.points
    assert "eval-rows.jsonl" in (tmp_path / "out" / "train.py").read_text()
    with pytest.raises(BadInput, match="belongs to a race with another model, data"):
        recommend(model, data, out=tmp_path / "out", resume=True, **settings)


def test_it_recommends_what_was_measured(recommendation):
    result = recommendation.result
    probed = [c for c in result.candidates if c.curve.points]
    assert {c.name for c in probed} == {"lora", "ia3", "ln-tuning"}
    assert len(probed) == 9  # three learning rates each
    assert result.recommendation is not None
    pick = recommendation.pick
    assert pick.status == "finished"
    assert pick.predicted_loss.value < pick.baseline_loss
    assert pick.memory.peak_bytes > 0
    assert recommendation.frontier
    assert len({c.curve.points[0].step for c in probed}) == 1  # all were evaluated at equal steps


def test_every_method_of_the_catalogue_is_accounted_for(recommendation):
    from knowledge.methods import all_methods

    assert {c.name for c in recommendation.candidates} == set(all_methods())
    assert all(c.reason for c in recommendation.candidates if not c.curve.points)


def test_the_result_is_written_and_validates_against_its_own_schema(recommendation):
    text = (recommendation.folder / "recommendation.json").read_text()
    assert Result.model_validate_json(text) == recommendation.result
    assert json.loads(text)["recommendation"]["name"] == recommendation.pick.name


def test_the_config_loads_with_peft(recommendation):
    config = peft.PeftConfig.from_pretrained(recommendation.folder)
    assert config.peft_type == recommendation.pick.peft_type
    assert recommendation.peft_config.peft_type == recommendation.pick.peft_type


def test_train_py_runs_as_it_is_and_reaches_what_was_predicted(recommendation):
    run = subprocess.run(
        [sys.executable, "train.py", "--output", "adapter"],
        cwd=recommendation.folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert (recommendation.folder / "adapter" / "adapter_model.safetensors").exists()


def test_training_arguments_are_accepted_by_transformers(recommendation, tmp_path):
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **recommendation.training_arguments)
    assert arguments.learning_rate == recommendation.pick.learning_rate
    assert arguments.max_steps == 40


def test_the_dataframe_has_one_row_per_candidate(recommendation):
    frame = recommendation.to_dataframe()
    assert len(frame) == len(recommendation.candidates)
    assert frame[frame.on_frontier].method.tolist()


def test_a_finished_race_resumes_without_training_and_says_the_same(recommendation, model, data):
    again = recommend(model, data, out=recommendation.folder, resume=True, **RACE)
    assert again.result.recommendation == recommendation.result.recommendation
    trained = [[rung["trained"] for rung in race.rungs] for race in (recommendation.result.race, again.result.race)]
    assert all(trained[0]) and not any(trained[1])
    probing_s = sum(candidate.probe_s or 0 for candidate in recommendation.candidates)
    assert again.result.race.duration_s >= probing_s / again.result.race.workers


def test_where_there_is_nothing_to_resume_it_is_said(model, data, tmp_path, capsys):
    with pytest.raises(BadInput, match="give --out"):
        recommend(model, data, resume=True, **RACE)
    with pytest.raises(BadInput, match="no/such"):
        recommend("no/such/model", data, out=tmp_path / "typo", resume=True, **RACE | {"show_progress": True})
    assert "holds no race to go on with" in capsys.readouterr().err.replace("\n", " ")


def test_another_race_in_the_same_folder_is_refused(recommendation, model, data):
    with pytest.raises(BadInput, match="--resume"):
        recommend(model, data, out=recommendation.folder, **RACE)


def test_without_probes_it_answers_from_the_table_and_says_so(model, data):
    rec = recommend(model, data, probe=False, show_progress=False, methods=("lora", "ia3", "lily"))
    assert {c.status for c in rec.candidates if c.memory} == {"from table"}
    assert rec.result.race is None
    assert any("table" in warning for warning in rec.result.recommendation.warnings)


def test_without_probes_the_adapters_size_is_that_of_the_dry_run(model, data):
    options = {"probe": False, "show_progress": False, "methods": ("lora", "ia3")}
    free = recommend(model, data, **options)
    large, small = (next(c for c in free.candidates if c.name == name).adapter_bytes for name in ("lora", "ia3"))
    assert large > small > 0
    limited = recommend(model, data, require=(f"max-adapter-size={small}B",), **options)
    assert limited.pick.name == "ia3"
    assert next(c for c in limited.candidates if c.name == "lora").status == "excluded"


def test_what_nobody_published_is_not_answered_without_probes(model, data):
    with pytest.raises(NothingFits, match="Leave out --no-probe"):
        recommend(model, data, probe=False, show_progress=False, methods=("pissa",))


def test_rows_longer_than_the_model_takes_are_planned_as_long_as_they_are_cut(model, tmp_path):
    rows = [{"prompt": f"{i}=", "completion": "1" * 300} for i in range(60)]
    data = tmp_path / "long.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = recommend(model, data, probe=False, show_progress=False, vram="24GB", methods=("lora",)).result
    assert found.data.length_max_tokens > 300
    assert found.planned_run.max_length_tokens == 128


def test_without_data_the_length_asked_for_is_planned(model):
    options = {"probe": False, "show_progress": False, "vram": "24GB", "methods": ("lora",)}
    assert recommend(model, max_length_tokens=100, **options).result.planned_run.max_length_tokens == 100


def test_a_dry_run_trains_nothing_and_writes_nothing(model, data, tmp_path):
    rec = recommend(model, data, out=tmp_path / "out", dry_run=True, **RACE)
    assert not any(c.curve.points for c in rec.candidates)
    assert rec.result.recommendation is None
    assert not (tmp_path / "out" / "recommendation.json").exists()


def test_where_nothing_fits_the_message_says_what_would_and_no_folder_is_left(model, data, tmp_path):
    with pytest.raises(NothingFits, match=r"Nothing fits .* needs .* Try a smaller"):
        recommend(model, data, out=tmp_path / "runs" / "a race", vram="100kB", **RACE)
    assert not any(tmp_path.iterdir())


def test_adapters_that_will_be_too_large_are_not_trained_to_be_told_so(model, data):
    with pytest.raises(NothingFits, match="Without --require max-adapter-size=10B 3 methods"):
        recommend(model, data, require=("max-adapter-size=10B",), **RACE)


def test_a_method_that_no_dry_run_can_follow_is_judged_by_its_probe(model, data, monkeypatch):
    from probes import memory

    def refuse(*arguments, **settings):
        raise memory.NotEstimable("made for this test")

    monkeypatch.setattr(memory, "estimate_peak", refuse)
    rec = recommend(model, data, **{**RACE, "methods": ("lora",), "max_steps": 20})
    assert rec.pick.memory.basis == "measured"
    assert rec.pick.memory.peak_bytes == rec.pick.probe_peak_bytes > 0


def test_a_requirement_that_only_measuring_can_check_is_enforced(model, data):
    rec = recommend(model, data, require=("max-adapter-size=5kB",), **{**RACE, "max_steps": 20})
    assert rec.pick.adapter_bytes <= 5_000
    lora = [c for c in rec.candidates if c.name == "lora"]
    assert {c.status for c in lora} == {"excluded"}
    assert all("over" in c.reason for c in lora)


def test_forgetting_is_measured_and_can_be_limited(recommendation, model, data, tmp_path):
    probed = [c for c in recommendation.candidates if c.status in ("finished", "eliminated")]
    assert all(c.forgetting is not None and c.forgetting_noise >= 0 for c in probed)
    assert {c.forgetting_share for c in probed} == {c.curve.last_step / RACE["max_steps"] for c in probed}
    at_rates = sorted((c.learning_rate, c.forgetting) for c in probed if c.name == "lora")
    assert at_rates[-1][1] > at_rates[0][1]  # at the highest rate of the three
    assert recommendation.to_dataframe().forgetting.notna().sum() == len(probed)

    limit = sorted(c.forgetting for c in probed)[len(probed) // 2]
    required = (f"max-forgetting={max(limit, 0.001)}",)
    shutil.copytree(recommendation.folder, tmp_path / "again")
    rec = recommend(model, data, out=tmp_path / "again", resume=True, require=required, **RACE)
    assert rec.pick.forgetting <= max(limit, 0.001)
    out = [c for c in rec.candidates if c.status == "excluded" and c.curve.points]
    assert out
    assert all(c.forgetting > limit and "over" in c.reason for c in out)


def test_a_limit_of_forgetting_needs_probes(model, data):
    with pytest.raises(BadInput, match="only by probing"):
        recommend(model, data, probe=False, show_progress=False, require=("max-forgetting=0.1",))


def test_a_refused_race_leaves_the_other_one_untouched(recommendation, model, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in recommendation.folder.rglob("*") if p.suffix != ".lock"}
    other = write_rows(tmp_path / "other.jsonl", "causal-lm")
    with pytest.raises(BadInput):
        recommend(model, other, out=recommendation.folder, **RACE)
    assert {p: p.stat().st_mtime_ns for p in recommendation.folder.rglob("*") if p.suffix != ".lock"} == before


def test_what_slows_requests_down_too_much_is_out_and_what_merges_stays(model, data):
    settings = {**RACE, "max_steps": 20, "methods": ("lora", "adaption-prompt"), "budget_minutes": 1}
    rec = recommend(model, data, require=("max-latency-overhead=0.1%",), **settings)
    assert rec.pick.name == "lora"
    assert rec.pick.latency_overhead == 0
    probed = [c for c in rec.candidates if c.name == "adaption-prompt" and c.curve.points]
    assert {c.status for c in probed} == {"excluded"}
    assert all(c.latency_overhead > 0.001 and "longer than without it" in c.reason for c in probed)
    assert rec.result.requirements[0].methods == ("LLaMA-Adapter",)
    assert rec.result.requirements[0].alone == 1


def test_requirements_that_leave_no_method_say_which_one_to_drop(model, data):
    asked = ("mergeable", "edge")
    with pytest.raises(NothingFits) as caught:
        recommend(model, data, require=asked, **{**RACE, "methods": ("lily", "pissa", "olora")})
    assert "Without --require edge 2 methods come back: PiSSA, OLoRA." in str(caught.value)
    assert "Lily: cannot be merged into the base model" in str(caught.value)
    assert "- LoRA:" not in str(caught.value)  # nobody asked for it
