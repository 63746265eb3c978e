"""Forgetting is measured on what the base model wrote: the same texts for all workers, a larger figure for a model that
has moved further away."""

import json
import math
import multiprocessing
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from knowledge.intervals import student_80
from probes import forgetting as module
from probes.evaluation import evaluate
from probes.forgetting import TEXT_TOKENS, TEXTS_ON_CPU, ForgettingMeter, forgetting, shared_texts, write_texts
from tests.probes.runs import Run, context_of
from tests.tiny import tiny_model, tiny_task


class Tokenizer:
    """As much of a tokenizer as sampling needs."""

    pad_token_id, bos_token_id, eos_token_id = 0, 1, 2

    def __init__(self, **ids):
        vars(self).update(ids)

    def __call__(self, text, add_special_tokens=True):
        return SimpleNamespace(input_ids=[2] if add_special_tokens else [9])


def evaluate_on(architecture):
    def evaluate_rows(model, rows):
        task = tiny_task(architecture)
        return evaluate(
            model, rows, task=task, metric_name="token accuracy", batch_size=8, pad_token_id=0, device="cpu"
        )

    return evaluate_rows


def meter_of(architecture, folder, **settings):
    return ForgettingMeter(context_of(architecture, folder, **settings), Tokenizer(), evaluate_on(architecture))


def texts_of(model, architecture="llama", tokenizer=None, seed=0):
    return write_texts(model, tokenizer or Tokenizer(), tiny_task(architecture), seed, TEXTS_ON_CPU)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "t5"])
def test_the_base_writes_texts_of_equal_length_in_its_own_words(architecture):
    """A model that learned to count writes numbers that mostly go up by one, as far as it learned to count (16)."""
    texts = texts_of(tiny_model(architecture), architecture)
    assert len(texts) == TEXTS_ON_CPU
    assert {len(text) for _, text in texts} == {TEXT_TOKENS}
    assert len({tuple(text) for _, text in texts}) > 1  # drawn, not the likeliest one again and again
    follows = [(b - a) % 20 == 1 for _, text in texts for a, b in pairwise(text[:8])]
    assert sum(follows) > len(follows) / 2


def test_the_same_seed_writes_the_same_texts_and_another_one_others():
    model = tiny_model("llama")
    torch.rand(5)  # another state of the generator, as in another process
    assert texts_of(model) == texts_of(model)
    assert texts_of(model, seed=1) != texts_of(model)


def test_a_models_own_habits_of_chatting_do_not_bend_its_texts():
    model, chatty = tiny_model("llama"), tiny_model("llama")
    chatty.generation_config.update(repetition_penalty=5.0, top_k=1, min_p=0.9, no_repeat_ngram_size=2)
    assert texts_of(chatty) == texts_of(model)
    assert chatty.generation_config.repetition_penalty == 5.0


@pytest.mark.parametrize(
    ("ids", "start"),
    [
        ({}, [1]),
        ({"bos_token_id": None}, [2]),
        ({"bos_token_id": None, "eos_token_id": None}, [9]),
    ],
)
def test_where_a_text_starts(ids, start):
    assert texts_of(tiny_model("llama"), tokenizer=Tokenizer(**ids))[0][0] == start


def test_untrained_nothing_is_forgotten_and_a_higher_rate_forgets_more(tmp_path):
    """The task is to count by two, which the base, that counts by one, never does."""
    base = tiny_model("llama")
    meter = meter_of("llama", tmp_path)
    meter.prepare(base)
    assert meter.measure(base) == (module.Forgetting(value=0.0, noise=0.0), "")
    found = []
    for rate in (1e-3, 1e-2, 1e-1):
        run = Run("llama", "lora", tmp_path, learning_rate=rate)
        run.to(12)
        measured, why_not = meter.measure(run.model)
        assert not why_not
        found.append(measured)
    assert found[0].value < found[1].value < found[2].value
    assert found[2].value > 1.0
    assert found[2].noise > 0


def test_it_is_the_mean_over_tokens_and_its_noise_that_over_texts():
    untuned = SimpleNamespace(loss=2.0, row_losses=(6.0, 10.0), row_labels=(4, 4))
    tuned = SimpleNamespace(loss=2.5, row_losses=(8.0, 12.4), row_labels=(4, 4))
    # The two texts grew by .5 and .6 nats per token: a standard deviation of .0707, over the root of two.
    assert forgetting(untuned, tuned).value == 0.5
    assert forgetting(untuned, tuned).noise == pytest.approx(student_80(1) * 0.0707 / math.sqrt(2), abs=1e-4)


def test_it_estimates_the_divergence_from_the_base(tmp_path):
    """The exact KL(base || tuned) at every position of the texts, which needs both models at once."""
    base, run = tiny_model("llama"), Run("llama", "lora", tmp_path, learning_rate=1e-2)
    run.to(12)
    meter = meter_of("llama", tmp_path)
    meter.prepare(base)
    measured, _ = meter.measure(run.model)
    tokens = torch.tensor([prompt + text for prompt, text in texts_of(base)])
    with torch.no_grad():
        before, after = (model(tokens).logits[:, :-1].log_softmax(-1) for model in (base, run.model.eval()))
    exact = float((before.exp() * (before - after)).sum(-1).mean())
    assert measured.value == pytest.approx(exact, abs=3 * measured.noise)


def test_workers_measure_on_the_texts_of_the_first_one(tmp_path):
    first, second = meter_of("llama", tmp_path), meter_of("llama", tmp_path)
    first.prepare(tiny_model("llama"))
    stored = (tmp_path / "base_texts.json").read_bytes()
    second.prepare(tiny_model("llama", trained=False))  # would write others
    assert second._texts.tokens.tolist() == first._texts.tokens.tolist()
    assert (tmp_path / "base_texts.json").read_bytes() == stored
    assert not list(tmp_path.glob("*.tmp"))


def test_texts_made_for_another_model_or_seed_are_not_taken(tmp_path):
    meter_of("llama", tmp_path).prepare(tiny_model("llama"))
    stored = (tmp_path / "base_texts.json").read_bytes()
    other = meter_of("llama", tmp_path, seed=1)
    other.prepare(tiny_model("llama"))
    assert (tmp_path / "base_texts.json").read_bytes() != stored
    assert json.loads((tmp_path / "base_texts.json").read_text())["made_for"]["seed"] == 1


def _take_part(path, number, barrier, answers):
    barrier.wait()
    rows = shared_texts(path, {"seed": 0}, lambda: [([1], [number] * 8)])
    answers.put(rows.tokens.tolist())


def test_workers_that_come_at_once_agree(tmp_path):
    """Each of four processes would write other texts; one does, and all read the same."""
    processes = multiprocessing.get_context("fork")
    barrier, answers = processes.Barrier(4), processes.Queue()
    workers = [
        processes.Process(target=_take_part, args=(tmp_path / "base_texts.json", i, barrier, answers)) for i in range(4)
    ]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert all(tokens == found[0] for tokens in found)


def test_a_classifier_has_no_texts_and_says_so(tmp_path):
    meter = meter_of("bert", tmp_path)
    meter.prepare(tiny_model("bert"))
    measured, why_not = meter.measure(tiny_model("bert"))
    assert measured is None
    assert "classifier" in why_not
    assert not (tmp_path / "base_texts.json").exists()


def test_a_base_that_cannot_write_and_a_model_that_is_broken_are_told_in_words(tmp_path):
    mute = tiny_model("llama")
    mute.generate = None
    meter = meter_of("llama", tmp_path)
    meter.prepare(mute)
    assert meter.measure(mute) == (None, meter._why_not)
    assert "writes no texts" in meter._why_not

    meter, broken = meter_of("llama", tmp_path), tiny_model("llama")
    meter.prepare(tiny_model("llama"))
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    measured, why_not = meter.measure(broken)
    assert measured is None
    assert "NotFinite" in why_not
