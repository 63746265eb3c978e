"""The dry run is the real step: what it allocates on meta is what the loop of probes.training allocates on the CPU."""

import gc

import numpy as np
import pytest
import torch

from knowledge.schema import PlannedRun
from probes.adapters import after_optimizer_step
from probes.data.rows import TokenRows
from probes.memory.build import load_peft_config, ways_to_build
from probes.memory.loop import advisor_loop
from probes.memory.optimizers import make_optimizer
from probes.memory.trace import watch_persistent
from probes.memory.tracer import AllocationTracer
from probes.schema import ProbeContext, Schedule
from probes.training import Progress, train

SHARED = {"task": "causal-lm", "batch_size": 4, "dtype": "float32"}
RUN = PlannedRun(max_steps=3, max_length_tokens=96, **SHARED)
LENGTHS = [(96, 95), (64, 40), (96, 95)]
ATTENTION = ["q_proj", "v_proj"]
METHODS = {
    "lora": {"peft_type": "LORA", "r": 16, "target_modules": ATTENTION},
    "dora": {"peft_type": "LORA", "r": 16, "target_modules": ATTENTION, "use_dora": True},
    "lora on all": {"peft_type": "LORA", "r": 8, "target_modules": "all-linear"},
    "ia3": {
        "peft_type": "IA3",
        "target_modules": ["k_proj", "v_proj", "down_proj"],
        "feedforward_modules": ["down_proj"],
    },
    "loha": {"peft_type": "LOHA", "r": 8, "target_modules": ATTENTION},
    "lokr": {"peft_type": "LOKR", "r": 8, "target_modules": ATTENTION},
    "miss": {"peft_type": "MISS", "r": 16, "target_modules": ATTENTION},
    "hra": {"peft_type": "HRA", "r": 8, "target_modules": ATTENTION},
    "oft": {"peft_type": "OFT", "r": 0, "oft_block_size": 32, "target_modules": ATTENTION},
    "vera": {"peft_type": "VERA", "r": 32, "target_modules": ATTENTION},
    "prompt tuning": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 16},
    "prefix tuning": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 16},
    "adalora": {"peft_type": "ADALORA", "init_r": 12, "total_step": 50, "target_modules": ATTENTION},
    "layer norms": {"peft_type": "LN_TUNING", "target_modules": ["input_layernorm", "norm"]},
    "full": None,
}


SIZES = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "attn_implementation": "eager",
}


@pytest.fixture(scope="module")
def config():
    from transformers import LlamaConfig

    return LlamaConfig(**SIZES)


def live_peak(model, device, watch, steps):
    """The most bytes live at once while three steps run; `watch` says what is there from the beginning, and
    `steps(optimizer, tracer)` trains."""
    tracer = AllocationTracer(device)
    watch(tracer)
    optimizer = make_optimizer(model, "torch.optim:AdamW", {"foreach": False})
    gc.collect()
    with tracer:
        for _ in steps(optimizer, tracer):
            pass
    return tracer.peak_live_bytes


def steps_of_a_probe(model, optimizer, *, through_model_loss):
    """Those of probes.training, with rows of LENGTHS."""
    rows = TokenRows.build(
        ([5] * tokens, [False] * (tokens - labels) + [True] * labels) for tokens, labels in LENGTHS for _ in range(4)
    )
    order = np.arange(len(rows)).reshape(-1, RUN.batch_size)
    context = ProbeContext(
        model_reference="", data_folder="", work_folder="", eval_rows=1, metric_name="exact match", **SHARED
    )
    return train(
        model,
        optimizer,
        Schedule(shape="constant", total_steps=len(order)),
        rows,
        order,
        context,
        progress=Progress(),
        stop_step=len(order),
        eval_steps=(),
        evaluate=None,
        after_step=lambda step: after_optimizer_step(model, 0),
        through_model_loss=through_model_loss,
        pad_token_id=0,
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_dry_run_allocates_what_a_real_step_on_the_cpu_does(name, config):
    predicted, measured = predicted_and_measured(name, config)
    assert predicted == pytest.approx(measured, rel=0.001)


@pytest.mark.parametrize("name", ["lora", "full"])
def test_so_it_does_of_a_mixture_of_experts(name):
    from transformers import MixtralConfig

    config = MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)
    predicted, measured = predicted_and_measured(name, config)
    assert predicted == pytest.approx(measured, rel=0.001)


def predicted_and_measured(name, config):
    """The most live bytes of three steps, on meta and on the CPU."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    built = ways_to_build(config, METHODS[name], RUN)[0]()

    def steps_on_meta(optimizer, tracer):
        return advisor_loop(built.model, optimizer, iter(LENGTHS), RUN, tracer)

    predicted = live_peak(built.model, "meta", lambda tracer: watch_persistent(tracer, built), steps_on_meta)

    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if METHODS[name] is not None:
        model = get_peft_model(model, load_peft_config(METHODS[name], RUN)[0])
    measured = live_peak(
        model,
        "cpu",
        lambda tracer: [tracer.watch(t) for t in (*model.parameters(), *model.buffers())],
        lambda optimizer, _: steps_of_a_probe(model, optimizer, through_model_loss=name == "adalora"),
    )
    return predicted, measured
