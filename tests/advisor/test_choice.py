"""Another candidate than the recommended one: what is told of it, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from advisor.candidates import candidate_id
from advisor.choice import choose, choose_in
from advisor.cli import main
from advisor.exporters import get_exporter
from advisor.exporters.script import training_script
from advisor.outcome import Recommendation
from advisor.report import headline
from advisor.report.content import mark, verdict
from advisor.report.html import page
from advisor.report.next_steps import choice_command
from advisor.save import load, save
from knowledge.errors import BadInput
from knowledge.methods import get_method
from tests.advisor.factories import candidate, of_chats, result


@pytest.fixture
def folder(tmp_path):
    made = result()
    save(made, tmp_path / "out")
    return tmp_path / "out"


def test_the_evidence_is_told_from_where_the_chosen_one_stands():
    made = result()
    assert made.recommendation.name == "rslora"
    chosen = choose(made, "oft")
    assert (chosen.pick.name, chosen.pick.reason) == ("oft", "")
    assert chosen.files == ()  # those of the recommendation are of another method
    assert chosen.recommendation.chosen_over == "rsLoRA at learning rate 1e-4"
    reasons = {c.name: c.reason for c in chosen.candidates}
    assert "better in exact match" in reasons["rslora"]
    assert reasons["boft"] == "needs 30.1 GB, the device has 24.0 GB"  # a reason of its own stays
    assert any("Against rsLoRA" in r and "worse in exact match" in r for r in chosen.recommendation.reasons)
    assert [c.model_copy(update={"reason": ""}) for c in chosen.candidates] == [
        c.model_copy(update={"reason": ""}) for c in made.candidates
    ]


def test_a_trainer_gets_what_the_chosen_one_needs():
    candidates = [candidate("lora", 0.6, title="LoRA"), candidate("lora-plus", 0.4, title="LoRA+", learning_rate=3e-4)]
    chosen = choose(result(candidates), "LoRA+").training
    method = get_method("lora-plus")
    assert chosen.learning_rate == 3e-4
    assert (chosen.optimizer, chosen.optimizer_settings) == (method.optimizer, method.optimizer_settings)
    assert chosen.optimizer != get_method("lora").optimizer


def test_of_several_rates_the_one_that_stayed_is_taken_unless_one_is_given():
    made = result()
    assert choose(made, "lora").pick.learning_rate == 2e-4
    assert choose(made, "lora", 1e-4).pick.learning_rate == 1e-4
    with pytest.raises(BadInput, match=r"not known here at learning rate 3e-3. Choose from 1e-4, 2e-4"):
        choose(made, "lora", 3e-3)


def test_the_best_rate_is_taken_wherever_it_stands_and_a_rate_is_known_however_it_was_computed():
    rates = [candidate("lora", q, learning_rate=rate) for q, rate in ((0.4, 1e-5), (0.5, 3 * 1e-5), (0.6, 5e-5))]
    made = result([*rates, candidate("oft", 0.7)])
    assert choose(made, "lora").pick.learning_rate == 5e-5
    for asked, found in ((1e-5, 1e-5), (3e-5, 3 * 1e-5), (5e-5, 5e-5)):
        assert choose(made, "lora", asked).pick.learning_rate == found


def test_a_choice_can_be_taken_back():
    made = result()
    back = choose(choose(made, "oft"), "rslora")
    assert (back.candidates, back.recommendation) == (made.candidates, made.recommendation)


def test_full_fine_tuning_may_be_chosen_for_it_was_measured():
    assert choose(result(), "full").recommendation.title == "Full fine-tuning"


@pytest.mark.parametrize("name", ["boft", "lily", "adalora", "shira", "no-such-method"])
def test_what_has_no_outcome_is_refused_with_the_reason(name):
    made = result()
    with pytest.raises(BadInput, match="Choose from beft, dora, full, ia3, lora, oft, rslora, vera") as refused:
        choose(made, name)
    reason = next((c.reason for c in made.candidates if c.name == name), "nothing here was run with it")
    assert reason in str(refused.value)


def test_what_failed_without_a_word_is_refused_with_its_status():
    made = result([candidate("lora"), candidate("oft", None, status="failed")])
    with pytest.raises(BadInput, match=r"nothing can be told \(failed\)"):
        choose(made, "oft")


def test_where_nothing_came_through_there_is_nothing_to_choose():
    with pytest.raises(BadInput, match="nothing to choose"):
        choose(result([candidate("lora", None, status="failed")]), "lora")


def test_files_are_written_to_a_folder_of_their_own(folder):
    before = {p: p.read_bytes() for p in folder.iterdir()}
    target = choose_in(folder, "oft")
    assert target == folder.with_name("out-oft")
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    assert load(target).pick.name == "oft"
    assert json.loads((target / "adapter_config.json").read_text())["peft_type"] == "LORA"  # as the factory has it
    assert "chosen from what was measured" in (target / "train.py").read_text()
    assert choose_in(folder, "oft") == target  # twice is once
    for taken in (folder, target):
        with pytest.raises(BadInput, match="already holds something else"):
            choose_in(folder, "ia3", out=taken)


def test_a_choice_of_another_race_is_not_overwritten_nor_is_its_journal(folder):
    target = choose_in(folder, "oft")
    save(load(target).model_copy(update={"created_at": "2026-01-01T00:00:00+00:00"}), target)
    (target / "journal.jsonl").write_text("hours of work")
    before = (target / "recommendation.json").read_text()
    with pytest.raises(BadInput, match="already holds something else"):
        choose_in(folder, "oft")
    assert (target / "journal.jsonl").read_text() == "hours of work"
    assert (target / "recommendation.json").read_text() == before


def test_a_choice_that_was_interrupted_while_copying_is_made_whole_by_the_next(folder, monkeypatch):
    made = result()
    pick = choose(made, "oft").pick
    probe = candidate_id(get_method("oft"), pick.learning_rate, pick.peft_config, made.planned_run)
    (folder / probe).mkdir()
    (folder / probe / "checkpoint.safetensors").write_bytes(b"trained")
    (folder / "journal.jsonl").write_text("measured")

    def stop(source, target):
        Path(target).mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("shutil.copytree", stop)
        choose_in(folder, "oft")
    target = choose_in(folder, "oft")
    assert (target / probe / "checkpoint.safetensors").read_bytes() == b"trained"
    assert (target / "journal.jsonl").read_text() == "measured"
    assert choose_in(folder, "oft") == target  # what lies there already is kept
    assert not list(target.glob(".*partial"))


def test_another_rate_of_the_recommended_method_is_held_against_the_recommended_one():
    rates = [
        candidate("lora", q, title="LoRA", learning_rate=rate) for q, rate in ((0.4, 1e-4), (0.6, 2e-4), (0.3, 5e-4))
    ]
    made = result(rates)
    assert made.pick.learning_rate == 2e-4
    view = choose(made, "lora", 5e-4)
    assert ["better in exact match" in c.reason for c in view.candidates] == [True, True, False]
    chosen = view.recommendation
    assert chosen.gain_over_lora == "This is LoRA with a tuned learning rate; LoRA at 2e-4 was recommended."
    assert any("Against LoRA (rate 2e-4)" in r and "worse" in r for r in chosen.reasons)
    assert not any("best learning rate" in w for w in chosen.warnings)


@pytest.mark.parametrize("named", [".", ".."])
def test_the_folder_may_be_the_one_that_one_is_in(folder, monkeypatch, named):
    (folder / "adapter").mkdir()
    monkeypatch.chdir(folder / "adapter" if named == ".." else folder)
    assert choose_in(Path(named), "oft") == folder.with_name("out-oft")


def test_someones_own_files_are_not_mixed_with_ours(folder):
    own = folder.with_name("own")
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="already holds something else"):
        choose_in(folder, "oft", out=own)
    assert [p.name for p in own.iterdir()] == ["notes.txt"]
    with pytest.raises(BadInput, match="already holds something else"):
        choose_in(folder, "oft", out=own / "notes.txt")
    (own / "empty").mkdir()
    assert choose_in(folder, "oft", out=own / "empty") == own / "empty"


def test_another_rate_of_the_same_method_is_another_choice(folder):
    target = choose_in(folder, "lora", 2e-4)
    with pytest.raises(BadInput, match="already holds something else"):
        choose_in(folder, "lora", 1e-4)
    assert load(target).pick.learning_rate == 2e-4


def test_reports_say_that_it_was_chosen_and_claim_no_confidence(folder, capsys):
    main_until_exit(["choose", str(folder), "lora"])
    shown = capsys.readouterr().out
    assert "Chosen in place of rsLoRA at learning rate 1e-4" in shown
    assert "▶ chosen" in shown and "confidence" not in shown and "\nor " not in shown
    chosen = load(folder.with_name("out-lora"))
    assert (
        dict(headline.lines(chosen))["over LoRA"]
        == "This is LoRA with a tuned learning rate; rsLoRA at 1e-4 was recommended."
    )
    assert "Chosen in place of rsLoRA" in page(chosen) and "confidence" not in page(chosen)


def test_the_summary_of_a_recommendation_says_how_to_take_another(folder):
    made = load(folder)
    command = choice_command(made, folder)
    name = command.split()[-1]
    assert command == f"advisor choose {folder} {name}"
    assert mark(next(c for c in made.candidates if c.name == name), made) in ("frontier", "tie")
    assert verdict(made.recommendation) == "Recommended"
    assert choice_command(result([candidate("lora", 0.5)]), folder) is None


def test_the_python_api_gives_the_config_of_the_chosen_one():
    rec = Recommendation(result())
    chosen = rec.choose("lora", 1e-4)
    assert chosen.training_arguments["learning_rate"] == 1e-4
    assert chosen.folder is None and rec.pick.name == "rslora"


@pytest.mark.parametrize(
    ("status", "words"), [("finished", "chosen from what was measured"), ("from table", "chosen from published runs")]
)
def test_no_file_of_a_choice_says_that_it_was_recommended(status, words):
    both = [candidate("lora", 0.5, status=status), candidate("oft", 0.48, status=status)]
    made = result(both)
    assert "the run that was recommended" in training_script(made)
    source = training_script(choose(made, "oft")).replace("\n", " ")
    assert f"the run that was {words}" in source and f"{words} by peft-advisor" in source
    assert "recommended" not in source


def test_a_choice_without_an_adapter_leaves_no_config_of_the_one_before(folder, caplog):
    rec = Recommendation(result([candidate("lora", 0.5), candidate("bitfit", 0.4, peft_type=None, peft_config=None)]))
    assert "adapter_config.json" in {path.name for path in rec.save(folder)}
    rec.choose("bitfit").save(folder)
    assert {p.name for p in folder.iterdir()} == {".advisor.json", "train.py", "recommendation.json", "report.html"}
    rec.save(folder)
    (folder / "adapter_config.json").write_text("my own words")
    rec.choose("bitfit").save(folder)
    assert (folder / "adapter_config.json.1.bak").read_text() == "my own words" and "kept as" in caplog.text
    assert not (folder / "adapter_config.json").exists()


def test_what_was_exported_of_the_one_before_does_not_stay_beside_the_new_config(tmp_path, caplog):
    rec = Recommendation(of_chats(result()))
    rec.save(tmp_path)
    get_exporter("axolotl").export(tmp_path, rec.result)
    (tmp_path / "training.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("my own words")
    rec.save(tmp_path)  # as a race that is resumed does, where it comes to the same
    assert (tmp_path / "axolotl.yaml").exists() and not caplog.text
    rec.choose("oft").save(tmp_path)
    assert not (tmp_path / "axolotl.yaml").exists() and "axolotl.yaml is no more" in caplog.text
    assert (tmp_path / "training.json").exists() and (tmp_path / "notes.txt").exists()


def main_until_exit(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
