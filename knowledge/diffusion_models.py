"""Architecture facts of well-known image generators: what the public config.json of their transformer says.

`_class_name` is the class of diffusers that the values are for. They follow the FLUX.2 reference code
(github.com/black-forest-labs/flux2, src/flux2/model.py: Klein4BParams, Klein9BParams, Flux2Params); the parameter
count of each is checked in tests/knowledge/test_diffusion_models.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _flux2(heads: int, double_layers: int, single_layers: int, text_width: int, **more: Any) -> dict[str, Any]:
    """`text_width`: hidden sizes of the three text encoder layers side by side. What is not named is diffusers'
    default."""
    return {
        "_class_name": "Flux2Transformer2DModel",
        "in_channels": 128,
        "num_layers": double_layers,
        "num_single_layers": single_layers,
        "attention_head_dim": 128,
        "num_attention_heads": heads,
        "joint_attention_dim": text_width,
        "mlp_ratio": 3.0,
        "guidance_embeds": False,
        **more,
    }


CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "black-forest-labs/FLUX.2-klein-4B": _flux2(24, 5, 20, 3 * 2560),
    "black-forest-labs/FLUX.2-klein-base-4B": _flux2(24, 5, 20, 3 * 2560),
    "black-forest-labs/FLUX.2-klein-9B": _flux2(32, 8, 24, 3 * 4096),
    "black-forest-labs/FLUX.2-klein-base-9B": _flux2(32, 8, 24, 3 * 4096),
    "black-forest-labs/FLUX.2-dev": _flux2(48, 8, 48, 3 * 5120, guidance_embeds=True),
}


ALIASES: Mapping[str, str] = {
    "flux2-klein": "black-forest-labs/FLUX.2-klein-base-4B",
    "flux2-klein-9b": "black-forest-labs/FLUX.2-klein-base-9B",
    "flux2": "black-forest-labs/FLUX.2-dev",
}


def known_image_generator(reference: str) -> str | None:
    """The hub id of a well-known image generator by alias or hub id in any case; None for any other model."""
    by_name = {name.lower(): name for name in CONFIGS}
    return ALIASES.get(reference.lower()) or by_name.get(reference.lower())


def known_diffusion_config(reference: str) -> dict[str, Any] | None:
    """The transformer's config.json values of a well-known image generator; None for any other model."""
    name = known_image_generator(reference)
    return dict(CONFIGS[name]) if name is not None else None
