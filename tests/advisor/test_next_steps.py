"""What the report says to do next: commands that can be copied and that fit what will be there."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from advisor.exporters.script import training_script
from advisor.report import headline
from advisor.report.next_steps import next_steps
from advisor.training.serving import serve_adapter
from tests.advisor.factories import LORA_CONFIG, candidate, result

MERGED = {"mergeable": True, "vllm": "merged"}


def steps(name="lora", folder=Path("out"), **fields):
    made = result([candidate(name, title=name, **fields)])
    return {step.heading: step for step in next_steps(made, folder)}


def test_training_is_one_command_and_a_script_for_elsewhere():
    step = steps()["Train"]
    assert step.code == "advisor train out"
    assert "python out/train.py" in step.words
    assert steps(folder=Path("my runs"))["Train"].code == "advisor train 'my runs'"


def test_what_no_race_was_run_of_is_not_said_to_have_been_raced():
    both = [candidate("lora", 0.5), candidate("oft", 0.49, 20.0)]
    raced = {step.heading: step for step in next_steps(result(both), Path("out"))}
    assert "Any other that was raced" in raced["Or take another one"].words
    known = {step.heading: step for step in next_steps(result(both, race=None), Path("out"))}
    assert "Any other that the table knows" in known["Or take another one"].words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lora-fa", "the optimizer peft.optimizers.create_lorafa_optimizer, as the script has it"),
        ("lora-plus", "create_loraplus_optimizer (loraplus_lr_ratio=16)"),
        ("pissa", "a preparation of the model by code of its own"),
        ("lora", ""),
    ],
)
def test_without_data_too_a_method_that_is_more_than_its_config_says_so(name, words):
    """The config of LoRA-FA alone is that of LoRA."""
    made = result([candidate(name, 0.5, status="from table")], race=None, training=None)
    step = next(step for step in next_steps(made, Path("out")) if step.heading == "Use the config in your own code")
    assert words in step.words and bool(words) == bool(step.words)


def test_a_script_that_imports_the_advisor_is_not_called_one_without_it():
    alone = result([candidate("lora")])
    prepared = alone.model_copy(update={"training": alone.training.model_copy(update={"setup_by": "pissa"})})
    assert "Without the advisor: python" in next_steps(alone, Path("out"))[0].words
    assert "imports the advisor for the method's preparation: python" in next_steps(prepared, Path("out"))[0].words
    assert "complete and self-contained" in training_script(alone)
    assert "self-contained" not in training_script(prepared)


@pytest.mark.parametrize(
    ("name", "rank", "flag"),
    [
        ("lora", 16, ""),
        ("lora", 32, " --max-lora-rank 32"),
        ("lora", 100, " --max-lora-rank 128"),
        ("pissa", 32, " --max-lora-rank 64"),  # saved as a LoRA of twice the rank
        ("delta-lora", 8, ""),
    ],
)
def test_the_server_is_told_the_rank_that_is_saved(name, rank, flag):
    code = steps(name, peft_config={**LORA_CONFIG, "r": rank})["Serve"].code
    assert code == f"vllm serve meta-llama/Llama-3.2-3B --enable-lora --lora-modules tuned=out/adapter{flag}"


@pytest.mark.parametrize("name", ["lora", "oft"])
def test_a_model_with_code_of_its_own_is_served_with_it(name):
    capabilities = {} if name == "lora" else {"capabilities": MERGED}
    made = result([candidate(name, **capabilities)])
    trusted = made.model_copy(update={"request": {**made.request, "trust_remote_code": True}})
    served = [next_steps(each, Path("out"))[-1].code for each in (made, trusted)]
    assert served == [served[0], f"{served[0]} --trust-remote-code"] and "vllm serve" in served[0]


def test_a_path_with_spaces_is_told_whole():
    folder = Path("my  runs") / ("long" * 90)
    steps = {step.heading: step.code for step in next_steps(result(), folder)}
    assert shlex.split(steps["Train"])[2] == shlex.split(steps["Or take another one"])[2] == str(folder)
    assert any(str(folder) in word for word in shlex.split(steps["Serve"]))


def test_a_path_with_a_comma_is_told_as_vllm_reads_it():
    code = serve_adapter("base", Path("a, b"), 8)
    assert shlex.split(code)[-1] == '{"name": "tuned", "path": "a, b"}'


def test_what_lies_there_already_is_looked_at(tmp_path):
    from peft import LoraConfig

    LoraConfig(r=48).save_pretrained(tmp_path / "adapter")
    assert steps(folder=tmp_path)["Serve"].code.endswith("--max-lora-rank 64")


def test_what_is_served_merged_is_merged_first():
    step = steps("oft", capabilities=MERGED, peft_type="OFT", peft_config={**LORA_CONFIG, "peft_type": "OFT"})["Serve"]
    assert step.code == "advisor merge out\nvllm serve out/merged"
    assert "--to lora" not in step.words
    assert "--to lora" in steps("vera", capabilities=MERGED, peft_type="VERA")["Serve"].words
    gguf = result([candidate("lora")])
    gguf = gguf.model_copy(update={"model": gguf.model.model_copy(update={"source": "gguf file"})})
    assert next_steps(gguf, Path("out"))[-1].code.startswith("advisor merge")
    assert "vLLM serves it merged" in dict(headline.lines(gguf))["adapter"]
    too_high = steps(peft_config={**LORA_CONFIG, "r": 600})["Serve"]
    assert too_high.code.startswith("advisor merge")


def test_a_classifier_that_is_merged_is_asked_in_python():
    made = result([candidate("lora", capabilities=MERGED)])
    run = made.planned_run.model_copy(update={"task": "sequence-classification"})
    step = next_steps(made.model_copy(update={"planned_run": run}), Path("my out"))[-1]
    merge, ask = step.code.splitlines()
    assert merge == "advisor merge 'my out'"
    assert shlex.split(ask)[2].endswith('pipeline("text-classification", "my out/merged")("a text"))')
    assert "'\"'" not in ask  # no quote within quotes, which nobody can read


def test_what_a_method_is_beside_its_config_is_told():
    plain = result()
    ratio = {"optimizer": "peft.optimizers:create_loraplus_optimizer", "optimizer_settings": {"loraplus_lr_ratio": 16}}
    plus = plain.model_copy(update={"training": plain.training.model_copy(update=ratio)})
    words = [next(s for s in next_steps(r) if s.heading.startswith("Use the config")).words for r in (plain, plus)]
    assert words[0] == ""
    assert "peft.optimizers.create_loraplus_optimizer (loraplus_lr_ratio=16)" in words[1]


def test_what_can_neither_be_loaded_nor_merged_says_so():
    step = steps("prompt-tuning", capabilities={"mergeable": False, "vllm": "no"}, peft_type="PROMPT_TUNING")["Serve"]
    assert "transformers and peft" in step.words and not step.code
