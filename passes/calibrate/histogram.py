"""A histogram whose range grows with the values, and which does not depend on their order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = np.ndarray[Any, Any]

BINS = 8192
HALF = BINS // 2
LEAST = -100
"""The range never falls below 2**-100: whatever is smaller shares the two bins beside zero."""
CHUNK = 1 << 16
"""Elements that are binned at a time; with their bins they stay in the second-level cache."""


@dataclass
class Histogram:
    """Counts of values other than zero in equal bins over ``[-limit, limit)``; zeros apart.

    ``limit`` is the least power of two above every magnitude, so at least 2,048 bins lie between
    zero and the largest one. A range that doubles merges bins in pairs, exactly: the bins are
    those that all values at once would have given (unless a value is below 2**-100 of another).
    """

    exponent: int = LEAST
    zeros: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def limit(self) -> float:
        """The upper end of the range; the lower one is its negative."""
        return math.ldexp(1.0, self.exponent)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return self.limit / HALF

    @property
    def total(self) -> int:
        """The number of values, zeros included."""
        return self.zeros + int(self.counts.sum())

    def occupied(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Edges and counts from the first bin that holds something to the last; ``n + 1, n``."""
        (held,) = np.nonzero(self.counts)
        if not held.size:
            return np.zeros(1), self.counts[:0]
        first, last = int(held[0]), int(held[-1]) + 1
        edges = np.arange(first - HALF, last + 1 - HALF, dtype=np.float64)
        return edges * self.width, self.counts[first:last]

    def add(self, values: Array, absmax: float) -> None:
        """Count finite f32 values of any shape; ``absmax`` is the largest magnitude."""
        self.widen(math.frexp(absmax)[1])
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            self._count(flat[start : start + CHUNK])

    def widen(self, exponent: int) -> None:
        """Let the range reach to ``2**exponent``."""
        if exponent <= self.exponent:
            return
        # An arithmetic shift rounds down, as binning does: a merged bin is the sum of its pair.
        shift = min(exponent - self.exponent, 62)
        merged = np.zeros_like(self.counts)
        np.add.at(merged, ((np.arange(BINS) - HALF) >> shift) + HALF, self.counts)
        self.counts, self.exponent = merged, exponent

    def _count(self, values: Array) -> None:
        # A power of two: the product is exact.
        scaled = values * np.float32(HALF / self.limit)
        bins = np.floor(scaled, out=scaled).astype(np.intp)
        bins += HALF
        zeros = values.size - int(np.count_nonzero(values))
        self.counts += np.bincount(bins, minlength=BINS)
        self.counts[HALF] -= zeros
        self.zeros += zeros
