"""The catalogue as data: names, settings that fit models of any size, configs that PEFT reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest

from knowledge.errors import BadInput
from knowledge.methods import all_methods, get_method, uncatalogued_peft_types
from knowledge.methods.base import largest_divisor
from knowledge.methods.low_rank import with_rank
from knowledge.shape import ModelShape

METHODS = list(all_methods().values())
by_name = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def decoder(hidden=3072, key_value=1024, mlp=8192, layers=28, **changes) -> ModelShape:
    """A model with the layers of Llama-3.2-3B unless told otherwise."""
    attention, feed_forward = "model.layers.*.self_attn.", "model.layers.*.mlp."
    sizes = {
        attention + "q_proj": ((hidden, hidden),),
        attention + "k_proj": ((hidden, key_value),),
        attention + "v_proj": ((hidden, key_value),),
        attention + "o_proj": ((hidden, hidden),),
        feed_forward + "gate_proj": ((hidden, mlp),),
        feed_forward + "up_proj": ((hidden, mlp),),
        feed_forward + "down_proj": ((mlp, hidden),),
        "lm_head": ((hidden, 128256),),
    }
    norms = ("model.layers.*.input_layernorm", "model.layers.*.post_attention_layernorm", "model.norm")
    facts = {"model_type": "llama", "hidden_size": hidden, "num_layers": layers, "linear_sizes": sizes}
    return ModelShape(**{**facts, "norm_paths": norms, **changes})


def test_the_catalogue_has_what_it_is_known_for():
    expected = (
        "lora lora-all-linear rslora dora lora-fa adalora oft beft lily miss ia3 vera hira shira "
        "prompt-tuning p-tuning prefix-tuning ln-tuning full"
    )
    assert set(expected.split()) <= set(all_methods())


def test_order_is_stable_and_keys_are_names():
    assert [method.name for method in METHODS] == list(all_methods())
    assert list(all_methods()) == list(all_methods())


def test_unknown_name_offers_the_nearest():
    with pytest.raises(BadInput, match="Did you mean 'lora'"):
        get_method("lorra")


def test_reading_the_catalogue_loads_no_torch():
    code = "import sys; from knowledge.methods import all_methods; all_methods(); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@by_name
def test_learning_rates_ascend_over_about_a_decade(method):
    rates = method.learning_rates
    assert list(rates) == sorted(set(rates))
    assert 5 <= rates[-1] / rates[0] <= 30
    assert method.default_learning_rate == rates[len(rates) // 2]


def test_on_narrow_models_what_changes_matrices_is_tried_a_step_further_up():
    lora, ia3, narrow, wide = get_method("lora"), get_method("ia3"), decoder(576, 192), decoder()
    assert lora.learning_rates_for(wide) == lora.learning_rates == (1e-4, 3e-4, 1e-3)
    assert lora.learning_rates_for(narrow) == (3e-4, 1e-3, 3e-3)
    assert (lora.default_learning_rate_for(wide), lora.default_learning_rate_for(narrow)) == (3e-4, 1e-3)
    for same in (ia3, get_method("lily")):
        assert same.learning_rates_for(narrow) == same.learning_rates


@by_name
def test_narrow_rates_overlap_with_the_usual_ones(method):
    rates = method.narrow_learning_rates
    assert list(rates) == sorted(set(rates)) and len(rates) == len(method.learning_rates)
    assert not (method.same_rates_on_narrow and rates != method.learning_rates)
    assert set(method.learning_rates[1:]) <= set(rates)


@by_name
def test_entry_explains_itself(method):
    assert method.name == method.name.lower()
    assert " " not in method.name
    assert 40 < len(method.summary) < 300
    assert method.settings_source
    assert method.paper


@by_name
def test_config_is_plain_json_and_peft_reads_it(method, tmp_path):
    import peft

    config = method.peft_config(decoder(), max_steps=100)
    if config is None:
        assert method.peft_type is None
        return
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    read = peft.PeftConfig.from_pretrained(tmp_path)
    assert read.peft_type == method.peft_type
    for key, value in config.items():
        stored = read.to_dict()[key]
        if isinstance(value, dict):  # a part of its own, whose other settings have defaults
            assert value.items() <= stored.items()
        else:
            assert (sorted(stored) if isinstance(stored, set) else stored) == value, key


@pytest.mark.parametrize("max_steps", [1, 2, 3, 10, 5000])
def test_adalora_leaves_room_to_prune_in_runs_of_any_length(max_steps):
    config = get_method("adalora").peft_config(decoder(), max_steps)
    assert config["tinit"] < config["total_step"] - config["tfinal"]
    assert config["total_step"] == max_steps


def test_adalora_keeps_the_published_schedule_at_the_published_length():
    config = get_method("adalora").peft_config(decoder(), max_steps=5000)
    assert (config["tinit"], config["tfinal"]) == (200, 500)


@pytest.mark.parametrize(("hidden", "key_value"), [(3072, 1024), (576, 192), (64, 32), (48, 16)])
def test_ranks_stay_below_the_layers_they_adapt(hidden, key_value):
    shape = decoder(hidden, key_value, mlp=4 * hidden)
    for name in ("lora", "rslora", "hira", "shira", "vera", "miss"):
        assert get_method(name).peft_config(shape, 100)["r"] <= key_value // 2
    assert get_method("lily").peft_config(shape, 100)["r"] <= hidden // 2


def test_published_ranks_are_kept_where_they_fit():
    assert get_method("lora").peft_config(decoder(), 100)["r"] == 32
    assert get_method("lily").peft_config(decoder(), 100) == {
        "peft_type": "LILY",
        "task_type": "CAUSAL_LM",
        "r": 140,
        "stride_A": 14,
        "num_B": 2,
        "scaling": 8.0,
        "target_modules": ["down_proj", "gate_proj", "up_proj"],
    }


@pytest.mark.parametrize(("use_rslora", "alpha"), [(False, 16), (True, 32)])
def test_a_lower_rank_keeps_the_scaling(use_rslora, alpha):
    config = with_rank({"r": 64, "lora_alpha": 64, "use_rslora": use_rslora}, 16)
    assert (config["r"], config["lora_alpha"]) == (16, alpha)


@pytest.mark.parametrize("hidden", [3072, 576, 896, 100, 17])
def test_oft_blocks_divide_every_input(hidden):
    config = get_method("oft").peft_config(decoder(hidden, key_value=hidden), 100)
    assert hidden % config["r"] == 0


def test_ia3_tells_which_targets_are_feedforward():
    config = get_method("ia3").peft_config(decoder(), 100)
    assert config["feedforward_modules"] == ["down_proj", "gate_proj", "up_proj"]
    assert set(config["feedforward_modules"]) < set(config["target_modules"])


def test_unsupported_reason_names_the_cause():
    conv1d = decoder(conv1d_paths=("model.layers.*.self_attn.q_proj",), model_type="gpt2")
    assert get_method("oft").unsupported_reason(conv1d) == "OFT does not support the Conv1D layers of gpt2"
    assert get_method("lora").unsupported_reason(conv1d) is None
    no_mlp = decoder(linear_sizes={"model.layers.*.self_attn.q_proj": ((64, 64),)})
    assert "q_proj" in get_method("lora-mlp").unsupported_reason(no_mlp)


@pytest.mark.parametrize(("number", "at_most", "expected"), [(3072, 32, 32), (17, 16, 1), (12, 5, 4), (6, 100, 6)])
def test_largest_divisor(number, at_most, expected):
    assert largest_divisor(number, at_most) == expected


def test_every_type_of_the_installed_peft_has_an_entry():
    from peft import PeftType

    assert {str(t.value) for t in PeftType} <= {method.peft_type for method in METHODS}
    assert uncatalogued_peft_types() == ()


def test_a_new_type_of_a_newer_peft_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "peft"
    (package / "utils").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "utils" / "peft_types.py").write_text(
        "import enum\nclass PeftType(str, enum.Enum):\n    '''Types.'''\n    LORA = 'LORA'\n    NEWLORA = 'NEWLORA'\n"
    )
    spec = ModuleSpec("peft", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr("knowledge.methods.find_spec", lambda name: spec)
    assert uncatalogued_peft_types() == ("NEWLORA",)
    (package / "utils" / "peft_types.py").write_text("class PeftType(:")
    assert uncatalogued_peft_types() == ()
    monkeypatch.setattr("knowledge.methods.find_spec", lambda name: None)
    assert uncatalogued_peft_types() == ()


def test_special_purpose_methods_are_never_candidates_and_say_why():
    for method in METHODS:
        reason = method.unsupported_reason(decoder())
        assert (reason is not None and "special purpose" in reason) == (method.special_purpose is not None)


def test_a_missing_package_is_named():
    method = get_method("lora").variant(requires=("no_such_package",))
    assert method.unsupported_reason(decoder()) == "LoRA needs a package that is not installed: no_such_package"


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("c3a", "block_size", 64),
        ("road", "group_size", 64),
        ("vblora", "vector_length", 192),
        ("gralora", "gralora_k", 2),
    ],
)
def test_settings_that_must_divide_layer_sizes_do(name, key, expected):
    assert get_method(name).peft_config(decoder(hidden=576, key_value=192), 100)[key] == expected


def test_last_layers_are_the_last_quarter():
    pattern = get_method("last-layers").peft_config(decoder(layers=28), 100)["target_modules"]
    assert not re.fullmatch(pattern, "model.layers.20.mlp.up_proj")
    assert all(re.fullmatch(pattern, f"model.layers.{layer}.mlp.up_proj") for layer in range(21, 28))
    assert not re.fullmatch(pattern, "model.layers.21.input_layernorm")


def test_bitfit_wants_biases_in_the_layers():
    method = get_method("bitfit")
    assert "have none" in method.unsupported_reason(decoder(bias_paths=("classifier.bias",)))
    assert method.unsupported_reason(decoder(bias_paths=("model.layers.*.self_attn.q_proj.bias",))) is None


def test_other_tools_are_told_which_methods_plain_peft_can_train():
    plain = {method.name for method in METHODS if method.is_plain_peft}
    assert {"lora", "ia3", "prompt-tuning", "last-layers", "adalora"} <= plain
    assert not plain & {"pissa", "eva", "corda", "lora-ga", "delta-lora", "kasa", "full", "bitfit"}
