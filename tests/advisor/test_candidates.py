"""Which methods may enter, as far as the model and the rows tell."""

import re
from types import SimpleNamespace

import pytest
from transformers import AutoConfig

from advisor.candidates import _lacks_places
from advisor.survey import check_tokens
from knowledge.errors import BadInput
from knowledge.schema import PlannedRun
from probes.data.rows import TokenRows


@pytest.mark.parametrize(
    ("model_type", "longest", "settings", "words"),
    [
        ("bert", 500, {"num_virtual_tokens": 20}, "puts 20 tokens .* up to 500 .* 512 places .*--max-length 492"),
        ("bert", 492, {"num_virtual_tokens": 20}, None),
        ("gpt2", 1024, {"num_virtual_tokens": 1}, "--max-length 1023"),
        ("roberta", 512, {"num_virtual_tokens": 1}, "--max-length"),
        ("llama", 2048, {"num_virtual_tokens": 20}, None),  # rotates
        ("t5", 2048, {"num_virtual_tokens": 20}, None),
        ("bert", 512, {"r": 8}, None),
        ("bert", 512, None, None),
    ],
)
def test_what_is_put_before_rows_needs_places(model_type, longest, settings, words):
    run = PlannedRun(max_steps=1, max_length_tokens=longest)
    survey = SimpleNamespace(config=AutoConfig.for_model(model_type), planned_run=run)
    reason = _lacks_places(settings, survey)
    assert reason is None if words is None else re.search(words, reason)


def test_a_token_without_an_embedding_is_named():
    config = AutoConfig.for_model("llama", vocab_size=100)
    tokenizer = SimpleNamespace(convert_ids_to_tokens=lambda token: f"<|{token}|>")
    data = SimpleNamespace(train=TokenRows.build([([1, 99], [True, True])]), eval=TokenRows.build([]))
    check_tokens(config, data, tokenizer)
    data.eval = TokenRows.build([([100], [True])])
    with pytest.raises(BadInput, match=r"'<\|100\|>', number 100, .* embeddings for 100"):
        check_tokens(config, data, tokenizer)
