"""How much longer a request takes with the adapter beside the base than with the base alone.

Measured, for counting operations does not tell: on SmolLM2-135M (one CPU thread, 32 tokens read and 6 written) IA3
takes 11 % longer with no more multiplications, OFT 21 % with 5 % more, and LLaMA-Adapter 53 % with 121 % more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from knowledge.schema import Task

if TYPE_CHECKING:
    from knowledge.methods.base import Method
    from probes.schema import ProbeContext

READ_TOKENS, WRITTEN_TOKENS = 32, 8
REPEATS = 5


def latency_overhead(model: Any, method: Method, context: ProbeContext, tokens: Sequence[int]) -> float | None:
    """The share of time that one request takes longer with the adapter, 0.05 for 5 %; None where it is not asked for.

    0 where the method merges into the base, which then is a plain model. A quantised base takes no merge without
    rounding away what was trained, so there every adapter stays beside it and is measured.
    """
    if not context.measures_latency:
        return None
    if method.capabilities.mergeable and context.quantization == "none":
        return 0.0
    return measured_overhead(model, tokens[:READ_TOKENS], context.task, context.device)


def measured_overhead(model: Any, tokens: Sequence[int], task: Task, device: str) -> float:
    """Of a request that reads `tokens` and, unless for a classifier, writes WRITTEN_TOKENS.

    The two are timed in turns, and the fastest of each is taken: whatever else the machine does only adds time.
    """
    was_training = model.training
    model.eval()
    request = _request(model, tokens, task, device)

    def without_adapter() -> None:
        with model.disable_adapter():
            request()

    kinds = (request, without_adapter)
    for kind in kinds:  # the first of each builds caches
        kind()
    times = [[_seconds(kind, device) for kind in kinds] for _ in range(REPEATS)]
    model.train(was_training)
    adapted_s, plain_s = (min(column) for column in zip(*times, strict=True))
    return max(0.0, adapted_s / plain_s - 1)


def _request(model: Any, tokens: Sequence[int], task: Task, device: str) -> Callable[[], None]:
    """One request to the model, ready to be sent."""
    import torch

    ids = torch.tensor([list(tokens)], device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    writing = {"max_new_tokens": WRITTEN_TOKENS, "min_new_tokens": WRITTEN_TOKENS, "do_sample": False}

    @torch.no_grad()
    def request() -> None:
        if task == "sequence-classification":
            model(**inputs)
        else:
            model.generate(**inputs, **writing)

    return request


def _seconds(request: Callable[[], None], device: str) -> float:
    import torch

    started = time.perf_counter()
    request()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started
