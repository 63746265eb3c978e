"""Held-out loss and metric agree with the model's own, whatever the padding."""

import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from knowledge.methods import get_method
from probes import adapters
from probes.data.rows import TokenRows
from probes.evaluation import NotFinite, evaluate
from probes.shape import model_shape
from tests.tiny import CLASSIFIERS_TAKE_PREFIXES, tiny_model, tiny_task


def ragged_rows() -> TokenRows:
    """Counting rows of unequal lengths and label counts."""
    rows = []
    for start, length, labels in ((0, 6, 2), (3, 14, 5), (7, 9, 9), (1, 11, 1)):
        ids = [(start + 2 * i) % 20 + 4 for i in range(length)]
        rows.append((ids, [i >= length - labels for i in range(length)]))
    return TokenRows.build(rows)


def evaluate_rows(model, rows, architecture="llama", metric_name="exact match", batch_size=4):
    task = tiny_task(architecture)
    return evaluate(
        model, rows, task=task, metric_name=metric_name, batch_size=batch_size, pad_token_id=0, device="cpu"
    )


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "qwen3", "mixtral"])
def test_padded_batches_give_the_loss_of_each_row_alone(architecture):
    """The reference is the model's own loss on each row by itself, without padding, weighted by its labels.
    The first token of a row has no context and therefore no label."""
    model, rows = tiny_model(architecture), ragged_rows()
    losses, counts = [], []
    for i in range(len(rows)):
        ids, mask = (torch.tensor(a.tolist())[None] for a in rows.row(i))
        labels = torch.where(mask, ids, -100)
        labelled = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            losses.append(model(input_ids=ids, labels=labels).loss.item() * labelled)
        counts.append(labelled)
    for batch_size in (4, 3, 1):
        found = evaluate_rows(model, rows, architecture, batch_size=batch_size)
        assert found.loss == pytest.approx(sum(losses) / sum(counts), abs=1e-4)
        assert found.row_losses == pytest.approx(losses, abs=1e-3)  # in the order of the rows, not of the batches
        assert found.row_labels == tuple(counts)
        assert len(found.row_right) == len(rows)
        if found.token_accuracy is not None:
            assert sum(found.row_right) / sum(counts) == pytest.approx(found.token_accuracy)


@pytest.mark.parametrize("name", ["prompt-tuning", "p-tuning", "prefix-tuning", "lora"])
def test_a_decoder_that_classifies_reads_the_last_token_whatever_is_padded(name):
    """With prompts as embeddings transformers reads the last position, which was padding."""
    if name == "prefix-tuning" and not CLASSIFIERS_TAKE_PREFIXES:
        pytest.skip("the installed PEFT and transformers do not take prefixes here")
    task, method = "sequence-classification", get_method(name)
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_config(tiny_model("llama").config, dtype=torch.float32).eval()
    model = adapters.apply_method(base, method, method.peft_config(model_shape(base, task), 8))
    rows = TokenRows.build([(list(range(4, 4 + n)), [False] * n) for n in (3, 6, 20)], [0, 1, 0])
    alone, together = (
        evaluate(model, rows, task=task, metric_name="accuracy", batch_size=size, pad_token_id=0, device="cpu")
        for size in (1, 3)
    )
    assert together.row_losses == pytest.approx(alone.row_losses, abs=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "qwen3"])
@pytest.mark.parametrize("name", ["prompt-tuning", "p-tuning", "prefix-tuning"])
def test_behind_a_prompt_a_row_is_what_it_is_alone(name, architecture):
    """PEFT hands on no positions, and rows are padded between the prompt and the text."""
    method, base = get_method(name), tiny_model(architecture)
    torch.manual_seed(0)
    model = adapters.apply_method(base, method, method.peft_config(model_shape(base, "causal-lm"), 8))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    rows = ragged_rows()
    alone, together = (evaluate_rows(model, rows, architecture, batch_size=size) for size in (1, 4))
    assert together.row_losses == pytest.approx(alone.row_losses, abs=1e-3)
    adapters.remove_method(model)
    assert evaluate_rows(base, rows, architecture).loss == pytest.approx(
        evaluate_rows(tiny_model(architecture), rows, architecture).loss, abs=1e-5
    )


def test_single_tokens_are_counted_beside_whole_answers():
    model, rows = tiny_model("llama"), ragged_rows()
    whole, single = (evaluate_rows(model, rows, metric_name=name) for name in ("exact match", "token accuracy"))
    assert whole.token_accuracy == single.metric
    assert single.token_accuracy is None


def test_exact_match_equals_that_of_greedy_generation():
    model = tiny_model("llama")
    starts = range(12)
    rows = TokenRows.build(
        [([(s + i) % 20 + 4 for i in range(10)], [False] * 7 + [True] * 3) for s in starts]
        + [([(s + 3 * i) % 20 + 4 for i in range(10)], [False] * 7 + [True] * 3) for s in starts]
    )
    generated_right = 0
    for i in range(len(rows)):
        ids, _ = rows.row(i)
        prompt = torch.tensor(ids[:7].tolist())[None]
        answer = model.generate(prompt, max_new_tokens=3, do_sample=False, eos_token_id=None, pad_token_id=0)[0, 7:]
        generated_right += answer.tolist() == ids[7:].tolist()
    assert 0 < generated_right < len(rows)
    assert evaluate_rows(model, rows).metric == pytest.approx(generated_right / len(rows))


def test_accuracy_of_a_classifier():
    model = tiny_model("bert")
    rows = TokenRows.build([([s + 4] * 5, [False] * 5) for s in range(20)], [int(s < 10) for s in range(20)])
    with torch.no_grad():
        picked = [int(model(torch.tensor([[s + 4] * 5])).logits.argmax()) for s in range(20)]
    expected = sum(p == int(s < 10) for s, p in enumerate(picked)) / 20
    found = evaluate_rows(model, rows, "bert", "accuracy")
    assert found.metric == pytest.approx(expected)
    assert found.row_labels == (1,) * 20
    assert sum(found.row_losses) / 20 == pytest.approx(found.loss, abs=1e-5)


def test_a_loss_that_is_no_number_is_an_error_and_the_mode_is_kept():
    model = tiny_model("llama").train()
    assert math.isfinite(evaluate_rows(model, ragged_rows()).loss)
    assert model.training
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(NotFinite):
        evaluate_rows(model, ragged_rows())
