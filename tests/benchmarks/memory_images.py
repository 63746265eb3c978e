"""A run of the comparison on image generation (FLUX.2), and the peak that is predicted for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch

from knowledge.diffusion_models import known_diffusion_config
from knowledge.schema import PlannedRun
from tests.benchmarks import image_script as script

# Two rounds until the cache is emptied, and the start of a third: from then on it repeats itself.
STEPS = 2 * script.EMPTY_CACHE_EVERY + 5


class ImageCase:
    """A run's model, its settings, and its trace once it is made. All batches have one known length, so there is
    nothing to fit: `candidate_lengths` has only that, in tokens."""

    def __init__(self, settings: Mapping[str, Any], peft_config: Mapping[str, Any] | None, train: Mapping[str, Any]):
        self.settings, self.peft_config = settings, peft_config
        self.config = known_diffusion_config(settings["model_id"])
        self.length = script.batch_length(settings["resolution"], settings["max_sequence_length"])
        self.candidate_lengths = (sum(self.length),)
        self.hidden_size = self.config["num_attention_heads"] * self.config["attention_head_dim"]
        self.num_layers = self.config["num_layers"] + self.config["num_single_layers"]
        self.run = PlannedRun(
            task="text-to-image",
            max_steps=settings["max_steps"],
            batch_size=settings["batch_size"],
            max_length_tokens=sum(self.length),
            dtype=settings["dtype"],
            gradient_checkpointing=settings["use_gc"],
            max_grad_norm=settings["grad_norm_clip"],
        )

    def predict(self, longest: int, *, evaluates: bool = True) -> int:
        """The peak of the training in bytes. `longest` is the one length; evaluations do not count in these runs."""
        from probes.memory.replay import Replay

        replay = Replay(self._template)
        self._prepare(replay.allocator)
        replay.run([self.length] * STEPS, script.EMPTY_CACHE_EVERY)
        return replay.peak().reserved_bytes

    def _prepare(self, allocator: Any) -> None:
        """What the script puts on the device beside the transformer, and where the caches come to lie: in what the
        text encoder has left, as the smallest free block that is large enough."""
        value_bytes = getattr(torch, self.run.dtype).itemsize
        for number, size in enumerate(script.judge_bytes()):
            allocator.allocate(f"judge {number}", size)
        allocator.allocate("prompt logits", script.prompt_logits_bytes(self.length[1], value_bytes))
        allocator.free("prompt logits")
        for number, size in enumerate(script.cached_bytes(self.settings, self.config, value_bytes)):
            allocator.allocate(f"cache {number}", size)
        allocator.empty_cache()

    @cached_property
    def _template(self) -> Any:
        from dataclasses import replace

        from probes.memory.batches import BatchPlan
        from probes.memory.estimate import training_template
        from probes.memory.template import FIXED_LENGTH

        template = training_template(
            self.config,
            self.peft_config,
            self.run,
            BatchPlan((), (self.length,), FIXED_LENGTH),
            optimizer=f"torch.optim:{self.settings['optimizer_type']}",
            optimizer_settings=dict(self.settings["optimizer_kwargs"]),
            loop=script.image_loop,
            autocast_adapter_dtype=self.settings["autocast_adapter_dtype"],
            padded=False,
            wrapped_on_cpu=True,
        )
        return replace(template, loader_bytes=0)  # loaded on the CPU, then moved tensor by tensor
