"""One recommended run on a tiny model: its data, its result as `advisor recommend` leaves it, and its probe."""

from __future__ import annotations

import json
import random
from pathlib import Path

from transformers import AutoTokenizer

from advisor.recommendation import TrainingPlan
from knowledge.methods import get_method
from knowledge.schema import PlannedRun
from probes.data.dataset import prepare
from probes.schema import ModelReport, ProbeContext, ProbeJob, Schedule
from probes.session import Session
from tests.advisor.factories import candidate, result
from tests.tiny import tiny_model, tiny_task

STEPS = 6


def save_tiny(folder: Path, architecture: str) -> Path:
    """A tiny model with a tokenizer of letters and digits, as a local model folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = "0123456789abcdefghijklmnopqrstuvwxyz =+-.:?"
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", *characters])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="</s>", pad_token="<pad>")
    tiny_model(architecture).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, task: str) -> Path:
    """Sums to learn, with duplicates and one broken line."""
    draw = random.Random(0)
    pairs = [(a, b) for a in range(12) for b in range(10)] + [(1, 2)] * 3
    draw.shuffle(pairs)
    if task == "sequence-classification":
        rows = [{"text": f"{a}+{b}", "label": "even" if (a + b) % 2 == 0 else "odd"} for a, b in pairs]
    else:
        rows = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a, b in pairs]
    lines = [json.dumps(row) for row in rows]
    lines.insert(5, '{"prompt": ')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class Case:
    """One recommended run on a tiny model, with the probe that stands for it."""

    def __init__(self, folder: Path, architecture: str, method_name: str, **run_settings):
        task = tiny_task(architecture)
        self.folder, self.method = folder, get_method(method_name)
        model = save_tiny(folder / "model", architecture)
        self.data_path = write_rows(folder / "data.jsonl", task)
        self.data = prepare(
            self.data_path, AutoTokenizer.from_pretrained(model), task=task, max_length_tokens=24, max_eval_rows=16
        )
        self.data.save(folder / "prepared")
        self.run = PlannedRun(
            task=task, max_steps=STEPS, max_length_tokens=24, dtype="float32", warmup_fraction=0.34, **run_settings
        )
        self.context = ProbeContext(
            model_reference=str(model),
            task=task,
            data_folder=str(folder / "prepared"),
            work_folder=str(folder / "work"),
            batch_size=self.run.batch_size,
            gradient_accumulation_steps=self.run.gradient_accumulation_steps,
            eval_rows=16,
            metric_name=self.data.profile.metric_name,
            quantization=self.run.quantization,
        )
        from probes.shape import model_shape

        self.peft_config = self.method.peft_config(model_shape(tiny_model(architecture), task), STEPS)

    def result(self, **changes):
        method, rate = self.method, self.method.default_learning_rate
        pick = candidate(
            method.name,
            title=method.title,
            learning_rate=rate,
            peft_type=method.peft_type,
            peft_config=self.peft_config,
        )
        plan = TrainingPlan(
            learning_rate=rate,
            optimizer=method.optimizer,
            optimizer_settings=method.optimizer_settings,
            weight_decay=method.weight_decay,
            through_model_loss=method.trains_through_model_loss,
            setup_by=None if method.is_plain_peft or method.peft_type is None else method.name,
            trains=method.trains,
            data_path=str(self.data_path),
            data_format=self.data.profile.format,
            held_out_key=self.data.held_out_key,
            keyed_by=self.data.keyed_by,
            eval_rows=len(self.data.eval),
            label_names=self.data.label_names,
            metric_name=self.data.profile.metric_name,
        )
        model = ModelReport(
            reference="tiny",
            source="local folder",
            location=self.context.model_reference,
            model_type="tiny",
            parameters=1,
            task=self.run.task,
        )
        return result(
            [pick], model=model, planned_run=self.run, training=plan.model_copy(update=changes), data=self.data.profile
        )

    def probe(self, parts: int = 1):
        """(untuned loss, [loss of each step], tuned loss) as the probes see them."""
        schedule = Schedule(shape=self.run.scheduler, total_steps=STEPS, warmup_steps=self.run.warmup_steps)
        job = ProbeJob(
            id="x",
            method=self.method.name,
            learning_rate=self.method.default_learning_rate,
            peft_config=self.peft_config,
            schedule=schedule,
            stop_step=STEPS,
            eval_steps=(STEPS,),
            micro_batches=parts,
        )
        losses: list[float] = []
        session = Session(self.context)
        untuned = session.baseline().eval_loss
        outcome = session.run(job, lambda _id, _step, loss: losses.append(loss), lambda _id, _point: None)
        assert outcome.status == "finished", outcome.reason
        return untuned, losses, outcome.points[-1].eval_loss
