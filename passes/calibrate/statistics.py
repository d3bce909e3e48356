"""What calibration keeps of one value: extremes, a histogram, channels, products, some rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeout.passes.calibrate.histogram import Histogram

Array = np.ndarray[Any, Any]
Float32s = NDArray[np.float32]


@dataclass
class Statistics:
    """What was seen of one float value over all samples, as f32.

    What is not finite, or too large for f32, is counted apart and in nothing else. ``low`` and
    ``high`` are the extremes (``inf`` and ``-inf`` before anything was seen). ``channels`` holds
    those along the last axis, ``gram`` and ``rows`` what was asked for.
    """

    low: float = math.inf
    high: float = -math.inf
    non_finite: int = 0
    histogram: Histogram = field(default_factory=Histogram)
    channels: Channels | None = None
    gram: Gram | None = None
    rows: Rows | None = None

    @property
    def absmax(self) -> float:
        """The largest magnitude; 0 before anything was seen."""
        return max(-self.low, self.high, 0.0)

    def add(self, array: Array) -> None:
        """Take in one array of the value."""
        if not array.size:
            return
        with np.errstate(over="ignore"):
            x = counted = array.astype(np.float32, copy=False)
        low, high = _extremes(x)
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = np.isfinite(x)
            counted, x = x[finite], np.where(finite, x, 0)
            self.non_finite += x.size - counted.size
            if not counted.size:
                return
            low, high = _extremes(counted)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.histogram.add(counted, max(-low, high, 0.0))
        self._add_rows(x)

    def _add_rows(self, x: Array) -> None:
        for part in (self.channels, self.gram, self.rows):
            if part is not None:
                part.add(x.reshape(-1, x.shape[-1]))


def _extremes(x: Array) -> tuple[float, float]:
    """The least and the greatest element; NaN when there is one."""
    with np.errstate(invalid="ignore"):
        return float(np.min(x)), float(np.max(x))


def statistics_of(array: Array) -> Statistics:
    """The statistics of one array: a weight, or a channel or group of one."""
    made = Statistics()
    made.add(array)
    return made


@dataclass
class Channels:
    """What is kept of each channel of the last axis; a value that is not finite counts as 0.

    ``squares`` are sums over ``count`` rows, f64.
    """

    low: Array
    high: Array
    squares: Array
    count: int = 0

    @classmethod
    def of(cls, size: int) -> Channels:
        """For ``size`` channels, of which nothing was seen."""
        return cls(np.full(size, np.inf), np.full(size, -np.inf), np.zeros(size))

    @property
    def absmax(self) -> Array:
        """The largest magnitude of each channel."""
        return np.maximum(np.maximum(-self.low, self.high), 0)

    @property
    def mean_square(self) -> Array:
        """The mean of the squares of each channel; 0 where nothing was seen."""
        return self.squares / max(self.count, 1)

    def add(self, rows: Array) -> None:
        """Take in ``[n, channels]``."""
        self.low = np.minimum(self.low, rows.min(axis=0))
        self.high = np.maximum(self.high, rows.max(axis=0))
        self.squares += np.einsum("nc,nc->c", rows, rows, dtype=np.float64)
        self.count += len(rows)


@dataclass
class Gram:
    """``total = X^T X`` of all rows ``X [count, channels]``: what a product's error is measured by.

    For weights ``W`` off by ``D``, the squared error of ``X W`` is ``trace(D^T total D)``. f32,
    as methods that use it take it (GPTQ: Frantar et al. 2023, arXiv:2210.17323, adds 1 % to its
    diagonal, far above what rounding leaves).
    """

    total: Float32s
    count: int = 0

    @classmethod
    def of(cls, size: int) -> Gram:
        """For ``size`` channels, of which nothing was seen."""
        return cls(np.zeros((size, size), np.float32))

    def add(self, rows: Array) -> None:
        """Take in ``[n, channels]``."""
        self.total += rows.T @ rows
        self.count += len(rows)


@dataclass
class Rows:
    """At most ``limit`` rows out of all, each with the same chance, the same in each run.

    Each row draws a number; the rows with the least numbers stay.
    """

    limit: int
    kept: Array
    draws: Array = field(default_factory=lambda: np.empty(0))
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @classmethod
    def of(cls, size: int, limit: int) -> Rows:
        """For rows of ``size`` channels, of which nothing was seen."""
        return cls(limit, np.empty((0, size), np.float32))

    def add(self, rows: Array) -> None:
        """Take in ``[n, channels]``."""
        draws = self.random.random(len(rows))
        if len(self.draws) == self.limit:
            (better,) = np.nonzero(draws < self.draws.max(initial=0.0))
            rows, draws = rows[better], draws[better]
        draws = np.concatenate([self.draws, draws])
        chosen = np.argsort(draws, kind="stable")[: self.limit]
        self.kept = np.concatenate([self.kept, rows])[chosen]
        self.draws = draws[chosen]
