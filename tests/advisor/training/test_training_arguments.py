"""The planned run in transformers' words: the rates that its trainer would use are those that the probes used."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from transformers import TrainingArguments, get_scheduler

from advisor.outcome import Recommendation
from advisor.training.training_arguments import in_parts, training_arguments
from knowledge.methods import get_method
from knowledge.schema import PlannedRun
from probes.schema import Schedule
from tests.advisor.factories import candidate, result


@pytest.mark.parametrize("scheduler", get_args(PlannedRun.model_fields["scheduler"].annotation))
def test_rates_are_those_of_the_probes(scheduler, tmp_path):
    run = PlannedRun(scheduler=scheduler, max_steps=50, warmup_fraction=0.2, dtype="float32")
    made = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **training_arguments(run, 1e-3, 0.01))
    assert (made.learning_rate, made.weight_decay, made.max_steps) == (1e-3, 0.01, 50)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(
        made.lr_scheduler_type, optimizer, num_warmup_steps=made.warmup_steps, num_training_steps=made.max_steps
    )
    ours, rates = Schedule(shape=scheduler, total_steps=50, warmup_steps=10), []
    for _ in range(50):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    # Theirs begins at 0 and ends a step earlier.
    assert rates == pytest.approx([ours.factor(step) for step in range(50)], abs=0.1)


@pytest.mark.parametrize("name", ["lora", "gralora"])
def test_without_data_too_the_decay_is_that_of_the_method(name):
    made = result([candidate(name, 0.5, status="from table")], race=None, data=None, training=None)
    assert Recommendation(made).training_arguments["weight_decay"] == get_method(name).weight_decay
    assert get_method("lora").weight_decay > 0


@pytest.mark.parametrize(
    ("asked", "parts", "done"), [((8, 1), 1, (8, 1)), ((8, 1), 2, (4, 2)), ((6, 4), 2, (3, 8)), ((3, 2), 2, (1, 6))]
)
def test_batches_in_parts_are_as_many_rows_a_step(asked, parts, done):
    run = in_parts(PlannedRun(max_steps=9, batch_size=asked[0], gradient_accumulation_steps=asked[1]), parts)
    assert (run.batch_size, run.gradient_accumulation_steps) == done
