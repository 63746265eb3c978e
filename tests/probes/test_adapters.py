"""Methods on real tiny models: what is wrapped, trained, saved, and what is left behind afterwards."""

from __future__ import annotations

import pytest
import torch

from knowledge.errors import BadInput
from knowledge.methods import all_methods, get_method
from knowledge.methods.base import Method
from probes import adapters
from probes.shape import model_shape
from tests.tiny import ARCHITECTURES, tiny_batch, tiny_calibration, tiny_model, tiny_task

ADAPTERS = [name for name, method in all_methods().items() if method.peft_type and not method.special_purpose]
# Its few parameters sit in a wrapper of the base's attention, in the base's precision.
TRAINED_IN_BASE_PRECISION = {"adaption-prompt"}


def wrap(name: str, architecture: str = "llama", max_steps: int = 20, dtype=torch.float32):
    method = get_method(name)
    base = tiny_model(architecture).to(dtype)
    config = method.peft_config(model_shape(base, tiny_task(architecture)), max_steps)
    return adapters.apply_method(base, method, config, batches=lambda: tiny_calibration(architecture))


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_saved_is_as_large_as_what_trains_unless_the_catalogue_says_otherwise(name):
    model, method = wrap(name), get_method(name)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    saved = adapters.adapter_bytes(model, method) / method.saved_rank_factor
    assert method.saved_size_differs == (abs(saved - trained) > 0.05 * trained), (saved, trained)


def train(model, name: str, steps: int, architecture: str = "llama") -> list[float]:
    method = get_method(name)
    optimizer = adapters.make_optimizer(model, method, method.learning_rates[-1])
    model.train()
    losses = []
    for step in range(steps):
        loss = model(**tiny_batch(architecture)).loss
        loss.backward()
        optimizer.step()
        adapters.after_optimizer_step(model, step)
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shape_of_a_meta_model_is_that_of_the_real_one(architecture):
    real = tiny_model(architecture, trained=False)
    with torch.device("meta"):
        meta = type(real)(real.config)
    task = tiny_task(architecture)
    assert model_shape(meta, task) == model_shape(real, task)


def test_shape_holds_sizes_norms_and_biases():
    llama, gpt2 = (model_shape(tiny_model(name), "causal-lm") for name in ("llama", "gpt2"))
    assert llama.linear_sizes["model.layers.*.self_attn.k_proj"] == ((64, 32),)
    assert llama.linear_sizes["model.layers.*.mlp.down_proj"] == ((128, 64),)
    assert llama.norm_paths == (
        "model.layers.*.input_layernorm",
        "model.layers.*.post_attention_layernorm",
        "model.norm",
    )
    assert (llama.hidden_size, llama.num_layers, llama.bias_paths, llama.conv1d_paths) == (64, 2, (), ())
    assert "k_proj" in llama.linear_modules
    assert gpt2.linear_sizes["transformer.h.*.attn.c_attn"] == ((64, 192),)
    assert "transformer.h.*.attn.c_attn" in gpt2.conv1d_paths
    assert "transformer.h.*.mlp.c_fc.bias" in gpt2.bias_paths


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_base_in_bfloat16_is_adapted_in_float32(name):
    model = wrap(name, dtype=torch.bfloat16)
    expected = torch.bfloat16 if name in TRAINED_IN_BASE_PRECISION else torch.float32
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {expected}
    first, *_, last = train(model, name, steps=12)
    assert last < first


def test_small_steps_on_norms_are_not_rounded_away_in_bfloat16():
    model = wrap("ln-tuning", dtype=torch.bfloat16)
    method = get_method("ln-tuning")
    before = [p.clone() for p in model.parameters() if p.requires_grad]
    optimizer = adapters.make_optimizer(model, method, 1e-4)
    model(**tiny_batch()).loss.backward()
    optimizer.step()
    assert all((p != b).any() for p, b in zip((p for p in model.parameters() if p.requires_grad), before, strict=True))


def test_a_classification_head_is_trained_in_float32_and_put_back():
    base = tiny_model("bert").to(torch.bfloat16)
    head = base.classifier
    weights = head.weight.clone()
    method = get_method("lora")
    shape = model_shape(base, "sequence-classification")
    model = adapters.apply_method(base, method, method.peft_config(shape, 20))
    losses = train(model, "lora", steps=5, architecture="bert")
    assert losses[-1] < losses[0]
    restored = adapters.remove_method(model)
    assert restored.classifier is head
    assert torch.equal(head.weight, weights)


def test_a_restored_base_can_be_adapted_again_as_if_it_were_new():
    first = wrap("lora")
    train(first, "lora", steps=3)
    base = adapters.remove_method(first)
    method = get_method("oft")
    config = method.peft_config(model_shape(base, "causal-lm"), 20)
    again = adapters.apply_method(base, method, config)
    assert train(again, "oft", steps=3) == train(wrap("oft"), "oft", steps=3)


def test_a_method_that_trains_nothing_is_named():
    class TrainsNothing(Method):
        def select_trainable(self, model):
            model.requires_grad_(False)

    method = TrainsNothing(**dict(get_method("full")))
    with pytest.raises(adapters.Ineffective, match="Full fine-tuning trains nothing on this llama model"):
        adapters.apply_method(tiny_model(), method, None)


def test_a_method_that_reads_data_asks_for_batches():
    method = get_method("full").variant(needs_batches=True)
    with pytest.raises(BadInput, match="pass `batches`"):
        adapters.apply_method(tiny_model(), method, None)


def test_lora_fa_trains_the_second_matrix_only():
    model = wrap("lora-fa")
    adapters.make_optimizer(model, get_method("lora-fa"), 1e-3)
    assert all("lora_B" in name for name, p in model.named_parameters() if p.requires_grad)


def test_lora_plus_gives_the_second_matrix_its_rate():
    optimizer = adapters.make_optimizer(wrap("lora-plus"), get_method("lora-plus"), 1e-4)
    assert {group["lr"] for group in optimizer.param_groups if group["params"]} == {1e-4, 16e-4}


def test_plain_optimizer_gets_rate_and_weight_decay():
    optimizer = adapters.make_optimizer(wrap("lora"), get_method("lora"), 3e-4)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (3e-4, 0.1)


def test_adalora_prunes_ranks_as_it_trains():
    model = wrap("adalora", max_steps=20)
    singular_values = [p for name, p in model.named_parameters() if "lora_E" in name]
    train(model, "adalora", steps=19)
    pruned = sum(int((p == 0).sum()) for p in singular_values)
    config = model.active_peft_config
    assert pruned == (config.init_r - config.target_r) * len(singular_values)


def test_adalora_reloads_for_inference_with_labels(tmp_path):
    """PEFT 0.21 raises there: 'no attribute trainable_adapter_name'."""
    model = wrap("adalora")
    train(model, "adalora", steps=3)
    adapters.save_adapter(model, tmp_path)
    loaded = adapters.load_adapter(tiny_model(), tmp_path).eval()
    assert torch.allclose(loaded(**tiny_batch()).logits, model.eval()(**tiny_batch()).logits, atol=1e-5)


def test_methods_without_schedule_ignore_the_step():
    model = wrap("lora")
    before = [p.clone() for p in model.parameters()]
    adapters.after_optimizer_step(model, 0)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_loading_refuses_what_is_not_there_or_of_another_model(tmp_path):
    with pytest.raises(BadInput, match="neither"):
        adapters.load_adapter(tiny_model(), tmp_path)
    adapters.save_adapter(wrap("full"), tmp_path)
    with pytest.raises(BadInput, match="another model: the base has no"):
        adapters.load_adapter(tiny_model("gpt2"), tmp_path)


def test_adapter_bytes_of_lora_are_its_two_matrices():
    model = wrap("lora")
    assert adapters.adapter_bytes(model, get_method("lora")) == 4 * adapters.trainable_parameters(model)
