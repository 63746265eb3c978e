"""`advisor methods`: every entry is shown, one is explained, JSON is whole, a wrong name helps."""

from __future__ import annotations

import json

import pytest

from advisor.cli.methods import command, explanation
from knowledge.errors import BadInput
from knowledge.methods import all_methods, get_method


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


@pytest.mark.parametrize("name", all_methods())
def test_every_method_can_be_explained(name):
    text = explanation(get_method(name))
    assert get_method(name).summary in text
    assert get_method(name).paper in text


def test_an_explanation_says_where_it_was_seen_to_work_and_what_it_converts_to():
    assert "(not gpt2)" in explanation(get_method("delora"))
    assert "converted exactly to a LoRA" in explanation(get_method("delora"))
    assert "needs a base that is not quantised" in explanation(get_method("delora"))


def test_a_special_purpose_method_says_why_it_is_no_candidate():
    assert "Not a candidate: it needs the ids of the tokens to train." in explanation(get_method("trainable-tokens"))


def test_an_explanation_says_what_the_table_knows():
    text = explanation(get_method("lily"))
    assert "cannot be merged" in text
    assert "rank 1 of" in text
    assert "54.9 %" in text


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(BadInput, match="Did you mean 'rslora'"):
        command(name="rs-lora", as_json=False)
