"""A weighted straight line through the points nearest to each query: follows any smooth trend, and goes on straight
where the data ends, which trees and isotonic regression cannot."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

NEIGHBOURS = 30
RIDGE = 1.0  # the weight of one point: pulls the slope to zero where the neighbours hardly differ
REACH = 3.0  # further out the line goes on level


class LocalLine:
    """Local linear regression with a Gaussian kernel (Cleveland 1979) whose width is the distance of the neighbours.

    neighbours: how many points one width holds. falling: slopes above zero become zero. reach: how far beyond its
    neighbours the line goes on, in their standard deviations.
    """

    def __init__(self, neighbours: int = NEIGHBOURS, falling: bool = False, reach: float = REACH) -> None:
        self._neighbours = neighbours
        self._falling = falling
        self._reach = reach

    def fit(self, x: ArrayLike, y: ArrayLike) -> LocalLine:
        """x, y: shape (n,), n > 0."""
        self._x, self._y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        return self

    def predict(self, x: ArrayLike) -> np.ndarray:
        """x: shape (m,); returns shape (m,)."""
        return np.array([self._at(value) for value in np.asarray(x, dtype=float)])

    def _at(self, value: float) -> float:
        distance = np.abs(self._x - value)
        nearest = min(self._neighbours, len(distance) - 1)
        width = np.sort(distance)[nearest] / 1.5 + 1e-3
        # Far from all points every weight would underflow: only differences of distance matter then.
        weight = np.exp(-0.5 * ((distance**2 - distance.min() ** 2) / width**2))
        mean_x, mean_y = np.average(self._x, weights=weight), np.average(self._y, weights=weight)
        spread = np.sqrt(np.average((self._x - mean_x) ** 2, weights=weight)) + 1e-3
        z = np.clip((self._x - mean_x) / spread, -self._reach, self._reach)
        slope = np.sum(weight * z * (self._y - mean_y)) / (np.sum(weight * z * z) + RIDGE)
        if self._falling:
            slope = min(0.0, slope)
        return float(mean_y + slope * np.clip((value - mean_x) / spread, -self._reach, self._reach))
