"""Peak GPU memory of a fine-tune without a GPU and without weights.

The real training step runs on the meta device, every allocation is written down, and the allocations are replayed
through a model of PyTorch's CUDA caching allocator.

    allocator.py       PyTorch's caching allocator
    tracer.py          which storage appears and disappears when, and what it is for (kinds.py)
    cuda_choices.py    makes meta take the code paths of CUDA (fused_norm.py: RMSNorm's); sparse_on_meta.py,
                       data_dependent.py: what meta lacks
    build.py           a model (bases.py) with its adapters on meta, three ways (layers.py)
    quantized.py       linear layers as bitsandbytes lays them out; optimizers.py: its optimizers
    loop.py            the training step; trace.py, template.py: its traces, generalised to any length
    generation.py      generation while the key-value cache grows
    batches.py         the batch lengths of a run
    replay.py          templates through the allocator
    cache.py           traces on disk
    estimate.py        all of it: a MemoryEstimate

Nothing here is imported before it is needed, so importing this package loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from knowledge.schema import MemoryEstimate, PlannedRun
from probes.memory.not_estimable import NotEstimable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["NotEstimable", "estimate_peak", "peak_of_first_steps"]

NO_SETTINGS: Mapping[str, Any] = {}


def estimate_peak(
    config: Any,
    peft_config: Mapping[str, Any] | None,
    planned_run: PlannedRun,
    *,
    lengths_tokens: ArrayLike | None = None,
    optimizer: str = "torch.optim:AdamW",
    optimizer_settings: Mapping[str, Any] = NO_SETTINGS,
    select_trainable: Callable[[Any], None] | None = None,
    padded: bool = True,
) -> MemoryEstimate:
    """Peak memory that PyTorch reserves on a GPU during the planned run.

    config: a transformers PretrainedConfig; the model class follows from `planned_run.task`.
    peft_config: the keys of adapter_config.json; None for training without an adapter, of everything or of what
        `select_trainable(model)` leaves with requires_grad.
    lengths_tokens: the token lengths of the training rows, shape (rows,), or pairs of (length, label positions), for
        seq2seq (source, target), shape (rows, 2). Default: every row has max_length_tokens.
    optimizer: 'module:callable'; its further arguments are `optimizer_settings`.
    padded: whether rows of one batch differ in length, which costs an attention mask.

    In the result `low_bytes` is what the run can do with (PyTorch empties its cache before it gives up), `high_bytes`
    the worst of several orders of the rows; a card fits for sure from high_bytes on, with risk from peak_bytes on.

    Raises NotEstimable where the real step cannot be followed; it never falls back to a guess.
    """
    from probes.memory.estimate import estimate

    return estimate(
        config,
        peft_config,
        planned_run,
        lengths_tokens=lengths_tokens,
        optimizer=optimizer,
        optimizer_settings=optimizer_settings,
        select_trainable=select_trainable,
        padded=padded,
    )


def peak_of_first_steps(
    config: Any,
    peft_config: Mapping[str, Any] | None,
    planned_run: PlannedRun,
    steps: int,
    *,
    lengths_tokens: ArrayLike,
    optimizer: str = "torch.optim:AdamW",
    optimizer_settings: Mapping[str, Any] = NO_SETTINGS,
    select_trainable: Callable[[Any], None] | None = None,
) -> int:
    """Bytes that PyTorch reserves at most in the first `steps` steps of the planned run, i.e. in a probe of it.

    What a probe really held, against this, says by how much the estimate of the whole run is off. The arguments are
    those of `estimate_peak`. Raises NotEstimable.
    """
    from probes.memory.estimate import peak_of_first_steps

    return peak_of_first_steps(
        config,
        peft_config,
        planned_run,
        steps,
        lengths_tokens=lengths_tokens,
        optimizer=optimizer,
        optimizer_settings=optimizer_settings,
        select_trainable=select_trainable,
    )
