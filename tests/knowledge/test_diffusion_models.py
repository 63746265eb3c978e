"""The known architectures are those of the published models."""

import pytest

from knowledge.diffusion_models import CONFIGS, known_diffusion_config
from knowledge.schema import PlannedRun

# The 4B model to the parameter, as PEFT's published runs count it; the others to the size in their names.
EXACT_PARAMETERS = {
    "black-forest-labs/FLUX.2-klein-4B": 3_875_544_576,
    "black-forest-labs/FLUX.2-klein-base-4B": 3_875_544_576,
}
BILLIONS = {
    "black-forest-labs/FLUX.2-klein-9B": 9,
    "black-forest-labs/FLUX.2-klein-base-9B": 9,
    "black-forest-labs/FLUX.2-dev": 32,
}


@pytest.mark.parametrize("repository", CONFIGS)
def test_parameter_count_is_the_published_one(repository):
    pytest.importorskip("diffusers")
    from probes.memory.bases import build_base

    model = build_base(known_diffusion_config(repository), PlannedRun(task="text-to-image", max_steps=1))
    parameters = sum(p.numel() for p in model.parameters())
    if repository in EXACT_PARAMETERS:
        assert parameters == EXACT_PARAMETERS[repository]
    else:
        assert parameters == pytest.approx(BILLIONS[repository] * 1e9, rel=0.02)


def test_names_are_found_in_any_case_and_others_are_unknown():
    assert known_diffusion_config("Black-Forest-Labs/flux.2-KLEIN-base-4b") is not None
    assert known_diffusion_config("meta-llama/Llama-3.2-3B") is None


def test_what_is_handed_out_can_be_changed_without_changing_what_is_known():
    values = known_diffusion_config("black-forest-labs/FLUX.2-dev")
    values["num_layers"] = 1
    assert known_diffusion_config("black-forest-labs/FLUX.2-dev")["num_layers"] == 8
