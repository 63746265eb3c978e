"""The three probe protocols as learning-rate schedules, for a full run of `steps` optimizer steps.

At a rung all three have done equally many steps, so they differ in nothing but the rate over the steps.
"""

from __future__ import annotations

from probes.schema import Schedule

FRACTIONS = (0.02, 0.05, 0.1, 0.2)
"""Lengths of the probes in parts of the full run."""
LATER_FRACTIONS = (0.4, 0.6, 0.8, 1.0)
"""Further evaluations of the full run."""
WARMUP_FRACTION = 0.1
TRUNK_WARMUP_FRACTION = 0.01
"""The trunk must be at its full rate when its first rung comes, long before the full run has warmed up."""
DECAYED_PART = 0.25
"""Part of a rung's steps over which its branch decays."""


def rung(fraction: float, steps: int) -> int:
    """Steps of a probe; at least three, for one step each of warm-up, rate and decay."""
    return max(3, round(fraction * steps))


def full_schedule(steps: int) -> Schedule:
    """The planned run, whose first steps are the probe of the protocol "prefix"."""
    return Schedule(shape="cosine", total_steps=steps, warmup_steps=round(WARMUP_FRACTION * steps))


def full_eval_steps(steps: int) -> tuple[int, ...]:
    return tuple(rung(fraction, steps) for fraction in (*FRACTIONS, *LATER_FRACTIONS))


def short_schedule(length: int) -> Schedule:
    """A complete run of `length` steps."""
    return full_schedule(length)


def trunk_schedule(steps: int) -> Schedule:
    """The constant-rate run that the branches leave."""
    return Schedule(shape="constant", total_steps=steps, warmup_steps=_trunk_warmup(steps))


def trunk_steps(length: int) -> int:
    """Steps of the trunk before the branch of a rung of `length` steps leaves it."""
    return length - max(1, round(DECAYED_PART * length))


def branch_schedule(length: int, steps: int) -> Schedule:
    """The trunk's rate until the branch leaves, then a linear fall to zero at `length` steps."""
    decay = length - trunk_steps(length)
    return Schedule(shape="constant", total_steps=length, warmup_steps=_trunk_warmup(steps), decay_steps=decay)


def _trunk_warmup(steps: int) -> int:
    return max(1, round(TRUNK_WARMUP_FRACTION * steps))
