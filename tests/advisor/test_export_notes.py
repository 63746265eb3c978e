"""What the configs for other trainers say of the ways in which these train otherwise than the probes."""

from __future__ import annotations

import json

import pytest

from advisor.exporters import get_exporter
from knowledge.schema import PlannedRun
from probes.data.tokenise import encode_batch
from tests.advisor.test_export_trainers import lora_run
from tests.probes.tokenizers import byte_tokenizer, spacing_tokenizer


@pytest.mark.parametrize(("quantization", "is_told"), [("none", False), ("nf4", True), ("int8", True)])
def test_that_trl_trains_in_bfloat16_beside_few_bits_is_told(quantization, is_told, tmp_path):
    """trl/trainer/sft_trainer.py converts what trains, but for DoRA's lengths."""
    run = lora_run(run=PlannedRun(max_steps=600, quantization=quantization))
    [path] = get_exporter("trl").export(tmp_path, run)
    assert ("TRL trains the adapter in bfloat16" in path.read_text()) == is_told


@pytest.mark.parametrize(
    ("data_format", "cut_rows", "is_told"), [("messages", 3, True), ("messages", 0, False), ("text", 3, False)]
)
def test_that_llama_factory_cuts_rows_otherwise_is_told_where_there_are_some(data_format, cut_rows, is_told, tmp_path):
    run = lora_run(data_format=data_format, uses_chat_template=True)
    run = run.model_copy(update={"data": run.data.model_copy(update={"cut_rows": cut_rows})})
    path = get_exporter("llama-factory").export(tmp_path, run)[0]
    assert ("cuts rows above the limit in prompt and answer" in path.read_text()) == is_told


@pytest.mark.parametrize(
    ("prompt", "completion", "is_told"), [("2 + 2 =", " 4", False), ("to fro", "nd", True), ("2 + 2 = ", "4", True)]
)
def test_where_trl_may_make_tokens_across_the_border_it_is_told(prompt, completion, is_told, tmp_path):
    """In one text "fro" and "nd" are other tokens than apart."""
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"prompt": prompt, "completion": completion}))
    [path] = get_exporter("trl").export(tmp_path / "out", lora_run(data_path=str(data)))
    assert ("go across the border" in path.read_text()) == is_told


def test_that_axolotl_reads_a_space_before_completions_is_told_and_so(tmp_path):
    """It gives prompt and completion to the tokenizer each by itself (axolotl/prompt_strategies/alpaca_w_system.py)."""
    tokenizer = spacing_tokenizer("every text")
    [(ids, trained)] = encode_batch([[("to fro", False), ("nd", True)]], tokenizer)
    of_probes = [tokenizer.convert_ids_to_tokens(i) for i, is_trained in zip(ids, trained, strict=True) if is_trained]
    assert of_probes[:2] == ["n", "d"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("nd")["input_ids"])[:3] == ["▁", "n", "d"]
    [path] = get_exporter("axolotl").export(tmp_path, lora_run())
    assert "puts a space before every text" in path.read_text()


@pytest.mark.parametrize(("data_format", "is_told"), [("messages", True), ("prompt-completion", False)])
def test_that_axolotl_may_leave_the_end_of_turns_untrained_is_told(data_format, is_told, tmp_path):
    [path] = get_exporter("axolotl").export(tmp_path, lora_run(data_format=data_format, uses_chat_template=True))
    assert ("eot_tokens" in path.read_text()) == is_told


ASKED, ANSWERED = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("data_format", "row", "is_told"),
    [
        ("messages", {"messages": [ASKED, ANSWERED]}, False),
        ("messages", {"messages": [ASKED, ANSWERED, ASKED, ANSWERED]}, True),
        ("alpaca", {"instruction": "a", "output": "b"}, False),
        ("alpaca", {"instruction": "a", "output": "b", "history": [["a", "b"]]}, True),
    ],
)
def test_that_llama_factory_begins_chats_anew_is_told_of_longer_ones(data_format, row, is_told, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(row))
    run = lora_run(data_format=data_format, uses_chat_template=True, data_path=str(data))
    path = get_exporter("llama-factory").export(tmp_path / "out", run)[0]
    assert ("begins the chat anew" in path.read_text()) == is_told


@pytest.mark.parametrize(("data_format", "is_told"), [("text", True), ("messages", False)])
def test_that_llama_factory_may_begin_texts_otherwise_is_told_and_so(data_format, is_told, tmp_path):
    """It asks for `add_bos_token` (llamafactory/data/processor/pretrain.py), which is of no tokenizer that begins texts
    by its own file."""
    tokenizer = byte_tokenizer(bos=True)
    [(ids, _)] = encode_batch([[("a", True)]], tokenizer)
    assert ids[0] == tokenizer.bos_token_id and not tokenizer.add_bos_token
    path = get_exporter("llama-factory").export(tmp_path, lora_run(data_format=data_format, uses_chat_template=True))[0]
    assert ("add_bos_token" in path.read_text()) == is_told
