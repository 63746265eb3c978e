"""Configs for TRL, Axolotl and LLaMA-Factory: golden files, and what is refused. `UPDATE_SNAPSHOTS=1` writes the golden
files anew. What the trainers make of them is in test_trainers_read_exports.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from advisor.exporters import NotExpressible, get_exporter
from advisor.exporters._trainer import yaml_text
from advisor.recommendation import Result
from knowledge.errors import BadInput
from knowledge.schema import PlannedRun
from probes.data.hold_out import SAME_PROMPT
from tests.advisor.factories import LORA_CONFIG, candidate, of_chats, result

GOLDEN = Path(__file__).parent / "snapshots"
TRAINERS = ("trl", "axolotl", "llama-factory")
LORA_PLUS = {"optimizer": "peft.optimizers:create_loraplus_optimizer", "optimizer_settings": {"loraplus_lr_ratio": 16}}


def lora_run(config=LORA_CONFIG, *, run: PlannedRun | None = None, model=None, **plan) -> Result:
    base = result([candidate(learning_rate=1e-5, peft_config=config)])
    changes = {"training": base.training.model_copy(update={"data_path": "/data/my.jsonl", **plan})}
    changes |= {"planned_run": run} if run else {}
    changes |= {"model": base.model.model_copy(update=model)} if model else {}
    return base.model_copy(update=changes)


def exported(target: str, folder: Path, recommendation: Result) -> dict:
    import yaml

    written = get_exporter(target).export(folder, for_target(target, recommendation))
    return yaml.safe_load(written[0].read_text(encoding="utf-8"))


def for_target(target: str, recommendation: Result) -> Result:
    return of_chats(recommendation) if target == "llama-factory" else recommendation


def test_a_target_is_known_in_any_case_of_the_letters_and_a_near_one_is_offered():
    assert get_exporter("TRL").name == "trl"
    with pytest.raises(BadInput, match=r"There is no export target 'trk'. Did you mean 'trl'"):
        get_exporter("trk")


@pytest.mark.parametrize("target", TRAINERS)
def test_golden_files(target, tmp_path):
    for path in get_exporter(target).export(tmp_path, for_target(target, lora_run())):
        golden = GOLDEN / f"{target}-{path.name}"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            golden.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        assert path.read_text(encoding="utf-8") == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", TRAINERS)
def test_batches_that_ran_out_of_memory_in_the_race_are_done_in_parts(target, tmp_path):
    whole = lora_run()
    split = whole.model_copy(update={"candidates": (whole.pick.model_copy(update={"micro_batches": 2}),)})
    before, after = (exported(target, tmp_path / str(i), made) for i, made in enumerate((whole, split)))
    size = "micro_batch_size" if target == "axolotl" else "per_device_train_batch_size"
    assert after[size] == before[size] / 2
    assert after["gradient_accumulation_steps"] == 2 * before["gradient_accumulation_steps"]


def test_yaml_reads_back_as_it_was_even_by_the_old_rules():
    import yaml

    values = {
        "rate": 1e-05,
        "small": 2.5e-07,
        "half": 0.5,
        "whole": 1.0,
        "steps": 600,
        "flag": True,
        "nothing": None,
        "word": "no",
        "text": 'a: "b" # c\n\\ \u2028 é',
        "names": ["q_proj", "v_proj"],
        "parts": [{"path": "json", "split": "train", "inner": {"a": ["x"]}}],
    }
    read = yaml.safe_load(yaml_text(values))
    assert read == values
    assert {key: type(value) for key, value in read.items()} == {key: type(value) for key, value in values.items()}


@pytest.mark.parametrize("target", TRAINERS)
@pytest.mark.parametrize(
    ("recommendation", "words"),
    [
        (lora_run({**LORA_CONFIG, "peft_type": "VERA"}), "VERA"),
        (lora_run({**LORA_CONFIG, "layers_to_transform": [1]}), "layers_to_transform"),
        (lora_run(optimizer="peft.optimizers:create_lorafa_optimizer"), "create_lorafa_optimizer"),
        (lora_run(setup_by="eva"), "prepares the model"),
        (lora_run(data_format="messages"), "chat template"),
        (lora_run(run=PlannedRun(task="seq2seq-lm", max_steps=5)), "seq2seq-lm"),
        (lora_run(model={"source": "gguf file", "location": "/m/x.gguf"}), "GGUF"),
        (lora_run(data_path="/data/my.jsonl.zst"), "zst"),
        (lora_run(data_columns={"prompt": "question", "completion": "completion"}), "other columns"),
    ],
)
def test_what_a_trainer_cannot_say_is_refused_with_an_alternative(target, recommendation, words, tmp_path):
    recommendation = recommendation if words == "chat template" else for_target(target, recommendation)
    with pytest.raises(NotExpressible, match=words) as refused:
        get_exporter(target).export(tmp_path, recommendation)
    assert refused.value.alternative
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "key"), [("trl", "test_split_size"), ("axolotl", "val_set_size"), ("llama-factory", "val_size")]
)
def test_of_millions_of_rows_some_are_held_out_too(target, key, tmp_path):
    """Each of them refuses evaluations where none are."""
    run = lora_run()
    many = run.data.model_copy(update={"train_rows": 9_999_800, "eval_rows": 200})
    assert exported(target, tmp_path, run.model_copy(update={"data": many}))[key] == 2e-5


def test_trl_needs_a_template_for_prompts_of_messages(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text('{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant"}]}\n')
    with pytest.raises(NotExpressible, match="by a chat template, and the model has none"):
        exported("trl", tmp_path / "out", lora_run(data_path=str(path)))
    assert exported("trl", tmp_path / "out", lora_run(data_path=str(path), uses_chat_template=True))


@pytest.mark.parametrize("target", TRAINERS)
def test_an_object_around_the_rows_is_no_row(target, tmp_path):
    path, rows = tmp_path / "rows.json", [{"messages": [{"role": "user", "content": "a"}]}]
    run = of_chats(lora_run(data_path=str(path)))
    path.write_text(json.dumps({"data": rows}))
    with pytest.raises(NotExpressible, match=r"rows.json, an object around its rows"):
        get_exporter(target).export(tmp_path / "out", run)
    for text in (json.dumps(rows), "\n".join(json.dumps(row) for row in rows * 2)):
        path.write_text(text)
        assert get_exporter(target).export(tmp_path / "out", run)


@pytest.mark.parametrize("target", TRAINERS)
def test_a_table_that_is_not_separated_by_commas_is_refused(target, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text;more\na;b\n")
    with pytest.raises(NotExpressible, match=r"reads rows.csv as separated by commas"):
        get_exporter(target).export(tmp_path / "out", lora_run(data_path=str(path), data_format="text"))
    path.write_text("text,more\na,b\n")
    assert get_exporter(target).export(tmp_path / "out", lora_run(data_path=str(path), data_format="text"))


def test_the_subset_and_the_split_of_a_hub_dataset_go_along(tmp_path):
    run = of_chats(lora_run()).model_copy(deep=True)
    run = run.model_copy(update={"training": run.training.model_copy(update={"data_path": "owner/name:main:test"})})
    place = {"path": "owner/name", "name": "main", "split": "test"}
    for target in ("trl", "axolotl"):
        [entry] = exported(target, tmp_path, run)["datasets"]
        assert entry.items() >= place.items()
    exported("llama-factory", tmp_path, run)
    info = json.loads((tmp_path / "llama-factory-data" / "dataset_info.json").read_text())["advisor_data"]
    assert info.items() >= {"hf_hub_url": "owner/name", "subset": "main", "split": "test"}.items()


def test_differences_between_the_trainers():
    pissa = {**LORA_CONFIG, "init_lora_weights": "pissa"}
    with pytest.raises(NotExpressible, match="init_lora_weights"):
        get_exporter("trl").export(Path("unused"), lora_run(pissa))
    with pytest.raises(NotExpressible, match="create_loraplus_optimizer"):
        get_exporter("trl").export(Path("unused"), lora_run(**LORA_PLUS))
    with pytest.raises(NotExpressible, match="sharegpt"):
        get_exporter("trl").export(Path("unused"), lora_run(data_format="sharegpt", uses_chat_template=True))
    with pytest.raises(NotExpressible, match="no end of an answer"):
        get_exporter("llama-factory").export(Path("unused"), lora_run())
    with pytest.raises(NotExpressible, match="alpaca"):
        get_exporter("axolotl").export(Path("unused"), lora_run(data_format="alpaca", uses_chat_template=True))


@pytest.mark.parametrize(
    ("data_format", "row", "further", "columns"),
    [
        ("alpaca", {"instruction": "a", "output": "b"}, {"system": "s"}, {"system"}),
        ("alpaca", {"instruction": "a", "output": "b"}, {"history": [["q", "a"]]}, {"history"}),
        ("alpaca", {"instruction": "a", "output": "b"}, {"input": "i"}, {"query"}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "a"}]}, {"system": "s"}, {"system"}),
    ],
)
def test_llama_factory_is_told_of_columns_that_some_row_has(data_format, row, further, columns, tmp_path):
    """It fails on a named column that is not there."""
    data = tmp_path / "my.jsonl"
    run = lora_run(data_format=data_format, uses_chat_template=True, data_path=str(data))
    for extra, expected in (({}, set()), (further, columns)):
        data.write_text(f"{json.dumps(row)}\n{json.dumps(row | extra)}\n")
        written = get_exporter("llama-factory").export(tmp_path / "out", run)
        [info] = json.loads(written[1].read_text()).values()
        assert {"system", "history", "query"} & info["columns"].keys() == expected


ASKED, ANSWERED = {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}
CALL = {"from": "function_call", "value": '{"name": "clock", "arguments": {}}'}


@pytest.mark.parametrize(
    ("kind", "turns", "is_left_out"),
    [
        ("sharegpt", [ASKED, ANSWERED], False),
        ("sharegpt", [{"from": "system", "value": "s"}, ASKED, ANSWERED, ASKED, ANSWERED], False),
        ("sharegpt", [ASKED, ANSWERED, ASKED], True),
        ("sharegpt", [ANSWERED, ASKED, ANSWERED], True),
        ("sharegpt", [ASKED, ASKED, ANSWERED, ANSWERED], True),
        ("messages", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], False),
        ("messages", [{"role": role, "content": "a"} for role in ("user", "user", "assistant")], True),
        ("messages", [{"role": role, "content": "a"} for role in ("user", "system", "user", "assistant")], True),
    ],
)
def test_conversations_that_llama_factory_leaves_out_in_silence_are_counted(kind, turns, is_left_out, tmp_path):
    data = tmp_path / "my.jsonl"
    data.write_text(2 * (json.dumps({"messages" if kind == "messages" else "conversations": turns}) + "\n"))
    run = lora_run(data_format=kind, uses_chat_template=True, data_path=str(data))
    text = get_exporter("llama-factory").export(tmp_path / "out", run)[0].read_text()
    assert ("# It leaves 2 conversations out that the probes trained" in text) is is_left_out


@pytest.mark.parametrize(("max_steps", "is_told"), [(30, True), (300, False)])
def test_what_axolotl_makes_of_a_warm_up_of_one_step_is_told(max_steps, is_told, tmp_path):
    run = PlannedRun(max_steps=max_steps, warmup_fraction=0.03)
    text = get_exporter("axolotl").export(tmp_path, lora_run(run=run))[0].read_text()
    assert ("makes a warm-up of one step one of two" in text) is is_told


@pytest.mark.parametrize("target", ["llama-factory", "axolotl"])
@pytest.mark.parametrize(
    ("kind", "rows", "is_refused"),
    [
        ("sharegpt", [{"conversations": [ASKED, ANSWERED]}, {"conversations": [ASKED, CALL]}], True),
        ("sharegpt", [{"conversations": [ASKED, ANSWERED], "tools": "[{}]"}], True),
        ("sharegpt", [{"conversations": [ASKED, ANSWERED], "tools": []}, {"conversations": "no list"}], False),
    ],
)
def test_tools_that_a_trainer_does_not_read_are_refused(target, kind, rows, is_refused, tmp_path):
    data = tmp_path / "my.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run = lora_run(data_format=kind, uses_chat_template=True, data_path=str(data))
    if is_refused:
        with pytest.raises(NotExpressible, match="tools"):
            get_exporter(target).export(tmp_path, run)
    else:
        assert get_exporter(target).export(tmp_path, run)


def test_tools_of_messages_are_refused_where_a_trainer_does_not_read_them(tmp_path):
    data = tmp_path / "my.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    data.write_text(json.dumps({"messages": turns, "tools": [{}]}) + "\n")
    run = lora_run(data_format="messages", uses_chat_template=True, data_path=str(data))
    with pytest.raises(NotExpressible, match="tools"):
        get_exporter("llama-factory").export(tmp_path, run)


@pytest.mark.parametrize("name", ["dora", "rslora", "lora-plus", "oft", "messages", "sharegpt", "text", "nf4"])
def test_variants_reach_the_keys(name, tmp_path):
    run = variants()[name]
    axolotl = {} if name == "oft" else exported("axolotl", tmp_path / "axolotl", run)
    factory = exported("llama-factory", tmp_path / "factory", run)
    expected = {
        "dora": ({"peft_use_dora": True}, {"use_dora": True}),
        "rslora": ({"peft_use_rslora": True}, {"use_rslora": True}),
        "lora-plus": ({"loraplus_lr_ratio": 16.0}, {"loraplus_lr_ratio": 16.0}),
        "oft": ({}, {"finetuning_type": "oft", "oft_block_size": 32, "oft_target": "q_proj,v_proj"}),
        "messages": ({"train_on_inputs": False}, {"stage": "sft"}),
        "sharegpt": ({"train_on_inputs": False}, {"stage": "sft"}),
        "text": ({"train_on_inputs": True}, {"stage": "pt"}),
        "nf4": ({"adapter": "qlora", "load_in_4bit": True}, {"quantization_bit": 4, "quantization_method": "bnb"}),
    }[name]
    for written, wanted in zip((axolotl, factory), expected, strict=True):
        assert {key: written[key] for key in wanted} == wanted


def test_own_held_out_rows_are_evaluated_where_a_trainer_can(tmp_path):
    run = lora_run(eval_path="/data/own.csv", data_format="text")
    assert exported("axolotl", tmp_path, run).items() >= {"val_set_size": 0}.items()
    [own] = exported("axolotl", tmp_path, run)["test_datasets"]
    assert own.items() >= {"path": "/data/own.csv", "ds_type": "csv", "split": "train", "field": "text"}.items()
    factory = exported("llama-factory", tmp_path, run)
    assert factory["eval_dataset"] == "advisor_eval_data" and "val_size" not in factory
    info = json.loads((tmp_path / "llama-factory-data" / "dataset_info.json").read_text())
    assert info["advisor_eval_data"] == {"file_name": "/data/own.csv", "columns": {"prompt": "text"}}
    trl = exported("trl", tmp_path, run)
    assert trl["eval_strategy"] == "no" and "test_split_size" not in trl


@pytest.mark.parametrize("target", TRAINERS)
def test_of_own_held_out_rows_the_form_counts_too_and_what_the_probes_left_out_is_told(target, tmp_path):
    with pytest.raises(NotExpressible, match="gz files"):
        get_exporter(target).export(tmp_path / "out", of_chats(lora_run(eval_path="/data/own.jsonl.gz")))
    run = of_chats(lora_run(eval_path="/data/own.jsonl"))
    shared = run.model_copy(update={"data": run.data.model_copy(update={"dropped": {SAME_PROMPT: 12}})})
    written = get_exporter(target).export(tmp_path, shared)[0].read_text()
    assert ("12 rows of the data that the probes left out" in written) == (target != "trl")


@pytest.mark.parametrize(
    ("rows", "plan", "columns"),
    [
        ([{"prompt": "a", "prompt_id": 1, "messages": []}], {"data_format": "messages"}, ["messages"]),
        ([{"messages": []}, {"messages": [], "tools": []}], {"data_format": "messages"}, ["messages", "tools"]),
        ([{"text": "a", "prompt": "b", "completion": "c"}], {}, ["prompt", "completion"]),
        ([{"text": "a", "labels": [1]}], {"data_format": "text"}, ["text"]),
    ],
)
def test_trl_sees_the_columns_of_the_format_alone(rows, plan, columns, tmp_path):
    """By others it takes rows for another format, one or the other by chance."""
    data = tmp_path / "my.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run = lora_run(data_path=str(data), uses_chat_template=True, **plan)
    assert exported("trl", tmp_path / "out", run)["datasets"][0]["columns"] == columns


@pytest.mark.parametrize("target", TRAINERS)
@pytest.mark.parametrize("text", ["007", "4", "None", "NA", "true"])
def test_a_table_in_which_a_trainer_finds_no_texts_is_refused(target, text, tmp_path):
    path = tmp_path / "my.csv"
    plan = {"data_format": "alpaca"} if target == "llama-factory" else {}
    run = lora_run(data_path=str(path), uses_chat_template=True, **plan)
    names = ("instruction", "output") if plan else ("prompt", "completion")
    path.write_text(f"{names[0]},{names[1]},more\na question,{text},7\nanother,{text},8\n")
    with pytest.raises(NotExpressible, match=f"guesses the types of a table: .*{names[1]}"):
        get_exporter(target).export(tmp_path / "out", run)
    path.write_text(f"{names[0]},{names[1]},more\na question,an answer,7\nanother,yes,8\n")
    assert get_exporter(target).export(tmp_path / "out", run)


@pytest.mark.parametrize("target", TRAINERS)
def test_turns_of_no_weight_are_trained_by_no_trainer_alone(target, tmp_path):
    path = tmp_path / "my.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    path.write_text(json.dumps({"messages": [*turns, turns[0], {"role": "assistant", "content": "c"}]}) + "\n")
    with pytest.raises(NotExpressible, match="weight of 0"):
        get_exporter(target).export(tmp_path / "out", of_chats(lora_run(data_path=str(path))))


def variants() -> dict[str, Result]:
    """Recommendations that use the further keys of each trainer."""
    oft = {"peft_type": "OFT", "task_type": "CAUSAL_LM", "r": 0, "oft_block_size": 32}
    return {
        "dora": lora_run({**LORA_CONFIG, "use_dora": True}),
        "rslora": lora_run({**LORA_CONFIG, "use_rslora": True}),
        "lora-plus": lora_run(**LORA_PLUS),
        "oft": lora_run({**oft, "target_modules": ["q_proj", "v_proj"]}),
        "messages": lora_run(data_format="messages", uses_chat_template=True),
        "sharegpt": lora_run(data_format="sharegpt", uses_chat_template=True),
        "text": lora_run(data_format="text"),
        "own held-out rows": lora_run(data_format="text", eval_path="/data/own.jsonl"),
        "nf4": lora_run(run=PlannedRun(max_steps=600, quantization="nf4")),
    }
