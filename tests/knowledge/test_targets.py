"""Target roles resolve to the right modules on the architectures people fine-tune, and to those only."""

from __future__ import annotations

import re

import pytest
import torch
import transformers

from knowledge.errors import BadInput
from knowledge.targets import join_names, target_modules, target_paths
from probes.shape import model_shape

_DECODER = {"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
_LLAMA = {**_DECODER, "intermediate_size": 128, "num_key_value_heads": 2}
_BERT = {**_DECODER, "intermediate_size": 128}
_GPT = {"vocab_size": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}
_BART = {"vocab_size": 64, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "pad_token_id": 0}

CAUSAL, SEQ2SEQ, CLASSIFICATION = "causal-lm", "seq2seq-lm", "sequence-classification"
_QKVO = ["k_proj", "o_proj", "q_proj", "v_proj"]
_GATED = ["down_proj", "gate_proj", "up_proj"]
_BERT_MLP = {"intermediate.dense", "layer.0.output.dense"}

# model class, config, task, then the expected names: attention-qv, attention-v, attention, mlp
CASES = {
    "llama": ("LlamaForCausalLM", _LLAMA, CAUSAL, ["q_proj", "v_proj"], ["v_proj"], _QKVO, _GATED),
    "qwen2": ("Qwen2ForCausalLM", _LLAMA, CAUSAL, ["q_proj", "v_proj"], ["v_proj"], _QKVO, _GATED),
    "gemma2": ("Gemma2ForCausalLM", _LLAMA, CAUSAL, ["q_proj", "v_proj"], ["v_proj"], _QKVO, _GATED),
    "gemma3": ("Gemma3ForCausalLM", _LLAMA, CAUSAL, ["q_proj", "v_proj"], ["v_proj"], _QKVO, _GATED),
    "phi3": ("Phi3ForCausalLM", _LLAMA, CAUSAL, ["qkv_proj"], ["qkv_proj"], ["o_proj", "qkv_proj"],
             ["down_proj", "gate_up_proj"]),
    "phi": ("PhiForCausalLM", _BERT, CAUSAL, ["q_proj", "v_proj"], ["v_proj"],
            ["dense", "k_proj", "q_proj", "v_proj"], ["fc1", "fc2"]),
    "falcon": ("FalconForCausalLM", _DECODER, CAUSAL, ["query_key_value"], ["query_key_value"],
               ["dense", "query_key_value"], ["dense_4h_to_h", "dense_h_to_4h"]),
    "gpt2": ("GPT2LMHeadModel", _GPT, CAUSAL, ["c_attn"], ["c_attn"], ["attn.c_proj", "c_attn"],
             ["c_fc", "mlp.c_proj"]),
    "gptj": ("GPTJForCausalLM", {**_GPT, "rotary_dim": 8}, CAUSAL, ["q_proj", "v_proj"], ["v_proj"],
             ["k_proj", "out_proj", "q_proj", "v_proj"], ["fc_in", "fc_out"]),
    "gpt-neox": ("GPTNeoXForCausalLM", _BERT, CAUSAL, ["query_key_value"], ["query_key_value"],
                 ["dense", "query_key_value"], ["dense_4h_to_h", "dense_h_to_4h"]),
    "opt": ("OPTForCausalLM", {**_DECODER, "ffn_dim": 128, "word_embed_proj_dim": 64}, CAUSAL, ["q_proj", "v_proj"],
            ["v_proj"], ["k_proj", "out_proj", "q_proj", "v_proj"], ["fc1", "fc2"]),
    "qwen2-moe": ("Qwen2MoeForCausalLM", {**_LLAMA, "num_experts": 2, "moe_intermediate_size": 32}, CAUSAL,
                  ["q_proj", "v_proj"], ["v_proj"], _QKVO, _GATED),
    "mixtral": ("MixtralForCausalLM", {**_LLAMA, "num_local_experts": 2}, CAUSAL, ["q_proj", "v_proj"], ["v_proj"],
                _QKVO, None),
    "deepseek-v3": ("DeepseekV3ForCausalLM", {**_LLAMA, "q_lora_rank": 16, "kv_lora_rank": 16, "n_routed_experts": 4,
                    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2}, CAUSAL,
                    ["kv_b_proj", "q_a_proj", "q_b_proj"], ["kv_b_proj"],
                    ["kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "q_a_proj", "q_b_proj"], _GATED),
    "t5": ("T5ForConditionalGeneration", {"vocab_size": 64, "d_model": 64, "d_ff": 128, "num_layers": 2,
           "num_heads": 4, "d_kv": 16}, SEQ2SEQ, ["q", "v"], ["v"], ["k", "o", "q", "v"], ["wi", "wo"]),
    "bart": ("BartForConditionalGeneration", _BART, SEQ2SEQ, ["q_proj", "v_proj"], ["v_proj"],
             ["k_proj", "out_proj", "q_proj", "v_proj"], ["fc1", "fc2"]),
    "bert": ("BertForSequenceClassification", _BERT, CLASSIFICATION, ["query", "value"], ["value"],
             ["attention.output.dense", "key", "query", "value"], _BERT_MLP),
    "roberta": ("RobertaForSequenceClassification", _BERT, CLASSIFICATION, ["query", "value"], ["value"],
                ["attention.output.dense", "key", "query", "value"], _BERT_MLP),
    "deberta-v2": ("DebertaV2ForSequenceClassification", _BERT, CLASSIFICATION, ["query_proj", "value_proj"],
                   ["value_proj"], ["attention.output.dense", "key_proj", "query_proj", "value_proj"], _BERT_MLP),
    "distilbert": ("DistilBertForSequenceClassification", {"vocab_size": 64, "dim": 64, "hidden_dim": 128,
                   "n_layers": 2, "n_heads": 4}, CLASSIFICATION, ["q_lin", "v_lin"], ["v_lin"],
                   ["k_lin", "out_lin", "q_lin", "v_lin"], ["lin1", "lin2"]),
}  # fmt: skip


def meta_model(name):
    class_name, settings, *_ = CASES[name]
    model_class = getattr(transformers, class_name)
    with torch.device("meta"):
        return model_class(model_class.config_class(**settings))


def shape_of(name):
    return model_shape(meta_model(name), CASES[name][2])


@pytest.mark.parametrize("name", CASES)
def test_roles_resolve_on_known_architectures(name):
    shape = shape_of(name)
    for role, expected in zip(("attention-qv", "attention-v", "attention", "mlp"), CASES[name][3:], strict=True):
        if expected is None:
            with pytest.raises(BadInput, match=r"No modules for the targets 'mlp' in a mixtral model.*q_proj"):
                target_modules(shape, role)
        elif isinstance(expected, set):  # ambiguous endings: a regular expression that matches these and no others
            pattern = target_modules(shape, role)
            names = [n for n, m in meta_model(name).named_modules() if isinstance(m, torch.nn.Linear)]
            matched = {n for n in names if re.fullmatch(pattern, n)}
            assert all(any(n.endswith(e.replace("0", n.split("layer.")[1][0])) for e in expected) for n in matched)
            assert len(matched) == 2 * 2  # two layers of two modules
        else:
            assert target_modules(shape, role) == expected, role


@pytest.mark.parametrize("name", CASES)
def test_endings_match_what_was_selected_and_nothing_else(name):
    """Applies PEFT's own matching rule to every module of the model."""
    shape, model = shape_of(name), meta_model(name)
    for role in ("attention-qv", "attention", "all-linear", "norms"):
        expression, wanted = target_modules(shape, role), set(target_paths(shape, role))
        for module_name, module in model.named_modules():
            path = ".".join("*" if part.isdigit() else part for part in module_name.split("."))
            matches = (
                re.fullmatch(expression, module_name) is not None
                if isinstance(expression, str)
                else any(module_name == e or module_name.endswith(f".{e}") for e in expression)
            )
            assert matches == (path in wanted), (role, module_name, type(module).__name__)


@pytest.mark.parametrize("name", CASES)
def test_heads_poolers_and_routers_are_never_adapted(name):
    forbidden = re.compile(r"lm_head|classifier|score|pooler|router|shared_expert_gate|\.gate$")
    for role in ("attention", "all-linear"):
        assert not [path for path in target_paths(shape_of(name), role) if forbidden.search(path)]


def test_no_targets_are_no_modules():
    assert target_paths(shape_of("llama"), "none") == ()


@pytest.mark.parametrize("name", CASES)
def test_all_linear_covers_attention_and_mlp(name):
    shape = shape_of(name)
    covered = set(target_paths(shape, "all-linear"))
    assert set(target_paths(shape, "attention")) <= covered
    if CASES[name][6] is not None:
        assert set(target_paths(shape, "attention+mlp")) == covered


def test_joining_lists_and_expressions():
    assert join_names(["b", "a"], ["c", "a"]) == ["a", "b", "c"]
    joined = join_names(["q"], r"layer\.\d+\.output\.dense")
    assert re.fullmatch(joined, "model.layer.3.q")
    assert re.fullmatch(joined, "layer.3.output.dense")
    assert not re.fullmatch(joined, "model.layer.3.k")
