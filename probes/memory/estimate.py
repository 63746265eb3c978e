"""The dry run from end to end: build, trace, replay, report."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache as memoize
from typing import Any

from numpy.typing import ArrayLike

from knowledge.schema import MemoryEstimate, PlannedRun
from probes.adapters import train_in_float32
from probes.memory import cache
from probes.memory.batches import BatchPlan, dearest, first_batches, lengths_to_trace, plan_batches
from probes.memory.build import BuiltModel, ways_to_build
from probes.memory.kinds import Kind
from probes.memory.loop import TrainingLoop, advisor_loop
from probes.memory.not_estimable import NotEstimable
from probes.memory.quantized import bitsandbytes_on_meta
from probes.memory.replay import least_memory, live_peak, replay_lengths
from probes.memory.template import Length, Template
from probes.memory.trace import trace_training


def estimate(
    config: Any,
    peft_config: Mapping[str, Any] | None,
    run: PlannedRun,
    *,
    lengths_tokens: ArrayLike | None = None,
    optimizer: str = "torch.optim:AdamW",
    optimizer_settings: Mapping[str, Any],
    select_trainable: Callable[[Any], None] | None = None,
    padded: bool = True,
) -> MemoryEstimate:
    """See `probes.memory.estimate_peak`."""
    plan = plan_batches(run, lengths_tokens)
    expect_first = lengths_tokens is None
    settings: dict[str, Any] = {
        "optimizer": optimizer,
        "optimizer_settings": optimizer_settings,
        "select_trainable": select_trainable,
        "padded": padded,
    }

    def replayed() -> MemoryEstimate:
        return summarise(training_template(config, peft_config, run, plan, **settings), plan, expect_first=expect_first)

    key = cache.key(
        config,
        run,
        lengths_to_trace(plan, run.task),
        peft_config=peft_config,
        sequences=[passages.all for passages in plan.passages],
        expect_first=expect_first,
        **settings,
    )
    return cache.fetch_estimate(key, replayed)


def peak_of_first_steps(
    config: Any,
    peft_config: Mapping[str, Any] | None,
    run: PlannedRun,
    steps: int,
    *,
    lengths_tokens: ArrayLike,
    optimizer: str = "torch.optim:AdamW",
    optimizer_settings: Mapping[str, Any],
    select_trainable: Callable[[Any], None] | None = None,
) -> int:
    """See `probes.memory.peak_of_first_steps`."""
    template = training_template(
        config,
        peft_config,
        run,
        plan_batches(run, lengths_tokens),
        optimizer=optimizer,
        optimizer_settings=optimizer_settings,
        select_trainable=select_trainable,
    )
    passages = first_batches(run, lengths_tokens, steps)
    return replay_lengths(template, passages.dearest(_cost(template))).reserved_bytes


def training_template(
    config: Any,
    peft_config: Mapping[str, Any] | None,
    run: PlannedRun,
    plan: BatchPlan,
    *,
    optimizer: str = "torch.optim:AdamW",
    optimizer_settings: Mapping[str, Any],
    select_trainable: Callable[[Any], None] | None = None,
    padded: bool = True,
    loop: TrainingLoop = advisor_loop,
    autocast_adapter_dtype: bool = True,
    wrapped_on_cpu: bool = False,
) -> Template:
    """The traced steps of the run, from the cache where an equal run has been traced before.

    With the loop of the probes the model is prepared as theirs: what PEFT leaves in half precision trains in float32.

    Raises NotEstimable.
    """
    lengths = lengths_to_trace(plan, run.task)

    def trace() -> Template:
        ways = ways_to_build(
            config,
            peft_config,
            run,
            select_trainable=select_trainable,
            autocast_adapter_dtype=autocast_adapter_dtype,
            wrapped_on_cpu=wrapped_on_cpu,
        )

        def trace_built(built: BuiltModel) -> Template:
            if loop is advisor_loop and peft_config is not None:
                train_in_float32(built.model)
            return trace_training(
                built,
                run,
                lengths,
                plan.exponents,
                loop=loop,
                optimizer=optimizer,
                optimizer_settings=dict(optimizer_settings),
                padded=padded,
            )

        return first_that_works(ways, trace_built)

    key = cache.key(
        config,
        run,
        lengths,
        peft_config=peft_config,
        optimizer=optimizer,
        optimizer_settings=optimizer_settings,
        select_trainable=select_trainable,
        padded=padded,
        loop=loop.__name__,
        autocast_adapter_dtype=autocast_adapter_dtype,
        wrapped_on_cpu=wrapped_on_cpu,
    )
    return cache.fetch(key, trace)


def first_that_works(ways: Sequence[Callable[[], BuiltModel]], trace: Callable[[BuiltModel], Template]) -> Template:
    """The trace of the first way to build the model that can be built and traced.

    Raises NotEstimable with the reason of every way that failed.
    """
    failures: list[str] = []
    for way in ways:
        try:
            with _without_collection(), bitsandbytes_on_meta():
                return trace(way())
        except Exception as error:  # a method's code under conditions it was not written for: the next way may do
            reason = f"{type(error).__name__}: {error}".splitlines()[0].partition(". ")[0][:200]
            if reason not in failures:
                failures.append(reason)
    raise NotEstimable("the training step cannot be followed without data: " + "; ".join(failures))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Python's collector looks through a model's many objects again and again for cycles, which none of the methods
    leaves tensors in, and would free them at moments that depend on what else the process holds."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def summarise(template: Template, plan: BatchPlan, *, expect_first: bool) -> MemoryEstimate:
    """Peak over the sequences of the plan: their median, or the first of them where `expect_first`. The lower end is
    what the run can do with, the upper end the worst order of batches."""
    cost = _cost(template)
    dear = dearest(plan.largest, cost)
    peaks = [replay_lengths(template, passages.dearest(cost)).reserved_bytes for passages in plan.passages]
    expected = peaks[0] if expect_first else int(statistics.median_low(peaks))
    live = live_peak(template, dear)
    breakdown = {kind.name.lower(): live.bytes_by_kind.get(kind, 0) for kind in Kind}
    return MemoryEstimate(
        peak_bytes=expected,
        low_bytes=min(least_memory(template, dear), expected),
        high_bytes=max(peaks),
        breakdown=breakdown | {"overhead": expected - sum(breakdown.values())},
        note="; ".join(template.notes),
    )


def _cost(template: Template) -> Callable[[Length], int]:
    """What is in use at the peak of a batch of that length, in bytes."""
    return memoize(lambda length: live_peak(template, length).total_bytes)
