"""The training loop, on real tiny models."""

import math

import numpy as np
import pytest
import torch

from knowledge.schema import CurvePoint
from probes.adapters import Ineffective
from probes.batching import collate
from probes.forward import training_losses
from probes.training import Diverged, _check_loss
from tests.probes.runs import Run
from tests.probes.test_evaluation import ragged_rows


@pytest.mark.parametrize("architecture", ["llama", "bert", "t5"])
def test_the_loss_falls_and_points_come_where_they_were_asked_for(architecture, tmp_path):
    run = Run(architecture, "lora", tmp_path, steps=40, learning_rate=1e-2)
    before = run.evaluate()
    items = run.to(40, eval_steps=(20, 40))
    points = [item for item in items if isinstance(item, CurvePoint)]
    assert [p.step for p in points] == [20, 40]
    assert points[-1].eval_loss < before.loss - 0.1
    assert points[-1].metric >= before.metric
    losses = [item for item in items if not isinstance(item, CurvePoint)]
    assert len(losses) == 40
    assert points[0].train_loss == pytest.approx(sum(losses[:20]) / 20)


def test_accumulated_micro_batches_equal_one_large_batch(tmp_path):
    """Rows have equally many labels here, so the mean of means is the mean."""
    large = Run("llama", "lora", tmp_path, learning_rate=1e-2)
    small = Run("llama", "lora", tmp_path, learning_rate=1e-2, gradient_accumulation_steps=2)
    large_losses = large.to(3)
    small.order = [np.arange(4) + 4 * (i % 8) for i in range(24)]
    small_losses = small.to(3)
    assert small_losses == pytest.approx(large_losses, abs=1e-5)


def gradient_of(run, order, accumulation):
    run.order = [np.array(indices) for indices in order]
    run.context = run.context.model_copy(update={"gradient_accumulation_steps": accumulation, "max_grad_norm": 1e9})
    run.rows, found = ragged_rows(), []
    run.optimizer.zero_grad = lambda: found.append(
        torch.cat([p.grad.flatten().clone() for p in run.model.parameters() if p.requires_grad])
    )
    losses = run.to(1)
    return losses[0], found[0]


def test_a_batch_in_parts_is_the_batch_however_many_labels_each_has(tmp_path):
    whole, parts = (Run("llama", "lora", tmp_path) for _ in range(2))
    loss, gradient = gradient_of(whole, [[0, 1, 2, 3]], 1)
    same_loss, same_gradient = gradient_of(parts, [[0, 1, 2], [3]], 2)
    assert same_loss == pytest.approx(loss, abs=1e-5)
    assert torch.cosine_similarity(gradient, same_gradient, dim=0) > 0.9999
    assert same_gradient.norm() == pytest.approx(gradient.norm().item(), rel=1e-3)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
def test_what_trains_through_the_models_own_loss_sees_the_positions_that_are_evaluated(architecture, tmp_path):
    """Rows are padded on the left, which models with learned positions would count."""
    run = Run(architecture, "lora", tmp_path)
    rows = run.rows if architecture == "bert" else ragged_rows()
    batch = collate(rows, np.arange(4), 0, run.context.task)
    run.model.eval()
    losses = (training_losses(run.model, batch, run.context.task, through_model_loss=own) for own in (True, False))
    own, plain = (float(loss) for _, loss in losses)
    assert own == pytest.approx(plain, abs=1e-5)


def test_a_loss_of_zero_is_an_overflow_at_the_start_and_where_the_gradient_is_no_number():
    for norm, step in ((0.0, 0), (math.nan, 5), (math.inf, 5)):
        with pytest.raises(Diverged, match=r"0\.0 at step"):
            _check_loss(0.0, norm, step)
    _check_loss(0.0, 1e-9, 5)  # easy rows, late in a run


def test_the_recorded_loss_is_cross_entropy_even_where_the_model_trains_on_more(tmp_path):
    """AdaLoRA adds a regulariser to its own loss (10.8 against 9.1 on a tiny model at the start)."""
    adalora, lora = (Run("llama", name, tmp_path, learning_rate=1e-3) for name in ("adalora", "lora"))
    assert adalora.to(1)[0] == pytest.approx(lora.to(1)[0], abs=1e-4)


def test_a_loss_that_is_no_number_ends_the_run_as_diverged(tmp_path):
    run = Run("llama", "lora", tmp_path)
    with torch.no_grad():
        next(p for p in run.model.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(Diverged, match="nan at step 1"):
        run.to(2)


def test_a_run_in_which_no_gradient_flows_is_ineffective(tmp_path):
    run = Run("llama", "lora", tmp_path)
    for module in run.model.modules():
        if hasattr(module, "scaling") and isinstance(module.scaling, dict):
            module.scaling = dict.fromkeys(module.scaling, 0.0)
    with pytest.raises(Ineffective):
        run.to(1)


def test_in_float16_gradients_too_small_for_it_train_what_they_train_in_float32(tmp_path):
    moved = {}
    for dtype in ("float32", "float16"):
        run = Run("llama", "lora", tmp_path, learning_rate=1e-3, dtype=dtype)
        with torch.no_grad():
            run.model.get_output_embeddings().weight.mul_(1e-3)  # and with it all gradients
        run.to(6)
        moved[dtype] = torch.cat([p.detach().flatten() for n, p in run.model.named_parameters() if "lora_B" in n])
        assert moved[dtype].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(moved["float16"], moved["float32"], dim=0) > 0.99
    assert run.progress.loss_scaler["scale"] == 2**16


def test_a_step_whose_gradients_overflow_is_left_out_by_the_optimizer_and_the_method(tmp_path):
    run = Run("llama", "adalora", tmp_path, dtype="float16")
    before = [p.detach().clone() for p in run.model.parameters() if p.requires_grad]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    run.progress.loss_scaler = scaler.state_dict()
    run.to(1)
    assert run.progress.loss_scaler["scale"] == 2.0**39
    after = [p.detach() for p in run.model.parameters() if p.requires_grad]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not run.model.base_model.rankallocator.ipt  # importances of gradients that are no numbers would stay so
    run.to(12)
    assert run.progress.loss_scaler["scale"] < 2.0**39


def test_what_stays_in_float16_is_not_trained(tmp_path):
    with pytest.raises(Ineffective, match="float16, in which the steps of AdamW are lost"):
        Run("llama", "full", tmp_path, dtype="float16").to(1)


def test_two_runs_with_one_seed_are_the_same_to_the_bit(tmp_path):
    first, second = (Run("llama", "dora", tmp_path).to(6) for _ in range(2))
    assert first == second
