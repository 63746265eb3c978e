"""Intervals from past errors: no assumption about their distribution, only that new errors come like the old ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from knowledge.intervals import COVERAGE

NEIGHBOURS = 20  # errors depend on the level: bad methods are harder to predict than good ones


def error_bound(errors: ArrayLike) -> float:
    """The size that a new error stays below with probability COVERAGE, from past errors.

    The split-conformal quantile (Vovk et al. 2005; Lei et al. 2018): rank ceil((n + 1) * COVERAGE) of the n sizes.
    Infinite where there are too few errors to say, which is below four for 80 %.
    """
    sizes = np.sort(np.abs(np.asarray(errors, dtype=float)))
    rank = math.ceil((len(sizes) + 1) * COVERAGE)
    return float(sizes[rank - 1]) if rank <= len(sizes) else math.inf


class LocalBound:
    """`error_bound` of the past predictions nearest in value to the new one.

    predicted, errors: arrays of shape (n,), from predictions of runs that the model had not seen.
    """

    def __init__(self, predicted: ArrayLike, errors: ArrayLike) -> None:
        self._predicted = np.asarray(predicted, dtype=float)
        self._errors = np.asarray(errors, dtype=float)

    def at(self, value: float) -> float:
        distance = np.abs(self._predicted - value)
        reach = np.sort(distance)[min(NEIGHBOURS, len(distance)) - 1]
        return error_bound(self._errors[distance <= reach])  # with all that are equally near
