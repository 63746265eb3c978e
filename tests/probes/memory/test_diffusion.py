"""Diffusion transformers go through the same dry run as language models."""

import pytest
import torch

from knowledge.schema import PlannedRun
from probes.memory.batches import BatchPlan
from probes.memory.build import ways_to_build
from probes.memory.estimate import training_template
from probes.memory.fused_norm import fused_rms_norm
from probes.memory.layers import move_after_wrapping
from probes.memory.loop import label_gradients
from probes.memory.replay import live_peak
from probes.memory.template import FIXED_LENGTH

WIDTH, HEAD, TEXT = 128, 64, 96
RUN = PlannedRun(task="text-to-image", max_steps=4, batch_size=2, gradient_checkpointing=True)
LORA = {"peft_type": "LORA", "r": 8, "target_modules": ["to_q", "to_v", "to_qkv_mlp_proj"]}
SHIRA = {"peft_type": "SHIRA", "r": 8, "target_modules": ["to_q", "to_qkv_mlp_proj"]}
LENGTH = (64, 16)


@pytest.fixture(scope="module")
def config():
    pytest.importorskip("diffusers")
    return {
        "_class_name": "Flux2Transformer2DModel",
        "in_channels": 16,
        "num_layers": 2,
        "num_single_layers": 3,
        "attention_head_dim": HEAD,
        "num_attention_heads": WIDTH // HEAD,
        "joint_attention_dim": TEXT,
        "axes_dims_rope": (16, 16, 16, 16),
        "guidance_embeds": False,
    }


def image_loop(model, optimizer, lengths, run, tracer):
    for image_tokens, text_tokens in lengths:
        with torch.device("meta"):
            prediction = model(
                hidden_states=torch.zeros(run.batch_size, image_tokens, 16, dtype=torch.bfloat16),
                encoder_hidden_states=torch.zeros(run.batch_size, text_tokens, TEXT, dtype=torch.bfloat16),
                timestep=torch.zeros(run.batch_size),
                img_ids=torch.zeros(image_tokens, 4),
                txt_ids=torch.zeros(text_tokens, 4),
                return_dict=False,
            )[0]
        prediction.float().pow(2).mean().backward()
        label_gradients(tracer, list(model.parameters()))
        optimizer.step()
        optimizer.zero_grad()
        yield


def template(config, peft_config, run=RUN):
    plan = BatchPlan((), (LENGTH,), FIXED_LENGTH)
    return training_template(config, peft_config, run, plan, optimizer_settings={}, loop=image_loop)


def test_every_layer_is_there_whichever_way_the_adapter_is_built(config):
    on_meta, _, copied = ways_to_build(config, LORA, RUN)
    expected, actual = (dict(way().model.named_parameters()) for way in (on_meta, copied))
    assert {n: p.shape for n, p in actual.items()} == {n: p.shape for n, p in expected.items()}
    assert sum("single_transformer_blocks" in n and "lora_A" in n for n in actual) == 3


def test_a_method_that_needs_data_is_traced_with_copied_layers(config):
    traced = template(config, SHIRA)
    assert "copied" in traced.notes[0]
    assert live_peak(traced, LENGTH).total_bytes > 0


def test_checkpointing_saves_activations_and_nothing_else(config):
    with_it = live_peak(template(config, LORA), LENGTH).bytes_by_kind
    without = live_peak(template(config, LORA, RUN.model_copy(update={"gradient_checkpointing": False})), LENGTH)
    kinds = {kind.name: without.bytes_by_kind[kind] - size for kind, size in with_it.items()}
    assert kinds["ACTIVATIONS"] > 0
    assert kinds["WEIGHTS"] == kinds["ADAPTER"] == 0


def test_the_fused_norm_keeps_the_input_and_one_number_per_row():
    norm = fused_rms_norm(torch.nn.functional.rms_norm)
    rows, width = 6, 32
    weight = torch.ones(width, dtype=torch.bfloat16, device="meta")
    inputs = torch.ones(2, rows // 2, width, dtype=torch.bfloat16, device="meta", requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        output = norm(inputs, (width,), weight, 1e-6)
    assert sorted(t.numel() * t.element_size() for t in saved) == [4 * rows, 2 * width, 2 * rows * width]
    output.sum().backward()
    assert inputs.grad.shape == inputs.shape and inputs.grad.dtype == inputs.dtype


def test_the_norm_of_real_tensors_is_the_real_one():
    norm = fused_rms_norm(torch.nn.functional.rms_norm)
    inputs = torch.randn(3, 8)
    assert torch.equal(norm(inputs, (8,)), torch.nn.functional.rms_norm(inputs, (8,)))


def test_a_model_that_is_moved_after_wrapping_takes_its_buffers_along(config):
    boft = {"peft_type": "BOFT", "boft_block_size": 4, "target_modules": ["to_q"]}
    beside, moved = (
        next(built for built in _built(config, boft, wrapped_on_cpu=choice)).model for choice in (False, True)
    )
    permutations = [[buffer for name, buffer in model.named_buffers() if "boft_P" in name] for model in (beside, moved)]
    assert {p.device.type for p in permutations[0]} == {"cpu"}
    assert {p.device.type for p in permutations[1]} == {"meta"}


def test_views_leave_behind_what_they_do_not_show_when_they_are_moved():
    module = torch.nn.Module()
    module.register_buffer("part", torch.empty(100, 100, device="meta")[:2])
    module.register_buffer("shape", torch.tensor([3, 4]))
    move_after_wrapping(module)
    assert module.part.untyped_storage().nbytes() == 2 * 100 * 4
    assert module.shape.tolist() == [3, 4]


def _built(config, peft_config, **choices):
    for way in ways_to_build(config, peft_config, RUN, **choices):
        try:
            yield way()
        except (RuntimeError, NotImplementedError):
            continue
