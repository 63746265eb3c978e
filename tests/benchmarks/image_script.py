"""The training script of the PEFT method comparison for image generation, as far as it decides memory.

Read off `method_comparison/image-gen/run.py` and `utils.py` in PEFT's repository: which models are on the device
while the transformer trains, which tensors live how long, when the cache is emptied. The published maximum is that of
the training alone: the script's README says so, and the text encoder, which is on the device while prompts are
encoded, would not fit into most of the published figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from knowledge.schema import PlannedRun
from probes.memory.kinds import Kind
from probes.memory.template import Length
from probes.memory.tracer import AllocationTracer
from tests.benchmarks.comparison_script import update

EMPTY_CACHE_EVERY = 25  # ACCELERATOR_EMPTY_CACHE_SCHEDULE; evaluations come every 100 steps, right before it
PIXELS_PER_TOKEN = 16  # the VAE makes one latent of 8 x 8 pixels, the transformer one token of 2 x 2 latents
ID_AXES = 4  # positions are given as (time, height, width, sequence)

# Qwen3-4B encodes one prompt at a time, and makes logits for every token of it.
TEXT_VOCABULARY = 151936


def batch_length(resolution: int, text_tokens: int) -> Length:
    """Tokens of a square image and of its prompt; all batches have the same."""
    return (resolution // PIXELS_PER_TOKEN) ** 2, text_tokens


def image_loop(
    model: Any, optimizer: Any, lengths: Iterator[Length], run: PlannedRun, tracer: AllocationTracer
) -> Iterator[None]:
    """The body of its training loop; a length is (image tokens, text tokens). All names live until they are bound
    anew, in the next step; every loss lives to the end."""
    losses = []
    model.train()
    for step, length in enumerate(lengths):
        tracer.phase = Kind.ACTIVATIONS
        latents, prompt_embeds, text_ids, latent_ids = _batch(model.config, length, run)
        noise = torch.randn_like(latents)
        timesteps = torch.zeros(run.batch_size, device="meta")
        sigmas = torch.zeros(run.batch_size, 1, 1, 1, dtype=latents.dtype, device="meta")
        noisy_latents = (1.0 - sigmas) * latents + sigmas * noise
        packed = noisy_latents.reshape(*latents.shape[:2], -1).permute(0, 2, 1)
        optimizer.zero_grad(set_to_none=True)
        prediction = model(
            hidden_states=packed,
            timestep=timesteps / 1000,
            guidance=None,
            encoder_hidden_states=prompt_embeds,
            txt_ids=text_ids,
            img_ids=latent_ids,
            return_dict=False,
        )[0]
        prediction = _unpack(prediction[:, : packed.shape[1]], latent_ids, latents.shape[-1])
        weighting = torch.ones_like(sigmas)
        target = noise - latents
        loss = torch.mean(
            (weighting.float() * (prediction.float() - target.float()) ** 2).reshape(target.shape[0], -1), 1
        )
        loss = loss.mean()
        update(model, optimizer, loss, run, tracer, step)
        losses.append(loss)
        yield


def _batch(config: Mapping[str, Any], length: Length, run: PlannedRun) -> tuple[torch.Tensor, ...]:
    """What index_select takes out of the caches, latents [rows, C, H, W] and encoded prompts [rows, tokens, width],
    and the positions of text and image tokens."""
    image_tokens, text_tokens = length
    rows, side, dtype = run.batch_size, math.isqrt(image_tokens), getattr(torch, run.dtype)
    with torch.device("meta"):
        return (
            torch.empty(rows, config["in_channels"], side, side, dtype=dtype),
            torch.empty(rows, text_tokens, config["joint_attention_dim"], dtype=dtype),
            torch.zeros(rows, text_tokens, ID_AXES, dtype=torch.long),
            torch.zeros(rows, image_tokens, ID_AXES, dtype=torch.long),
        )


def _unpack(tokens: torch.Tensor, ids: torch.Tensor, side: int) -> torch.Tensor:
    """Flux2KleinPipeline._unpack_latents_with_ids: each row's tokens are scattered to their places, [rows, C, H, W]."""
    rows = []
    for data, position in zip(tokens, ids, strict=True):
        height, width = position[:, 1].to(torch.int64), position[:, 2].to(torch.int64)
        flat = height * side + width
        image = torch.zeros((side * side, data.shape[-1]), dtype=data.dtype, device=data.device)
        image.scatter_(0, flat.unsqueeze(1).expand(-1, data.shape[-1]), data)
        rows.append(image.view(side, side, data.shape[-1]).permute(2, 0, 1))
    return torch.stack(rows, dim=0)


def prompt_logits_bytes(text_tokens: int, bytes_per_value: int) -> int:
    """What the text encoder's output head allocates, once per prompt."""
    return text_tokens * TEXT_VOCABULARY * bytes_per_value


def cached_bytes(settings: Mapping[str, Any], config: Mapping[str, Any], bytes_per_value: int) -> list[int]:
    """The caches that training reads from, in the order in which they are made: encoded prompts, their positions and
    the latents of the training images."""
    images = len(settings["instance_prompts"]) - settings["valid_size"] - settings["test_size"]
    image_tokens, text_tokens = batch_length(settings["resolution"], settings["max_sequence_length"])
    return [
        images * text_tokens * config["joint_attention_dim"] * bytes_per_value,
        images * text_tokens * ID_AXES * 8,
        images * image_tokens * config["in_channels"] * bytes_per_value,
    ]


def judge_bytes() -> list[int]:
    """The weights of DINOv2-base in fp32: it judges the images, and stays on the device from the start to the end."""
    from transformers import Dinov2Config, Dinov2Model

    with torch.device("meta"):
        model = Dinov2Model(Dinov2Config(image_size=518))
    return [parameter.numel() * 4 for parameter in model.parameters()]
