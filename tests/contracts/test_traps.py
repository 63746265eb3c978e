"""What PEFT does without a word, and what is done here so that no result rests on it: one test per trap.

Others are held in the contract over all methods (test_methods.py): a reload that differs, a merge that differs, an
adapter that is not the identity at its start, and layers of GPT-2 that are passed over.
"""

from __future__ import annotations

import pytest
import torch
from peft import PeftConfig, get_peft_model
from safetensors import safe_open

from knowledge.methods import all_methods, get_method
from probes import adapters
from probes.shape import model_shape
from tests.contracts.observe import SAME, STEPS, cross_entropy, difference, logits, observe, train
from tests.probes.runs import Run
from tests.tiny import tiny_batch, tiny_calibration, tiny_model, tiny_task

REWRITE_THE_BASE = ("pissa", "olora", "corda", "lora-ga")
SERVED_BY_VLLM = [m for m in all_methods().values() if m.capabilities.vllm == "adapter"]


def wrap(name: str, architecture: str = "llama", **changes):
    method = get_method(name).variant(**changes)
    torch.manual_seed(0)
    base = tiny_model(architecture)
    config = method.peft_config(model_shape(base, tiny_task(architecture)), STEPS)
    return method, adapters.apply_method(base, method, config, batches=lambda: tiny_calibration(architecture))


@pytest.mark.parametrize("name", ["adalora", "kasa", "monteclora"])
def test_terms_that_a_method_adds_to_its_loss_are_trained_with_and_never_evaluated_with(name, tmp_path):
    run = Run("llama", name, tmp_path)
    batch = tiny_batch("llama", rows=16, seed=7)
    labels = batch["labels"].clone()
    labels[:, :8] = -100  # the rows of `Run` are trained on their second half
    run.model.train()
    with torch.no_grad():
        output = run.model(**{**batch, "labels": labels})
    own = torch.nn.functional.cross_entropy(output.logits[:, 7:-1].flatten(0, 1), batch["labels"][:, 8:].flatten())
    assert output.loss > own + 1e-6
    run.model.eval()
    with torch.no_grad():
        plain = run.model(**{**batch, "labels": labels}).logits[:, 7:-1]
    expected = torch.nn.functional.cross_entropy(plain.flatten(0, 1), batch["labels"][:, 8:].flatten())
    assert run.evaluate().loss == pytest.approx(expected.item(), abs=1e-4)
    assert get_method(name).trains_through_model_loss


@pytest.mark.parametrize("name", REWRITE_THE_BASE)
def test_a_base_that_an_initialisation_rewrites_is_not_used_again_and_a_fresh_one_reloads_it(name, tmp_path):
    method, model = wrap(name)
    rank = model.active_peft_config.r
    train(model, method, tiny_batch(), method.learning_rates[-1])
    trained = logits(model, tiny_batch())
    adapters.save_adapter(model, tmp_path)
    saved = PeftConfig.from_pretrained(tmp_path)
    assert (saved.r, saved.init_lora_weights) == (2 * rank, True)  # the start is part of the adapter, as plain LoRA
    assert difference(logits(adapters.load_adapter(tiny_model(), tmp_path), tiny_batch()), trained) < SAME
    removed = adapters.remove_method(model)
    assert difference(logits(removed, tiny_batch()), logits(tiny_model(), tiny_batch())) > SAME
    assert not method.capabilities.restores_base


def test_osf_finds_nothing_on_gpt2_and_is_stopped():
    assert "Conv1D" in get_method("osf").unsupported_reason(model_shape(tiny_model("gpt2"), "causal-lm"))
    with pytest.raises(adapters.Ineffective, match="trains nothing on this gpt2 model"):
        wrap("osf", "gpt2", supports_conv1d=True)


def wrap_on_nf4(name: str):
    """The method on a base in nf4, whatever the catalogue says."""
    pytest.importorskip("bitsandbytes")
    capabilities = get_method(name).capabilities.model_copy(update={"quantized": ("nf4",)})
    return wrap(name, "llama-nf4", capabilities=capabilities)


def trained_shapes(model) -> set[tuple[int, ...]]:
    return {tuple(p.shape) for p in model.parameters() if p.requires_grad}


def test_uni_lora_trains_nothing_in_4_bits_and_is_refused():
    method, model = wrap_on_nf4("unilora")
    losses = train(model, method, tiny_batch(), method.learning_rates[-1])
    assert losses[-1] == pytest.approx(losses[0], abs=1e-3)
    assert get_method("unilora").capabilities.quantized == ()


@pytest.mark.parametrize("name", ["kasa", "monteclora", "bd-lora"])
def test_variants_that_become_plain_lora_in_4_bits_are_refused(name):
    _, quantized = wrap_on_nf4(name)
    plain_settings = {key: get_method(name).settings[key] for key in ("r", "lora_alpha")}
    _, plain = wrap("lora-mlp" if name == "bd-lora" else "lora", settings=plain_settings)
    assert trained_shapes(quantized) == trained_shapes(plain) != trained_shapes(wrap(name)[1])
    assert get_method(name).capabilities.quantized == ()


def test_a_merge_into_4_bits_rounds_away_what_a_merge_into_the_full_base_keeps(tmp_path):
    pytest.importorskip("bitsandbytes")
    method, model = wrap("lora", "llama-nf4")
    train(model, method, tiny_batch(), method.learning_rates[-1])
    beside = logits(model, tiny_batch())
    adapters.save_adapter(model, tmp_path)
    assert difference(logits(model.merge_and_unload(), tiny_batch()), beside) > 10 * SAME
    full = adapters.load_adapter(tiny_model(), tmp_path)
    beside_full = logits(full, tiny_batch())
    assert difference(logits(full.merge_and_unload(), tiny_batch()), beside_full) < SAME


def test_beft_merges_where_there_are_biases_and_raises_where_there_are_none():
    assert observe(get_method("beft"), "bert").as_seen().merges
    assert not observe(get_method("beft"), "llama").as_seen().merges
    assert not get_method("beft").capabilities.mergeable


def test_peft_leaves_the_base_frozen_and_it_is_thawed_here():
    base = tiny_model()
    config = PeftConfig.from_peft_type(**get_method("lora").peft_config(model_shape(base, "causal-lm"), STEPS))
    assert not any(p.requires_grad for p in get_peft_model(base, config).unload().parameters())
    _, model = wrap("lora")
    assert all(p.requires_grad for p in adapters.remove_method(model).parameters())


@pytest.mark.parametrize("method", SERVED_BY_VLLM, ids=lambda method: method.name)
def test_what_vllm_is_said_to_serve_is_an_ordinary_lora(method, tmp_path):
    """vLLM's loader refuses use_dora and modules_to_save, and knows the two matrices alone."""
    column = "llama" if not method.unsupported_reason(model_shape(tiny_model(), "causal-lm")) else "llama-nf4"
    _, model = wrap(method.name, column)
    adapters.save_adapter(model, tmp_path)
    saved = PeftConfig.from_pretrained(tmp_path)
    assert saved.peft_type == "LORA"
    assert not saved.use_dora
    assert not saved.modules_to_save
    with safe_open(tmp_path / "adapter_model.safetensors", framework="pt") as file:
        assert {name.rsplit(".", 2)[-2] for name in file.keys()} == {"lora_A", "lora_B"}  # noqa: SIM118


def test_adalora_prunes_after_the_step_and_before_the_gradients_are_cleared():
    """Its importance of ranks reads the gradients: once they are cleared, it raises."""
    method, model = wrap("adalora")
    optimizer = adapters.make_optimizer(model, method, method.default_learning_rate)
    loss = cross_entropy(model(**tiny_batch()).logits, tiny_batch()["labels"])
    loss.backward()
    optimizer.step()
    adapters.after_optimizer_step(model, 0)
    optimizer.zero_grad()
    with pytest.raises(TypeError):
        adapters.after_optimizer_step(model, 1)
