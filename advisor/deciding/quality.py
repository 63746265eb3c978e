"""Predicted quality as something that can be compared: with its noise, and with higher always better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from advisor.recommendation import CandidateReport
from knowledge.intervals import Z_80
from probes.metrics import LOSSES

# In parts of the noise. A lead of .43 standard deviations is real with odds of two to one.
LIKELY = 0.43 / Z_80
# Of the best candidate's gain over the untuned model: ends that are expected to differ by no more are taken for equal,
# and costs decide. Within noise is no reason to: the expected order tells something there too. Of 60 races at a tenth
# of the sweep's cost on 63 published runs (advice of tests/benchmarks/selection.py, for accuracy) picks end .0108 in
# accuracy behind the best where all that is not probably worse counts as equal, .0054 with a hundredth of the gain,
# .0029 with this; on 21 runs .0160, .0038 and .0017. They need 4, 2 and 0 % less memory.
EQUAL_SHARE = 0.0001
EQUALLY_FAR = 0.9  # of the steps of the longer of two probes
MEMORY_STEP = 0.01  # no memory estimate is finer than that: the dry run's mean error on published runs is half of it


TABLE_RANK = "table rank"  # without probes: the share of the compared methods that one beats in the benchmark table
QualityField = Literal["predicted", "predicted_loss"]


@dataclass(frozen=True)
class Point:
    """A candidate's place in the plane: quality as higher-is-better with its 80 % interval, memory in bytes."""

    value: float
    low: float
    high: float
    peak_bytes: float
    noise: float | None = None
    noise_apart: float | None = None
    probed_steps: int = 0
    """How far the curve goes that this rests on."""

    @property
    def is_finite(self) -> bool:
        numbers = (self.value, self.low, self.high, self.peak_bytes)
        return all(map(math.isfinite, numbers)) and self.peak_bytes > 0

    @property
    def memory_step(self) -> int:
        """Peak memory on a logarithmic scale of one percent per step."""
        return round(math.log(self.peak_bytes) / math.log1p(MEMORY_STEP))

    def noise_against(self, other: Point) -> float:
        """How far this point must be ahead of `other` before the lead means something.

        The root of the summed squares of both points' noise, which is known where both were measured in one race: of
        one that went less far than the other, all that it does not share with it.
        Else of the two half-intervals that face each other: one-sided 90 % confidence for independent errors. The
        other's half counts at most as much as our own, for a candidate must not stay in the
        running merely because little is known about it.
        """
        if self.noise is not None and other.noise is not None:
            return math.hypot(self._noise_beside(other), other._noise_beside(self))
        downside = max(0.0, self.value - self.low)
        upside = min(downside, max(0.0, other.high - other.value))
        return math.hypot(downside, upside)

    def _noise_beside(self, other: Point) -> float:
        is_shorter = self.probed_steps < EQUALLY_FAR * other.probed_steps
        return self.noise if self.noise_apart is None or not is_shorter else self.noise_apart

    def beats(self, other: Point) -> bool:
        """True if this point's quality is ahead of the other's by more than noise."""
        return self.value - other.value > self.noise_against(other)

    def leads(self, other: Point) -> bool:
        """True if this point's quality is probably ahead of the other's, with odds of two to one or better.

        A choice must be made also where nothing is proven, and what is probably worse is not equal to the best.
        """
        return self.value - other.value > LIKELY * self.noise_against(other)


def lower_is_better(metric: str) -> bool:
    """The losses that are predicted are better when lower; every metric, of whatever name, when higher."""
    return metric in LOSSES


def point_of(candidate: CandidateReport, quality: QualityField) -> Point | None:
    """Where a candidate stands, or None without a prediction or a memory estimate."""
    prediction = getattr(candidate, quality)
    if prediction is None or candidate.memory is None:
        return None
    value, low, high = prediction.value, prediction.low, prediction.high
    if lower_is_better(prediction.metric):
        value, low, high = -value, -high, -low
    noises = prediction.noise, prediction.noise_apart
    return Point(value, low, high, candidate.memory.peak_bytes, *noises, candidate.curve.last_step)


def value_of(candidate: CandidateReport, quality: QualityField) -> float:
    """Expected quality, higher is better; minus infinity where there is no prediction."""
    point = point_of(candidate, quality)
    return -math.inf if point is None else point.value


def baseline_of(candidate: CandidateReport, quality: QualityField) -> float | None:
    """The untuned model's quality, higher is better, or None where it was not measured."""
    value = candidate.baseline_value if quality == "predicted" else candidate.baseline_loss
    prediction = getattr(candidate, quality)
    if value is None or prediction is None:
        return None
    return -value if lower_is_better(prediction.metric) else value


def beats(one: CandidateReport, other: CandidateReport, quality: QualityField) -> bool:
    """True if `one` is ahead of `other` by more than noise."""
    a, b = point_of(one, quality), point_of(other, quality)
    return a is not None and b is not None and a.beats(b)


def leads(one: CandidateReport, other: CandidateReport, quality: QualityField) -> bool:
    """True if `one` is probably ahead of `other`, with odds of two to one or better."""
    a, b = point_of(one, quality), point_of(other, quality)
    return a is not None and b is not None and a.leads(b)


def noise_between(one: CandidateReport, other: CandidateReport, quality: QualityField) -> float:
    """80 % half-width of the difference of two candidates that have predictions, with which `beats` decides."""
    better, worse = sorted((point_of(one, quality), point_of(other, quality)), key=lambda p: p.value, reverse=True)
    return better.noise_against(worse)


def is_clearer(lead: float, noise: float, other_lead: float, other_noise: float) -> bool:
    """Whether the first lead is more of its noise than the second, which may be in another unit, is of its own."""
    return lead * other_noise > other_lead * noise


def tied(one: CandidateReport, other: CandidateReport, quality: QualityField) -> bool:
    """True if neither beats the other."""
    return not beats(one, other, quality) and not beats(other, one, quality)


def gain_of(best: CandidateReport, rivals: Sequence[CandidateReport], quality: QualityField) -> float:
    """What the best candidate gains over the untuned model; over the worst rival where that was not measured, or is
    expected to stay the best."""
    start = baseline_of(best, quality)
    if start is None or start >= value_of(best, quality):
        start = min(value_of(c, quality) for c in rivals)
    return value_of(best, quality) - start


def share_of_gain(
    value: float, best: CandidateReport, rivals: Sequence[CandidateReport], quality: QualityField
) -> float:
    """What a value gains as a share of the best candidate's gain."""
    gain = gain_of(best, rivals, quality)
    return 1 - (value_of(best, quality) - value) / gain if gain > 0 else 1.0


def equal_within(rivals: Sequence[CandidateReport], quality: QualityField) -> float:
    """By how much ends may be expected to differ that are taken for equal, in the unit of the quality."""
    best = max(rivals, key=lambda c: value_of(c, quality))
    return EQUAL_SHARE * gain_of(best, rivals, quality)


def as_good_as(
    target: CandidateReport, contenders: Sequence[CandidateReport], quality: QualityField
) -> list[CandidateReport]:
    """Those of the contenders, the target among them, that are expected to end where it does. Ranks in the table of
    other tasks are no such expectation: without probes whatever the target does not probably lead is as good."""
    not_led = [c for c in contenders if not leads(target, c, quality)]
    if target.status == "from table":
        return not_led
    least = value_of(target, quality) - equal_within(contenders, quality)
    return [c for c in not_led if value_of(c, quality) >= least]
