"""`advisor methods`: every entry is shown, one is explained, JSON is whole, a wrong name helps."""

from __future__ import annotations

import json

import pytest

from advisor.cli.methods import command
from advisor.report.method_page import method_page
from knowledge.errors import BadInput
from knowledge.methods import all_methods, get_method
from knowledge.table import load


def test_the_list_has_a_row_for_every_method(capsys):
    command(name=None, as_json=False)
    shown = capsys.readouterr().out.splitlines()
    rows = {line.split()[0] for line in shown if line}
    assert rows >= {method.name for method in all_methods().values() if not method.special_purpose}
    assert "x-lora" in next(line for line in shown if "special purpose" in line)


def test_types_of_a_newer_peft_are_named(capsys, monkeypatch):
    monkeypatch.setattr("knowledge.methods.uncatalogued_peft_types", lambda: ("NEWLORA",))
    command(name=None, as_json=False)
    assert "Not catalogued: the installed PEFT also has NEWLORA." in capsys.readouterr().out


def test_json_holds_the_whole_entries(capsys):
    command(name=None, as_json=True)
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == list(all_methods())
    lora = next(entry for entry in entries if entry["name"] == "lora")
    assert lora["settings"] == {"r": 32, "lora_alpha": 64}
    assert lora["capabilities"]["mergeable"] is True
    assert lora["seen"]["gpt2"]["works"] is True


def page(name: str, columns: int = 80) -> str:
    """The page of a method without its line ends."""
    return " ".join(method_page(get_method(name), load(include_user=False), columns).split())


@pytest.mark.parametrize("name", all_methods())
def test_every_method_is_explained_within_the_width_of_the_terminal(name):
    lines = method_page(get_method(name), load(include_user=False), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert get_method(name).summary in page(name)
    assert get_method(name).paper in page(name) or get_method(name).paper == "–"


def test_the_page_says_where_it_was_seen_to_work_and_what_it_can_and_cannot():
    assert "(not gpt2)" in page("delora")
    assert "converted exactly to a LoRA" in page("delora")
    assert "with an error of 8 % to a LoRA" in page("lokr")
    assert "Cannot train on a quantised base" in page("delora")
    assert "train on a base in 8 bits (int8)" in page("loha")
    assert "bert, t5; in 4 bits too" in page("lora")
    assert "bert, t5, with their bases in 4 bits" in page("qlora")
    assert "be served as any model" in page("full")


def test_a_special_purpose_method_says_why_it_is_no_candidate():
    assert "No candidate it needs the ids of the tokens to train." in page("trainable-tokens")


def test_the_page_says_when_it_wins_and_loses_in_the_table():
    text = page("lily")
    assert "metamathqa/llama-3.2-3b: 52.6 % accuracy, rank 1 of 63 runs" in text
    assert "Wins on" in text
    assert "metamathqa/llama-3.2-3b, against LoRA: accuracy 52.6 % (47.8 %)" in text
    assert "memory 25.6 GB (22.3 GB)" in text.partition("Loses on")[2]
    assert "forgetting 0.22 (0.05)" in text.partition("Loses on")[2]
    assert "times LoRA's time" in text.partition("Costs")[2]
    assert "Cannot merge into the base model" in text


@pytest.mark.parametrize("name", ["ia3", "oft", "lora", "ln-tuning"])
def test_of_runs_that_are_equal_none_stands_before_another(name):
    """Of eight runs on binary_numbers none has an answer right."""
    assert "binary_numbers/smollm2-135m: 0.0 % held-out exact match, rank 1 to 8 of 8 runs" in page(name)


def test_a_run_alone_is_one_run():
    alone = [r for r in load(include_user=False) if r.method == "oft" and r.task == "text-to-image"]
    assert "rank 1 of 1 run " in " ".join(method_page(get_method("oft"), alone, 80).split())


def test_lora_is_held_against_the_best_of_the_others_and_an_unknown_method_against_none():
    assert "against lily: accuracy 47.8 % (52.6 %)" in page("lora").partition("Loses on")[2]
    assert "In the table no run Costs no figures" in page("qlora")


def test_no_line_ends_between_a_number_and_its_unit():
    lines = method_page(get_method("loha"), load(include_user=False), 60).splitlines()
    assert not any(line.strip().startswith(("%", "GB", "MB", "min")) for line in lines)
    assert any("73.4 MB" in line for line in lines)


def test_the_command_prints_the_page(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    command(name="miss", as_json=False)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("MiSS  (miss")
    assert 50 < max(map(len, shown)) <= 60


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(BadInput, match="Did you mean 'rslora'"):
        command(name="rs-lora", as_json=False)
