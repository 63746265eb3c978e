"""What TRL, Axolotl and LLaMA-Factory make of the configs that are written for them, by their own code.

Skipped where a trainer's package is missing.
"""

from __future__ import annotations

import dataclasses
import importlib.machinery
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from advisor.exporters import NotExpressible, get_exporter
from knowledge.schema import PlannedRun
from probes.data.chats import chat_segments
from probes.data.tokenise import encode_batch
from tests.advisor.factories import LORA_CONFIG
from tests.advisor.test_export_trainers import exported, for_target, lora_run, variants
from tests.advisor.tiny_run import save_tiny
from tests.contracts.test_chat_templates import MARKS, TURNS, of_family
from tests.probes.tokenizers import byte_tokenizer


def expressible(target: str, folder: Path):
    """(name, file) of every variant that the target can say."""
    for name, run in {"plain": lora_run(), **variants()}.items():
        try:
            yield name, get_exporter(target).export(folder / name, for_target(target, run))[0]
        except NotExpressible:
            continue


def test_trl_reads_every_key(tmp_path):
    trl = pytest.importorskip("trl")
    import yaml

    for name, path in expressible("trl", tmp_path):
        values = yaml.safe_load(path.read_text())
        if "bf16" in values:
            path.write_text(path.read_text().replace("bf16: true", "bf16: false"))  # there may be no GPU here
        parser = trl.TrlParser((trl.ScriptArguments, trl.SFTConfig, trl.ModelConfig, trl.DatasetMixtureConfig))
        script, training, model, mixture = parser.parse_args_and_config(
            ["--config", str(path)], fail_with_unknown_args=True
        )
        read = {k: v for part in (script, training, model, mixture) for k, v in vars(part).items()}
        for key, value in values.items():
            if key not in (
                "bf16",
                "datasets",
                "optim",
                "lr_scheduler_type",
                "eval_strategy",
                "save_strategy",
                "report_to",
            ):
                assert read[key] == value, (name, key)
        assert [d.path for d in mixture.datasets] == ["json"]
        if name in ("plain", "dora", "rslora"):
            config = trl.get_peft_config(model)
            assert (config.r, config.lora_alpha, set(config.target_modules)) == (32, 64, {"q_proj", "v_proj"})


def test_the_trl_config_really_trains(tmp_path):
    pytest.importorskip("trl")
    model = save_tiny(tmp_path / "model", "llama")
    draw = random.Random(0)
    rows = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(10) for b in range(10)]
    draw.shuffle(rows)
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    run = PlannedRun(max_steps=3, batch_size=4, max_length_tokens=24, dtype="float32")
    recommendation = lora_run(run=run, model={"location": str(model)}, data_path=str(data))
    [config] = get_exporter("trl").export(tmp_path / "out", recommendation)
    command = [str(Path(sys.executable).with_name("trl")), "sft", "--config", str(config)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(tmp_path / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "out", env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    import peft

    saved = peft.PeftConfig.from_pretrained(tmp_path / "out" / "trl-output")
    assert (saved.r, set(saved.target_modules)) == (32, {"q_proj", "v_proj"})


def test_axolotl_knows_every_key(tmp_path):
    schema = pytest.importorskip("axolotl.utils.schemas.config").AxolotlInputConfig
    import yaml

    for name, path in expressible("axolotl", tmp_path):
        values = yaml.safe_load(path.read_text())
        assert set(values) <= set(schema.model_fields), name  # unknown keys are ignored in silence
        read = schema(**values).model_dump(exclude_none=True)
        for key in values:
            if key not in ("datasets", "test_datasets", "special_tokens", "peft_init_lora_weights"):
                assert str(read[key]) == str(values[key]), (name, key)


def test_axolotl_trains_the_tokens_of_prompt_and_completion_that_the_probes_trained(tmp_path):
    pytest.importorskip("colorama")
    user_defined = pytest.importorskip("axolotl.prompt_strategies.user_defined")
    from axolotl.utils.dict import DictDefault

    tokenizer = byte_tokenizer(bos=True)
    written = DictDefault(exported("axolotl", tmp_path, lora_run()))
    strategy = user_defined.load(tokenizer, written, ds_cfg=DictDefault(written.datasets[0].type))
    made = strategy.tokenize_prompt({"prompt": "2 + 2 =", "completion": " 4"})
    [(ids, trained)] = encode_batch([[("2 + 2 =", False), (" 4", True)]], tokenizer)
    assert made["input_ids"] == ids and [label != -100 for label in made["labels"]] == trained


@pytest.mark.parametrize(
    ("family", "end", "trains_it"),
    [("llama3", "<|eot_id|>", True), ("qwen2_5", "<|im_end|>", True), ("qwen2_5", "</s>", False)],
)
def test_axolotl_trains_the_end_of_a_turn_where_its_config_says_so(family, end, trains_it, tmp_path):
    """The line break that some templates put behind it is trained by the probes alone. end: the tokenizer's own."""
    pytest.importorskip("colorama")
    chat_template = pytest.importorskip("axolotl.prompt_strategies.chat_template")
    from axolotl.utils.dict import DictDefault

    tokenizer = of_family(family)
    tokenizer.eos_token = end
    written = DictDefault(exported("axolotl", tmp_path, variants()["messages"]))
    strategy = chat_template.load(tokenizer, written, ds_cfg=dict(written.datasets[0]))
    made = strategy.tokenize_prompt({"messages": TURNS})
    segments = chat_segments(tokenizer, TURNS)
    assert tokenizer.decode(made["input_ids"]) == "".join(text for text, _ in segments)
    its = tokenizer.decode([label for label in made["labels"] if label != -100])
    answers = [text.strip() if trains_it else text.partition("<")[0] for text, is_trained in segments if is_trained]
    assert its == "".join(answers)


@pytest.fixture
def llama_factory(monkeypatch):
    """Its package can be imported."""
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")  # it pins an older transformers; its argument classes are the same
    pytest.importorskip("llamafactory")
    pytest.importorskip("omegaconf")  # which its argument classes import
    if importlib.util.find_spec("torchaudio") is None:  # for speech, but always imported
        without = types.ModuleType("torchaudio")
        without.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        monkeypatch.setitem(sys.modules, "torchaudio", without)


@pytest.mark.parametrize(
    ("family", "turns", "template", "is_alike"),
    [
        ("llama3", TURNS[:2], None, True),
        ("llama3", TURNS, None, False),
        ("llama3", TURNS, "llama3", True),
        ("qwen2_5", TURNS, None, True),
        ("gemma", TURNS, "gemma", True),
    ],
)
def test_what_llama_factory_makes_of_chats_is_as_its_config_tells(family, turns, template, is_alike, llama_factory):
    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    tokenizer = of_family(family)
    [tokenizer.eos_token] = re.findall(MARKS, chat_segments(tokenizer, TURNS[:2])[-1][0])  # as such models have it
    [(ids, trained)] = encode_batch([chat_segments(tokenizer, turns)], tokenizer)
    arguments = DataArguments(template=template, cutoff_len=10_000)
    made = get_template_and_fix_tokenizer(tokenizer, arguments)
    processor = SupervisedDatasetProcessor(template=made, tokenizer=tokenizer, processor=None, data_args=arguments)
    parts = {"system": "", "tools": "", "images": [], "videos": [], "audios": []}
    its_ids, labels = processor._encode_data_example(prompt=turns[:-1], response=turns[-1:], **parts)
    assert ((its_ids, [label != -100 for label in labels]) == (ids, trained)) == is_alike


def test_llama_factory_knows_every_key(tmp_path, llama_factory):
    import yaml
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments, FinetuningArguments, ModelArguments
    from transformers import HfArgumentParser, Seq2SeqTrainingArguments

    classes = (ModelArguments, DataArguments, Seq2SeqTrainingArguments, FinetuningArguments)
    for name, path in expressible("llama-factory", tmp_path):
        values = yaml.safe_load(path.read_text())
        values["bf16"] = False  # there may be no GPU here
        names = {f.name for c in classes for f in dataclasses.fields(c)}
        assert set(values) <= names, name
        parsed = HfArgumentParser(classes).parse_dict(values)
        finetuning = parsed[3]
        assert finetuning.finetuning_type in ("lora", "oft")
        [dataset] = get_dataset_list([values["dataset"]], str(path.parent / values["dataset_dir"]))
        assert dataset.dataset_name == "/data/my.jsonl"


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_single_target_reaches_the_modules_of_that_name_through_trl(architecture, tmp_path):
    """TRL makes a string of a list of one, which PEFT matches with the whole path of a module."""
    trl = pytest.importorskip("trl")
    import peft

    from tests.tiny import tiny_model

    name = {"gpt2": "c_attn", "llama": "q_proj"}[architecture]
    written = exported("trl", tmp_path, lora_run({**LORA_CONFIG, "target_modules": [name]}))
    read = trl.ModelConfig(use_peft=True, lora_target_modules=written["lora_target_modules"])
    model = peft.get_peft_model(tiny_model(architecture), trl.get_peft_config(read))
    adapted = {path.rpartition(".lora_A")[0] for path, _ in model.named_parameters() if "lora_A" in path}
    assert adapted and {path.rpartition(".")[2] for path in adapted} == {name}
