"""Generation: one pass over the prompts, then one token at a time while the key-value cache grows.

The real `generate` runs on meta for a few tokens; a logits processor, which it calls once per token, marks the steps
and ends it. The first pass and the first tokens become a template over the number of tokens seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from knowledge.schema import PlannedRun
from probes.memory.build import BuiltModel
from probes.memory.cuda_choices import cuda_choices
from probes.memory.kinds import Kind
from probes.memory.layers import offload_base_weights
from probes.memory.template import ONE_LENGTH, RawStep, Step, Template, fit_sizes, relative_events
from probes.memory.trace import persistent_facts, split_into_steps, watch_persistent
from probes.memory.tracer import AllocationTracer

# The first pass, two tokens that free what it left (the scores live for two steps), and two like all others.
TOKENS_TRACED = 5
# About how long; virtual tokens are taken off. From one more than a multiple of 8 on, none of the tokens traced ends
# at a multiple, which is the exception: the attention's bias is padded to multiples and copied for that.
PROMPTS_TRACED = (129, 193, 257)


@dataclass(frozen=True)
class GenerationPlan:
    """A generation during training, e.g. to evaluate: `batch_size` prompts of `prompt_tokens`, as many new ones."""

    batch_size: int
    prompt_tokens: int
    new_tokens: int


class _Enough(Exception):
    """Ends `generate` once enough tokens are traced."""


def generation_template(
    config: Any, peft_config: Mapping[str, Any] | None, run: PlannedRun, *, batch_size: int
) -> Template:
    """The steps of a generation by the run's model, from the cache where they have been traced before.

    Raises NotEstimable.
    """
    from probes.memory import cache
    from probes.memory.build import ways_to_build
    from probes.memory.estimate import first_that_works

    prompts = prompts_to_trace(peft_config)
    lengths = [(tokens, 0) for tokens in prompts]
    key = cache.key(config, run, lengths, peft_config=peft_config, generates=batch_size)
    ways = ways_to_build(config, peft_config, run)
    return cache.fetch(key, lambda: first_that_works(ways, lambda built: trace_generation(built, batch_size, prompts)))


def prompts_to_trace(peft_config: Mapping[str, Any] | None) -> list[int]:
    """Lengths of the prompts, such that with the method's virtual tokens they are one more than a multiple of 8."""
    virtual = (peft_config or {}).get("num_virtual_tokens") or 0
    return [tokens - virtual % 8 for tokens in PROMPTS_TRACED]


def trace_generation(built: BuiltModel, batch_size: int, prompts: Sequence[int]) -> Template:
    """The steps of generation: first pass, first and second token, every later token. Sizes are polynomials in the
    tokens of the prompt for the first, and in the tokens seen so far for the others."""
    model = built.model
    model.eval()
    tracer = AllocationTracer()
    persistent = watch_persistent(tracer, built)
    runs = []
    offload_base_weights(model)
    with cuda_choices(padded=True), tracer, torch.inference_mode():
        _trace_one(model, tracer, batch_size, prompts[0])  # the first time, models make tensors that they keep
        for prompt_tokens in prompts:
            runs.append(_trace_one(model, tracer, batch_size, prompt_tokens))
    model.train()
    sizes, kinds = persistent_facts(tracer, persistent)
    return Template(sizes, kinds, _steps(runs), ONE_LENGTH)


def _steps(runs: Sequence[Sequence[RawStep]]) -> tuple[Step, ...]:
    events = relative_events(runs[0])
    alike = [[run[index] for run in runs] for index in range(TOKENS_TRACED - 2)]
    alike.append([step for run in runs for step in run[-2:]])
    return tuple(
        Step(*events[index], steps[0].kinds, fit_sizes(steps, ONE_LENGTH)) for index, steps in enumerate(alike)
    )


def _trace_one(model: Any, tracer: AllocationTracer, batch_size: int, prompt_tokens: int) -> list[RawStep]:
    from transformers import LogitsProcessor, LogitsProcessorList

    boundaries = [tracer.position]

    class Marker(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            boundaries.append(tracer.position)
            if len(boundaries) > TOKENS_TRACED:
                raise _Enough
            return scores

    tokens = torch.zeros(batch_size, prompt_tokens, dtype=torch.long, device="meta")
    tracer.phase = Kind.ACTIVATIONS
    with suppress(_Enough):
        model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            logits_processor=LogitsProcessorList([Marker()]),
            max_new_tokens=2 * TOKENS_TRACED,
            do_sample=False,
            pad_token_id=0,
        )
    lengths = [(prompt_tokens + i, 0) for i in range(TOKENS_TRACED)]
    return split_into_steps(tracer, boundaries, lengths)
