"""Requests that cannot be met are refused before any work."""

from __future__ import annotations

import pytest

from advisor.request import make_request
from knowledge.errors import BadInput
from knowledge.methods import get_method
from tests.tiny import tiny_model


def test_the_file_of_an_own_metric_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make_request(model="m", data="d", metric="own.py:score").metric == f"{tmp_path / 'own.py'}:score"
    assert make_request(model="m", data="d", metric="exact match").metric == "exact match"


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 1e17), ("max_steps", 10**12), ("batch_size", 10**8), ("max_length_tokens", 10**7), ("data", "")],
)
def test_a_slip_of_the_keyboard_is_named(field, value):
    with pytest.raises(BadInput, match=field.replace("max_length_tokens", "max.length").replace("_", ".")):
        make_request(**{"model": "m", "data": "d.jsonl", field: value})


def test_methods_may_be_called_by_their_titles():
    asked = make_request(model="m", data="d", methods=("LoRA+", "IA3", "all"), exclude=("Prompt Tuning",))
    assert asked.methods == ("lora-plus", "ia3", "all") and asked.exclude == ("prompt-tuning",)


def test_from_python_one_value_needs_no_list():
    asked = make_request(
        model="m", data="d", methods="lora", exclude=get_method("lora-all-linear").title, require="mergeable"
    )
    assert (asked.methods, asked.require) == (("lora",), ("mergeable",))
    assert asked.exclude == ("lora-all-linear",)
    assert make_request(model="m", data="d", methods=None, exclude=None, require=None).methods == ()
    assert make_request(model="m", data="d", methods="lora, BitFit").methods == ("lora", "bitfit")
    assert make_request(model="m", data="d", columns="text=a, label=b").columns == {"text": "a", "label": "b"}
    with pytest.raises(BadInput, match="no method ''"):
        make_request(model="m", data="d", methods="")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"budget": 2}, "no option 'budget'. Did you mean 'budget_minutes'"),
        ({"data": 3}, r"data: give text: JSONL.*seen: 3.*to_json"),
        ({"model": tiny_model(trained=False)}, r"model: give text: hub id.*seen: a LlamaForCausalLM.*save_pretrained"),
        ({"columns": ["text"]}, r"columns: 'text' names no column.*text=review"),
        ({"vram": 24}, r"vram: give text: .*'24GB' \(seen: 24\)"),
        ({"metric": max}, r"metric: give text: .*FILE.py:FUNCTION.*seen: a builtin_function_or_method"),
    ],
)
def test_what_python_users_try_is_answered_with_what_there_is(fields, words):
    with pytest.raises(BadInput, match=words) as refused:
        make_request(**{"model": "m", "data": "d", **fields})
    assert len(str(refused.value)) < 300


def test_all_words_that_are_not_known_are_told_at_once():
    with pytest.raises(BadInput) as raised:
        make_request(
            model="m", data="d", methods=["lorra", "oftt"], exclude=["all"], require=["mergable", "vllm", "edgy"]
        )
    told = str(raised.value)
    assert all(f"no method {name!r}" in told for name in ("lorra", "oftt", "all")) and "'lora'" in told
    assert "'mergeable'" in told and "'edgy'" in told and "'vllm'. " not in told


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"epochs": 1, "max_steps": 9}, "give one of them"),
        ({"vram": "24GB", "gpu": "A100"}, "give one of them"),
        ({"data": None}, "probing needs data"),
        ({"data": None, "eval_data": "e.jsonl", "probe": False}, "eval_data is held out beside data"),
        ({"eval_data": {"text": "a"}}, "eval_data: .*Dataset.to_json"),
        ({"ray_address": "auto"}, "give --executor ray"),
        ({"metric": "own.py:score", "executor": "ray"}, "nodes of a cluster lack"),
        ({"methods": ("lora",), "exclude": ("lora",)}, "both name lora"),
        ({"methods": ("full",)}, "methods names full alone.*never recommended"),
        ({"metric": "f1", "batch_size": 0}, "(?s)batch_size.*there is no metric 'f1'. Known: accuracy, .*macro F1"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"format": "alpacca", "batch_size": 0}, "(?s)batch_size.*Did you mean 'alpaca'"),
        ({"scheduler": "cosinus"}, "scheduler: .*'cosine', 'linear' or 'constant'.*seen: 'cosinus'"),
        ({"warmup_fraction": 10}, r"warmup_fraction \(--warmup\): .*less than or equal to 0.5 \(seen: 10\)"),
        ({"budget_minutes": 0}, r"budget_minutes \(--budget\)"),
        ({"quantize": "4bit"}, r"^The request cannot be used:\n  - quantize: .*'auto'.*\(seen: '4bit'\)$"),
    ],
)
def test_what_does_not_go_together_is_named(fields, words):
    with pytest.raises(BadInput, match=words):
        make_request(**{"model": "m", "data": "d.jsonl", **fields})
