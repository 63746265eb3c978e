"""vLLM itself takes what is said to be served by it: its parser the commands, its loader the adapters.

vLLM brings a PyTorch for CUDA, so it is not in the test environment. Where it is installed, also without its own
dependencies on CUDA (`pip install --no-deps vllm` and what its imports ask for), these tests run on any machine.
"""

from __future__ import annotations

import shlex

import pytest
import torch
from peft import PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer

from advisor.training.serving import VLLM_DEFAULT_RANK, VLLM_RANKS, serve_adapter, serve_model
from knowledge.methods import all_methods
from probes import adapters
from probes.merging import saved_rank
from probes.shape import model_shape
from tests.contracts.test_traps import SERVED_BY_VLLM, train, wrap
from tests.tiny import tiny_batch, tiny_model

peft_helper = pytest.importorskip("vllm.lora.peft_helper", exc_type=ImportError)
# What vLLM serves adapters on in a Llama: models/llama.py, packed_modules_mapping.
LLAMA_LAYERS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
OTHER_LORAS = [
    m
    for m in all_methods().values()
    if m.peft_type == "LORA" and not m.special_purpose and m.capabilities.vllm != "adapter"
]


@pytest.fixture(autouse=True)
def on_a_processor(monkeypatch):
    """The build for CUDA finds no platform where there is no card."""
    from vllm import platforms
    from vllm.lora import lora_model
    from vllm.platforms.cpu import CpuPlatform

    monkeypatch.setattr(platforms, "_current_platform", CpuPlatform())
    monkeypatch.setattr(lora_model, "PIN_MEMORY", False)


def arguments_of(command: str):
    """What vLLM reads in a command; it exits where it cannot."""
    from vllm.entrypoints.common.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    vllm, serve, *words = shlex.split(command)
    assert (vllm, serve) == ("vllm", "serve")
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    validate_parsed_serve_args(parsed)
    return parsed


def saved(name: str, folder):
    """A method after a few steps on the tiny Llama, as it is saved."""
    method = all_methods()[name]
    whole = method.unsupported_reason(model_shape(tiny_model(), "causal-lm")) is None
    method, model = wrap(name, "llama" if whole else "llama-nf4")
    train(model, method, tiny_batch(), method.learning_rates[-1])
    adapters.save_adapter(model, folder)
    return folder


@pytest.mark.parametrize("method", SERVED_BY_VLLM, ids=lambda method: method.name)
def test_an_adapter_that_it_serves_means_there_what_it_means_in_peft(method, tmp_path):
    folder = saved(method.name, tmp_path / "with, comma")
    parsed = arguments_of(serve_adapter("the/base", folder, saved_rank(folder)))
    assert parsed.enable_lora
    assert [(module.name, module.path) for module in parsed.lora_modules] == [("tuned", str(folder))]
    check_served(folder, parsed)


def check_served(folder, parsed):
    """Its loader takes the adapter in `folder`, and the change of each layer is the one in PEFT."""
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel

    helper = peft_helper.PEFTHelper.from_local_dir(folder, None)
    helper.validate_legal(LoRAConfig(max_lora_rank=parsed.max_lora_rank))
    served = LoRAModel.from_local_checkpoint(folder, LLAMA_LAYERS, helper, device="cpu", dtype=torch.float32)
    tuned = PeftModel.from_pretrained(tiny_model(), folder)
    layers = {name: layer for name, layer in tuned.base_model.model.named_modules() if isinstance(layer, LoraLayer)}
    assert set(served.loras) == set(layers)
    for name, layer in layers.items():
        there = served.loras[name].optimize()
        torch.testing.assert_close(there.lora_b @ there.lora_a, layer.get_delta_weight("default"))


@pytest.mark.parametrize("method", OTHER_LORAS, ids=lambda method: method.name)
def test_a_lora_that_it_is_said_not_to_serve_is_refused(method, tmp_path):
    folder = saved(method.name, tmp_path)
    parsed = arguments_of(serve_adapter("the/base", folder, PeftConfig.from_pretrained(folder).r))
    with pytest.raises(ValueError, match="support"):
        check_served(folder, parsed)


def test_ranks_and_models_are_told_as_it_takes_them(tmp_path):
    from typing import get_args

    from vllm.config.lora import LoRAConfig, MaxLoRARanks

    assert set(VLLM_RANKS) <= set(get_args(MaxLoRARanks))
    assert LoRAConfig().max_lora_rank == VLLM_DEFAULT_RANK
    assert arguments_of(serve_model(tmp_path / "merged model")).model_tag == str(tmp_path / "merged model")
    trusting = (serve_model(tmp_path, trusts_code=True), serve_adapter("base", tmp_path, 8, trusts_code=True))
    assert all(arguments_of(command).trust_remote_code for command in trusting)
