"""The generated train.py runs, and trains what the probes trained: same rows, same batches, same losses."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from advisor.exporters import NotExpressible
from advisor.exporters.script import export, training_script
from knowledge.errors import BadInput
from probes.data.dataset import prepare
from probes.data.reader import read_rows
from probes.session import Session
from tests.advisor.tiny_run import STEPS, Case
from tests.tiny import tiny_model, tiny_model_that_sees


def run_in_process(script: Path, monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")
    return capsys.readouterr().out


def numbers(output: str, pattern: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, output)]


def assert_trains_as_the_probe(case: Case, folder: Path, monkeypatch, capsys, parts: int = 1) -> str:
    """Exports the script and runs it: every loss is the probe's. Returns what it printed."""
    untuned, losses, tuned = case.probe(parts)
    made = case.result()
    picks = (made.pick.model_copy(update={"micro_batches": parts}),)
    [script] = export(folder / "out", made.model_copy(update={"candidates": picks}))
    output = run_in_process(script, monkeypatch, capsys, "--log-every", "1")
    assert numbers(output, r"untuned: held-out loss ([\d.]+)") == pytest.approx([untuned], abs=1e-4)
    assert numbers(output, r"step \d+/\d+  loss ([\d.]+)") == pytest.approx(losses, abs=1e-4)
    assert numbers(output, r"\ntuned: held-out loss ([\d.]+)") == pytest.approx([tuned], abs=1e-4)
    return output


@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        ("llama", "lora"),
        ("llama", "adalora"),
        ("llama", "lora-fa"),
        ("llama", "full"),
        ("llama", "prompt-tuning"),
        ("llama", "delta-lora"),
        ("llama", "eva"),
        ("bert", "bitfit"),
        ("gpt2", "lora"),
        ("bert", "lora"),
        ("t5", "lora"),
    ],
)
def test_the_script_trains_exactly_what_the_probe_trained(architecture, method, tmp_path, monkeypatch, capsys):
    case = Case(tmp_path, architecture, method, gradient_accumulation_steps=2 if method == "lora" else 1)
    output = assert_trains_as_the_probe(case, tmp_path, monkeypatch, capsys)
    assert f"{len(case.data.train)} rows to train on, {len(case.data.eval)} held out" in output


@pytest.mark.parametrize(
    ("architecture", "metric"), [("bert", "macro F1"), ("bert", "accuracy"), ("t5", "exact match")]
)
def test_the_script_measures_the_metric_of_the_race(architecture, metric, tmp_path, monkeypatch, capsys):
    case = Case(tmp_path, architecture, "lora")
    [script] = export(tmp_path / "out", case.result(metric_name=metric))
    output = run_in_process(script, monkeypatch, capsys)
    untuned = Session(case.context.model_copy(update={"metric_name": metric})).baseline()
    assert numbers(output, rf"untuned: held-out loss [\d.]+, {metric} ([\d.]+)") == pytest.approx(
        [untuned.metric], abs=1e-4
    )
    assert f"{metric} " in output.splitlines()[-2]


def test_batches_that_ran_out_of_memory_in_the_race_are_done_in_the_same_parts(tmp_path, monkeypatch, capsys):
    import torch

    rows, embed = [], torch.nn.Embedding.forward
    monkeypatch.setattr(torch.nn.Embedding, "forward", lambda self, ids: rows.append(len(ids)) or embed(self, ids))
    case = Case(tmp_path, "llama", "lora", batch_size=3, gradient_accumulation_steps=2)
    assert_trains_as_the_probe(case, tmp_path, monkeypatch, capsys, parts=2)
    evaluation = [2] * (len(case.data.eval) // 2)
    by_the_script = len(evaluation) + STEPS * 4 + len(evaluation)
    assert rows[-by_the_script:] == [*evaluation, *[2, 1] * 2 * STEPS, *evaluation]


def test_a_head_that_no_checkpoint_holds_is_drawn_as_by_the_probe(tmp_path, monkeypatch, capsys):
    case = Case(tmp_path, "bert", "lora")
    tiny_model("bert").bert.save_pretrained(tmp_path / "model")
    assert_trains_as_the_probe(case, tmp_path, monkeypatch, capsys)


def test_a_base_that_sees_images_is_loaded_too(tmp_path):
    """Its config, as of Gemma 3, has no padding of its own."""
    import torch

    case = Case(tmp_path, "llama", "lora")
    tiny_model_that_sees().save_pretrained(tmp_path / "model")
    [script] = export(tmp_path / "out", case.result())
    base, tokenizer = runpy.run_path(str(script))["load_base"](torch.device("cpu"))
    assert base.config.model_type == "gemma3" and tokenizer.pad_token == "<pad>"


def test_it_says_what_was_predicted_and_measures_it_on_the_rows_of_the_prediction(tmp_path):
    made = Case(tmp_path, "llama", "lora").result(eval_rows=200)
    assert "EVAL_ROWS = 64\n" in training_script(made)
    of_all = made.pick.predicted_loss.model_copy(update={"rows": 200})
    finalist = made.pick.model_copy(update={"predicted_loss": of_all})
    assert "EVAL_ROWS = 200\n" in training_script(made.model_copy(update={"candidates": (finalist,)}))
    loss_alone = made.pick.model_copy(update={"predicted": None})  # a short race may tell no more
    source = training_script(made.model_copy(update={"candidates": (loss_alone,)}))
    assert re.search(r"Predicted at the end: eval loss 1.200 \(80 % interval", source)
    told = training_script(made).replace("\n", " ")
    assert "Predicted at the end: exact match 50.0 % (80 % interval" in told and ", eval loss 1.200" in told


def test_numbers_of_steps_that_make_no_run_are_refused_at_once(tmp_path, monkeypatch, capsys):
    [script] = export(tmp_path, Case(tmp_path, "llama", "lora").result())
    for arguments in (["--max-steps", "0"], ["--log-every", "0"], ["--eval-every", "-1"]):
        with pytest.raises(SystemExit, match="2"):
            run_in_process(script, monkeypatch, capsys, *arguments)
        assert "are 1 or more" in capsys.readouterr().err


def test_a_class_that_the_run_does_not_know_is_named(tmp_path):
    case = Case(tmp_path, "bert", "lora")
    [script] = export(tmp_path / "out", case.result())
    module, tokenizer = runpy.run_path(str(script)), AutoTokenizer.from_pretrained(tmp_path / "model")
    with pytest.raises(SystemExit, match=r"class 'odder'. Those of the run are \['even', 'odd'\]"):
        module["tokenise"]([{"text": "1", "label": "odd"}, {"text": "1", "label": "odder"}], tokenizer)


def test_where_the_probes_saw_a_sample_the_script_says_that_it_sees_all(tmp_path):
    made = Case(tmp_path, "llama", "lora").result()
    assert "a sample of them" not in training_script(made)
    many = made.data.model_copy(update={"usable_rows": 10**6})
    told = training_script(made.model_copy(update={"data": many})).replace("\n", " ")
    assert "the probes drew from a sample" in told


def test_the_permission_to_run_the_models_code_goes_along(tmp_path):
    case = Case(tmp_path, "llama", "lora")
    made = case.result()
    allowed = made.model_copy(update={"request": {**made.request, "trust_remote_code": True}})
    assert training_script(allowed).count("trust_remote_code=True") == 2
    assert "trust_remote_code" not in training_script(made)


@pytest.mark.parametrize(("architecture", "quantization"), [("llama", "nf4"), ("llama", "int8"), ("bert", "nf4")])
def test_on_a_quantised_base_too(architecture, quantization, tmp_path, monkeypatch, capsys):
    """A classifier's head is new, and trained in full."""
    pytest.importorskip("bitsandbytes")
    case = Case(tmp_path, architecture, "lora", quantization=quantization)
    assert_trains_as_the_probe(case, tmp_path, monkeypatch, capsys)


def test_the_saved_adapter_reloads_to_the_tuned_loss(tmp_path, monkeypatch, capsys):
    import peft

    case = Case(tmp_path, "llama", "lora")
    [script] = export(tmp_path / "out", case.result())
    output = run_in_process(script, monkeypatch, capsys, "--output", str(tmp_path / "mine"), "--max-steps", "3")
    assert "step 3/3" in output
    [saved] = (tmp_path / "mine").glob("adapter_model*")
    assert saved.suffix == ".safetensors"
    assert saved.stat().st_mode == (tmp_path / "mine" / "adapter_config.json").stat().st_mode, "others may read it"
    model = peft.PeftModel.from_pretrained(tiny_model("llama"), tmp_path / "mine")
    session = Session(case.context)
    reached = session._evaluate(model).loss
    assert numbers(output, r"\ntuned: held-out loss ([\d.]+)") == pytest.approx([reached], abs=1e-4)


def test_the_script_runs_alone_in_its_own_process(tmp_path):
    """With an empty path of its own: nothing of the advisor is imported."""
    case = Case(tmp_path, "llama", "lora")
    [script] = export(tmp_path / "out", case.result())
    blocked = "import sys; sys.modules.update(advisor=None, probes=None, knowledge=None); import runpy; "
    blocked += f"sys.argv = [{str(script)!r}, '--max-steps', '2']; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("form", ["json", "csv", "jsonl.gz", "jsonl.bz2", "jsonl.xz"])
def test_other_forms_of_data_give_the_same_rows(form, tmp_path):
    import bz2
    import csv
    import gzip
    import lzma

    case = Case(tmp_path, "llama", "lora")
    lines = [line for line in case.data_path.read_text().splitlines() if line.endswith("}")]
    rows = [json.loads(line) for line in lines]
    other = tmp_path / f"data.{form}"
    if form == "json":
        other.write_text(json.dumps(rows))
    elif form == "csv":
        with other.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["prompt", "completion"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        compress = {"gz": gzip, "bz2": bz2, "xz": lzma}[form.rpartition(".")[2]].compress
        other.write_bytes(compress("\n".join(lines).encode()))
    [script] = export(tmp_path / "out", case.result(data_path=str(other)))
    module = runpy.run_path(str(script))
    assert list(module["read_rows"](str(other))) == rows


def test_the_users_columns_are_read_as_by_the_probes(tmp_path):
    case = Case(tmp_path, "llama", "lora")
    columns, other = {"prompt": "question", "completion": "answer"}, tmp_path / "other.jsonl"
    rows = [row for _, row in read_rows(case.data_path)]
    mine = [{"label": True, **{columns[key]: text for key, text in row.items()}} for row in rows]
    other.write_text("".join(json.dumps(row) + "\n" for row in mine))
    tokenizer = AutoTokenizer.from_pretrained(case.context.model_reference)
    read = []
    for place, named in ((case.data_path, {}), (other, columns)):
        [script] = export(tmp_path / place.stem, case.result(data_path=str(place), data_columns=named))
        read.append(runpy.run_path(str(script))["load_data"](SimpleNamespace(data=str(place)), tokenizer))
    for probed, trained in zip(read[0], read[1], strict=True):
        assert len(probed) == len(trained) > 0
        assert [list(ids) for ids, _ in probed.pairs] == [list(ids) for ids, _ in trained.pairs]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("named", [{}, {"prompt": "question", "completion": "answer"}], ids=["as named", "own columns"])
def test_own_held_out_rows_are_read_as_by_the_probes(form, named, tmp_path):
    """Of a file of another form too; what is tested is not trained."""
    case = Case(tmp_path, "llama", "lora")
    names = named or {"prompt": "prompt", "completion": "completion"}

    def rows(numbers):
        return [{names["prompt"]: f"{a}+{b}=", names["completion"]: str(a + b)} for a in numbers for b in range(8)]

    data, own = tmp_path / "mine.jsonl", tmp_path / f"own.{form}"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(range(10))))
    if form == "csv":
        lines = [names.values(), *(row.values() for row in rows(range(9, 14)))]
        own.write_text("".join(f"{','.join(line)}\n" for line in lines))
    else:
        own.write_text("".join(json.dumps(row) + "\n" for row in rows(range(9, 14))))
    tokenizer = AutoTokenizer.from_pretrained(case.context.model_reference)
    settings = {"task": "causal-lm", "max_length_tokens": 24, "max_eval_rows": 16, "columns": named}
    probed = prepare(data, tokenizer, eval_path=own, **settings)
    plan = {"data_path": str(data), "eval_path": str(own), "data_columns": named, "held_out_key": -1, "eval_rows": 16}
    [script] = export(tmp_path / "out", case.result(**plan))
    module = runpy.run_path(str(script))
    trained = module["load_data"](SimpleNamespace(data=str(data), eval_data=module["EVAL_DATA"]), tokenizer)
    for of_probes, of_script in zip((probed.train, probed.eval), trained, strict=True):
        assert len(of_probes) == len(of_script) > 0
        assert [list(of_probes.row(i)[0]) for i in range(len(of_probes))] == [list(ids) for ids, _ in of_script.pairs]


@pytest.mark.parametrize("offline", [False, True])
def test_a_part_of_a_hub_dataset_is_read_as_by_the_probes(tmp_path, monkeypatch, offline):
    import datasets

    asked = []
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(datasets, "load_dataset", lambda *places, **options: asked.append((places, options)) or [])
    [script] = export(tmp_path, Case(tmp_path, "llama", "lora").result(data_path="owner/name:main:test"))
    list(runpy.run_path(str(script))["read_rows"]("owner/name:main:test"))
    assert asked == [(("owner/name", "main"), {"split": "test", "streaming": not offline})]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tabs.tsv", "prompt\tcompletion\n" + "p,p\tc\n" * 30),
        ("quotes.tsv", "prompt\tcompletion\n" + "p\tc\n" * 300 + 'a\t"b\nc\td"\n'),
        ("of.tsv.csv", "prompt,completion\n" + "p\tp,c\n" * 30),
        ("semicolons.csv", "prompt;completion\n" + "p,p;c\n" * 30),
        ("blank.csv", "\nprompt,completion\n" + "p,c\n" * 30),
        ("long.csv", "prompt,completion\n" + f"p,{'x' * 140_000}\n" + "p,c\n" * 30),
        ("faulty.csv", "prompt,completion\n" + "p,c\n" * 300 + '"p"p,c\n'),
        ("lines.json", '{"prompt": "p\u2028p", "completion": "c"}\n' * 30),
        ("faulty.json", '{"prompt": "p", "completion": "c"}\n' * 300 + "{oops\n"),
        ("deep.jsonl", '{"prompt": "p", "completion": "c"}\n' * 300 + "[" * 100_000 + "\n"),
        ("bytes.json", '{"prompt": "p", "completion": "c"}\n' * 300 + '{"prompt": "\udce4"}\n'),
    ],
)
def test_the_script_passes_over_what_the_probes_passed_over(name, content, tmp_path):
    case, data = Case(tmp_path, "llama", "lora"), tmp_path / name
    data.write_text(content, encoding="utf-8", errors="surrogateescape")
    [script] = export(tmp_path / "out", case.result(data_path=str(data)))
    read = list(runpy.run_path(str(script))["read_rows"](str(data)))
    assert read == [row for _, row in read_rows(data)] and len(read) >= 30


def test_a_broken_row_is_passed_over_and_a_trained_adapter_is_not_overwritten(tmp_path, monkeypatch):
    case = Case(tmp_path, "llama", "lora")
    rows = case.data_path.read_text().splitlines()
    rows[3:3] = [json.dumps({"prompt": 1, "completion": "2"}), '{"prompt": "\\ud83d", "completion": "3"}']
    case.data_path.write_text("\n".join(rows) + "\n")
    script = tmp_path / "train.py"
    script.write_text(training_script(case.result()))
    run = [sys.executable, str(script), "--max-steps", "1", "--output", str(tmp_path / "adapter")]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    monkeypatch.setattr(sys, "argv", run[1:])
    with pytest.raises(SystemExit, match="already holds files"):
        runpy.run_path(str(script), run_name="__main__")


def test_the_script_is_tidy(tmp_path):
    cases = [("llama", "lora"), ("llama", "adalora"), ("bert", "lora"), ("bert", "bitfit"), ("llama", "full")]
    for architecture, method in [*cases, ("llama", "eva"), ("llama", "lora-fa")]:
        case = Case(tmp_path / f"{architecture}-{method}", architecture, method)
        own = {"eval_path": "own.csv.gz", "data_columns": {"text": "a"}} if method == "bitfit" else {}
        [script] = export(tmp_path / "out" / f"{architecture}-{method}", case.result(**own))
        source = script.read_text()
        rules = "E501,E9,F,I,B,UP"
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120", f"--select={rules}", "-"],
            input=source, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert not re.search(r"\$[A-Za-z_{]", source)  # every placeholder was filled in


def test_hostile_names_stay_text(tmp_path):
    case = Case(tmp_path, "llama", "lora")
    honest = case.result()
    nasty = '"""; import os; os.abort() #\\'
    model = honest.model.model_copy(update={"reference": nasty, "location": nasty})
    source = training_script(honest.model_copy(update={"model": model}))
    assert compile(source, "train.py", "exec")
    namespace = {"__name__": "loaded", "__file__": "train.py"}
    exec(source, namespace)
    assert namespace["MODEL"] == nasty


def test_what_cannot_be_written_is_refused_with_an_alternative(tmp_path):
    case = Case(tmp_path, "llama", "lora")
    with pytest.raises(NotExpressible, match="Decompress"):
        export(tmp_path, case.result(data_path="my.jsonl.zst"))
    with pytest.raises(NotExpressible, match="without data"):
        export(tmp_path, case.result().model_copy(update={"training": None}))
    with pytest.raises(BadInput, match="no candidate"):
        export(tmp_path, case.result().model_copy(update={"recommendation": None}))
