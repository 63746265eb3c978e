"""The known architectures are those of the published models: parameter counts of the model cards are the proof."""

import pytest

from knowledge.models import ALIASES, CONFIGS, known_config, resolve_alias, suggest

PUBLISHED_PARAMETERS = {
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-3-1b-pt": 999_885_952,
    "google/gemma-3-4b-pt": 4_300_079_472,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/phi-4": 14_659_507_200,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "openai-community/gpt2": 124_439_808,
    "google-bert/bert-base-uncased": 109_483_778,  # with a head for two classes
    "google-t5/t5-base": 222_903_552,
}
AUTO_CLASSES = {"bert": "AutoModelForSequenceClassification", "t5": "AutoModelForSeq2SeqLM"}


@pytest.mark.parametrize("repository", PUBLISHED_PARAMETERS)
def test_parameter_count_is_the_published_one(repository):
    import torch
    import transformers

    values = known_config(repository)
    auto_class = getattr(transformers, AUTO_CLASSES.get(values["model_type"], "AutoModelForCausalLM"))
    with torch.device("meta"):
        model = auto_class.from_config(transformers.AutoConfig.for_model(**values))
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED_PARAMETERS[repository]


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_leads_to_known_values(alias):
    assert known_config(alias) is not None
    assert known_config(alias) == known_config(resolve_alias(alias))


def test_aliases_are_found_whatever_their_case_and_nothing_else_is_an_alias():
    assert resolve_alias("Llama") == "meta-llama/Llama-3.2-3B"
    assert resolve_alias("meta-llama/Llama-3.2-3B") is None
    assert known_config("somebody/else") is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("llama3", "meta-llama/Llama-3.2-3B"),
        ("Llama3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct"),
        ("qwen3", "Qwen/Qwen3-4B"),
        ("Qwen3-8B", "Qwen/Qwen3-8B"),
        ("qwen2.5-7b-instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("gemma-3-4b", "google/gemma-3-4b-pt"),
        ("gemma-3-4b-it", "google/gemma-3-4b-it"),
        ("phi-4-mini", "microsoft/Phi-4-mini-instruct"),
        ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M"),
        ("gpt2-xl", "openai-community/gpt2-xl"),
        ("llama-2-7b", None),
    ],
)
def test_the_names_of_well_known_models_are_found_without_their_owner(typed, meant):
    assert resolve_alias(typed) == meant
    assert (known_config(typed) is not None) == (meant is not None)


@pytest.mark.parametrize(
    "tuned", ["meta-llama/Llama-3.2-3B-Instruct", "google/gemma-3-1b-it", "microsoft/Phi-4-mini-instruct"]
)
def test_tuned_variants_share_the_architecture_of_their_base(tuned):
    assert known_config(tuned) is not None


def test_the_caller_cannot_change_what_is_known():
    known_config("llama")["hidden_size"] = 1
    assert CONFIGS["meta-llama/Llama-3.2-3B"]["hidden_size"] == 3072


def test_a_misspelt_alias_is_put_right():
    assert "llama" in suggest("lama")
