"""Estimates from end to end, on tiny models: what must change them, and what must not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, GPT2Config, LlamaConfig, T5Config
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from knowledge.schema import PlannedRun
from probes.batching import batch_order
from probes.data.rows import TokenRows
from probes.memory import NotEstimable, cache, estimate_peak
from probes.memory.batches import ONE_LENGTH, first_batches, lengths_to_trace, plan_batches, row_lengths
from probes.memory.cuda_choices import cuda_choices
from probes.memory.template import OrderDependsOnLength, RawStep, build_steps

LORA = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj", "v_proj"]}
MIB = 1 << 20


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_in_memory", {})
    return tmp_path


def llama(**changes):
    sizes = {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "pad_token_id": 0}
    return LlamaConfig(**(sizes | heads | changes))


def planned(**changes):
    return PlannedRun(**{"max_steps": 50, "batch_size": 8, "max_length_tokens": 256, **changes})


def peak(peft_config=LORA, config=None, optimizer="torch.optim:AdamW", lengths=None, **changes):
    return estimate_peak(
        config or llama(), peft_config, planned(**changes), optimizer=optimizer, lengths_tokens=lengths
    )


def test_the_breakdown_adds_up_to_the_peak_and_the_range_holds_it():
    estimate = peak()
    assert sum(estimate.breakdown.values()) == estimate.peak_bytes
    assert estimate.low_bytes <= estimate.peak_bytes <= estimate.high_bytes
    assert set(estimate.breakdown) == {
        *("weights", "adapter", "gradients", "optimizer", "activations", "logits", "overhead")
    }


def test_a_text_to_classify_may_be_a_single_token():
    tokens, trained = np.array([5, 5, 6, 5, 6], np.int32), np.array([0, 0, 0, 0, 1], bool)
    rows = TokenRows(tokens, trained, np.array([0, 1, 3, 5]))
    assert row_lengths(rows, "sequence-classification") == [(1, 0), (2, 1), (2, 1)]


def test_weights_adapter_and_optimizer_are_counted_exactly():
    config = llama(tie_word_embeddings=True)
    kv = 128
    per_layer = 256 * 256 * 2 + 2 * 256 * kv + 3 * 256 * 704 + 2 * 256
    weights = 4096 * 256 + 3 * per_layer + 256
    adapter = 3 * (8 * (256 + 256) + 8 * (256 + kv))
    found = peak(config=config).breakdown
    assert found["weights"] == pytest.approx(2 * weights, abs=1024)  # bf16; beside them only the rotary frequencies
    assert found["adapter"] == 4 * adapter  # fp32
    assert found["optimizer"] == 2 * 4 * adapter


def test_what_peft_leaves_in_half_precision_trains_in_float32_as_probes_do():
    found = peak({"peft_type": "LN_TUNING", "target_modules": ["q_proj"]}).breakdown  # copies of the base's weights
    assert found["adapter"] == 4 * 3 * 256 * 256
    assert found["optimizer"] == 2 * found["adapter"]


def test_full_fine_tuning_holds_two_moments_per_weight():
    everything = peak(None).breakdown
    assert everything["optimizer"] == pytest.approx(2 * everything["weights"], rel=0.01)


def test_checkpointing_batch_and_length_change_activations_as_they_should():
    usual = peak().breakdown["activations"]
    assert peak(gradient_checkpointing=True).breakdown["activations"] < usual / 2
    assert peak(batch_size=16).breakdown["activations"] == pytest.approx(2 * usual, rel=0.1)
    assert peak(max_length_tokens=512).breakdown["activations"] > 1.9 * usual


def test_accumulated_gradients_are_there_while_the_next_batch_runs():
    assert peak(None, gradient_accumulation_steps=4).breakdown["gradients"] > peak(None).breakdown["gradients"]
    assert peak(gradient_accumulation_steps=2).peak_bytes == peak(gradient_accumulation_steps=8).peak_bytes


def test_quantised_weights_are_as_large_as_bitsandbytes_makes_them():
    config = llama(tie_word_embeddings=False)
    linear = 3 * (256 * 256 * 2 + 2 * 256 * 128 + 3 * 256 * 704)
    rest = 2 * (2 * 4096 * 256 + 7 * 256)  # embeddings, head and norms stay in bf16
    full, nf4, int8 = (peak(config=config, quantization=q).breakdown["weights"] for q in ("none", "nf4", "int8"))
    assert full == pytest.approx(rest + 2 * linear, rel=0.001)
    assert nf4 == pytest.approx(rest + linear / 2 + linear / 64 + 4 * linear / 64 / 256, rel=0.02)
    assert int8 == pytest.approx(rest + linear, rel=0.02)


@pytest.mark.parametrize(
    ("optimizer", "bytes_per_weight"),
    [("torch.optim:SGD", 0.0), ("bitsandbytes.optim:AdamW8bit", 2.03), ("bitsandbytes.optim:AdamW", 8.0)],
)
def test_optimizers_keep_what_their_states_take(optimizer, bytes_per_weight):
    found = peak(None, optimizer=optimizer).breakdown
    assert found["optimizer"] == pytest.approx(bytes_per_weight * found["weights"] / 2, rel=0.05, abs=64 * 1024)


def test_paged_optimizers_keep_large_states_off_the_device():
    paged = peak(None, optimizer="bitsandbytes.optim:PagedAdamW8bit").breakdown["optimizer"]
    assert paged < peak(None, optimizer="bitsandbytes.optim:AdamW8bit").breakdown["optimizer"] / 5


def test_labels_on_few_positions_need_few_logits():
    rows = [(200 + i % 50, 20) for i in range(64)]
    few = peak(lengths=rows)
    all_positions = peak(lengths=[length for length, _ in rows])
    assert few.breakdown["logits"] < all_positions.breakdown["logits"] / 5


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_answers_of_a_token_or_two_can_be_estimated(labels):
    rows = [(20 + i % 5, 1 + i % labels) for i in range(64)]
    few, many = peak(lengths=rows), peak(lengths=[(length, 15) for length, _ in rows])
    segment_bytes = 2 * 2**20  # the allocator's unit: which sizes follow each other decides over one more or less
    assert 0 < few.peak_bytes <= many.peak_bytes + segment_bytes
    assert few.breakdown["logits"] < many.breakdown["logits"]


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (
            BertConfig(
                vocab_size=512, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
            ),
            {"task": "sequence-classification"},
        ),
        (T5Config(vocab_size=512, d_model=64, d_ff=128, d_kv=16, num_layers=2, num_heads=4), {"task": "seq2seq-lm"}),
        (GPT2Config(vocab_size=512, n_embd=64, n_layer=2, n_head=4), {"task": "causal-lm"}),
    ],
    ids=["classifier", "encoder-decoder", "gpt2"],
)
def test_other_kinds_of_models_are_estimated_too(config, settings):
    config.decoder_start_token_id = config.pad_token_id = 0
    target = {"bert": "query", "t5": "q", "gpt2": "c_attn"}[config.model_type]
    lora = {"peft_type": "LORA", "target_modules": [target]}
    estimate = peak(lora, config, **settings)
    assert estimate.breakdown["activations"] > 0
    if config.model_type == "t5":
        pairs = peak(
            {"peft_type": "LORA", "target_modules": [target]}, config, lengths=[(200, 40), (100, 90)], **settings
        )
        assert pairs.peak_bytes <= estimate.high_bytes


METHODS_WITHOUT_META = {
    "SHIRA": {"r": 4, "target_modules": ["q_proj"]},
    "VBLORA": {"r": 4, "num_vectors": 16, "vector_length": 64, "target_modules": ["q_proj"]},
    "UNILORA": {"r": 4, "target_modules": ["q_proj"]},
    "WAVEFT": {"n_frequency": 64, "target_modules": ["q_proj"]},
    "ADAMSS": {"r": 8, "num_subspaces": 4, "subspace_rank": 1, "target_modules": ["q_proj"]},
    "BOFT": {"boft_block_size": 4, "target_modules": ["q_proj"]},
}


@pytest.mark.parametrize("peft_type", METHODS_WITHOUT_META)
def test_methods_that_need_data_at_the_start_are_built_another_way(peft_type):
    settings = METHODS_WITHOUT_META[peft_type]
    estimate = peak({"peft_type": peft_type, **settings}, llama(hidden_size=128, intermediate_size=256))
    assert estimate.breakdown["adapter"] > 0


def test_what_cannot_be_followed_says_so_instead_of_guessing():
    with pytest.raises(NotEstimable, match="no_such_module"):
        peak({"peft_type": "LORA", "target_modules": ["no_such_module"]})


def test_nothing_global_is_left_changed():
    before = (F.scaled_dot_product_attention, torch.sparse_coo_tensor, torch.Tensor.to_dense, torch.get_default_dtype())
    masks = dict(ALL_MASK_ATTENTION_FUNCTIONS.items())
    state = torch.get_rng_state()
    peak()
    with pytest.raises(ZeroDivisionError), cuda_choices(padded=True):
        assert F.scaled_dot_product_attention is not before[0]
        1 / 0  # noqa: B018
    after = (F.scaled_dot_product_attention, torch.sparse_coo_tensor, torch.Tensor.to_dense, torch.get_default_dtype())
    assert after == before
    assert dict(ALL_MASK_ATTENTION_FUNCTIONS.items()) == masks
    assert torch.equal(torch.get_rng_state(), state)
    assert "_nnz" not in vars(torch.Tensor)


def forget_estimates(folder, monkeypatch):
    """Leaves of what was worked out the traces on disk alone."""
    monkeypatch.setattr(cache, "_in_memory", {})
    for path in folder.rglob("*.json"):
        path.unlink()


def test_an_equal_run_is_traced_once_and_read_back_from_disk(own_cache, monkeypatch):
    first = peak()
    assert len(list(own_cache.rglob("*.npz"))) == 1
    forget_estimates(own_cache, monkeypatch)
    monkeypatch.setattr("probes.memory.estimate.trace_training", lambda *args, **kwargs: pytest.fail("traced again"))
    assert peak() == first


def test_a_damaged_cache_file_is_traced_again(own_cache, monkeypatch):
    first = peak()
    next(own_cache.rglob("*.npz")).write_bytes(b"PK damaged")
    forget_estimates(own_cache, monkeypatch)
    assert peak() == first


def raw_step(length, first_number, sizes, order):
    return RawStep((length, 0), first_number, np.array(order), np.array(sizes), np.zeros(len(sizes), dtype=np.int8))


def test_sizes_at_other_lengths_are_exact_quadratics():
    steps = [
        raw_step(n, 10 * i, [3 * n * n + 5, 7 * n, 512], [10 * i, 10 * i + 1, ~(10 * i), 10 * i + 2])
        for i, n in enumerate((64, 64, 96, 128))
    ]
    template = build_steps(steps, ONE_LENGTH)
    assert template[2].sizes(ONE_LENGTH, (1000, 0)).tolist() == [3_000_005, 7000, 512]


def test_steps_that_differ_in_more_than_size_are_no_template():
    steps = [raw_step(n, 10 * i, [n], [10 * i]) for i, n in enumerate((64, 64, 96, 128))]
    steps[3] = raw_step(128, 30, [128], [30, ~30])
    with pytest.raises(OrderDependsOnLength):
        build_steps(steps, ONE_LENGTH)


def test_of_a_probe_of_thousands_of_steps_the_first_batches_and_the_longest_are_replayed():
    """All of them would take minutes after the end of the budget, and the peak would be the same."""
    rows = np.minimum(np.stack([np.arange(2, 402)] * 2, axis=1), [256, 255])
    whole = batch_order(rows[:, 0], planned().batch_size, 5000, 0)
    replayed = first_batches(planned(), rows, 5000).all
    assert len(replayed) < 30
    assert replayed[:12] == tuple(tuple(rows[batch].max(axis=0).tolist()) for batch in whole[:12])
    assert max(replayed) == (256, 255)
    assert len(first_batches(planned(), rows, 5).all) == 5


def test_batches_are_those_of_training_and_end_with_the_longest():
    plan = plan_batches(planned(), [10] * 500 + [250])
    assert plan.longest == (250, 249)
    assert all((250, 249) in passages.all for passages in plan.passages)
    lengths = lengths_to_trace(plan, "causal-lm")
    assert lengths[0] == lengths[1]
    assert len(set(lengths)) == 3


def test_a_long_answer_is_dearer_than_the_longest_row():
    """Logits of a vocabulary of 64,000 cost more than all else of a token."""
    config = llama(vocab_size=64_000)
    ordinary = [(200, 4)] * 500
    mixed = peak(config=config, lengths=[*ordinary, (210, 4), (150, 140)])
    needed = peak(config=config, lengths=[(200, 140)] * 8)
    assert mixed.low_bytes >= 0.98 * needed.low_bytes
    assert mixed.high_bytes >= needed.low_bytes > 1.2 * peak(config=config, lengths=[*ordinary, (210, 4)]).high_bytes
    assert mixed.breakdown["logits"] == needed.breakdown["logits"]


def test_rows_of_pairs_are_ordered_by_source_and_target_as_in_training():
    rows = np.stack([np.arange(2, 202), np.arange(201, 1, -1) * 2], axis=1)
    run = planned(task="seq2seq-lm", batch_size=4, max_length_tokens=512)
    order = batch_order(rows.sum(axis=1), 4, 10, run.seed)
    assert first_batches(run, rows, 10).first == tuple(tuple(rows[batch].max(axis=0).tolist()) for batch in order)


def test_rows_longer_than_the_limit_count_as_cut():
    assert plan_batches(planned(max_length_tokens=128), [4000]).longest == (128, 127)


def test_row_lengths_reach_from_the_first_trained_token_to_the_end():
    from probes.data.rows import TokenRows

    rows = TokenRows.build([([1, 2, 3, 4, 5], [False, False, False, True, True]), ([1, 2], [True, True])])
    assert row_lengths(rows, "causal-lm") == [(5, 2), (2, 1)]
    assert row_lengths(rows, "seq2seq-lm") == [(3, 2), (0, 2)]


@pytest.mark.parametrize("first_reallocation", [0, 40])
def test_ranks_that_are_chosen_early_in_the_run_change_nothing(first_reallocation):
    settings = {"init_r": 8, "target_r": 4, "total_step": 100, "tfinal": 10, "tinit": first_reallocation}
    adalora = {"peft_type": "ADALORA", "target_modules": ["q_proj"], **settings}
    assert peak(adalora, max_steps=100).peak_bytes == peak(adalora | {"tinit": 50}, max_steps=100).peak_bytes


def seeing_model():
    from transformers import Gemma3Config

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 256, "num_hidden_layers": 3, "num_key_value_heads": 1, "head_dim": 16}
    vision = {**sizes, "num_hidden_layers": 2, "image_size": 28, "patch_size": 14}
    tokens = {"mm_tokens_per_image": 1, "image_token_index": 5, "boi_token_index": 6, "eoi_token_index": 7}
    return Gemma3Config(text_config=text, vision_config=vision, **tokens)


@pytest.mark.parametrize("name", ["lora", "adalora", "osf", "frod", "ln-tuning"])
def test_of_a_model_that_sees_too_what_reads_text_is_adapted(name):
    """AdaLoRA asks every adapter for a gradient, and FRoD's dry run builds one layer of each stack."""
    from knowledge.methods import get_method
    from probes.memory.build import build_base
    from probes.shape import model_shape

    config, method, run = seeing_model(), get_method(name), planned(max_length_tokens=64, batch_size=2)
    made = method.peft_config(model_shape(build_base(config, run), "causal-lm"), 50)
    found = estimate_peak(config, made, run, optimizer=method.optimizer)
    text_only = config.get_text_config()
    alone = estimate_peak(text_only, method.peft_config(model_shape(build_base(text_only, run), "causal-lm"), 50), run)
    assert found.breakdown["adapter"] == alone.breakdown["adapter"] > 0
    assert found.breakdown["weights"] > alone.breakdown["weights"]
