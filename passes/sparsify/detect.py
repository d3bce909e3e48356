"""The patterns of zeros that a weight matrix already has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeout.passes.sparsify.patterns import NM

Array = np.ndarray[Any, Any]

GROUPS = (4, 8, 16, 32)
"""The M that are looked for."""


@dataclass(frozen=True, slots=True)
class Zeros:
    """Parts of a matrix that are zero: of its weights, of its 4x1 blocks; and exact N:M."""

    weights: float
    blocks: float
    nm: tuple[NM, ...]

    @property
    def tightest(self) -> NM | None:
        """The N:M pattern that stores the fewest values; of equals, the one of smaller groups."""
        return min(self.nm, key=lambda p: (p.n / p.m, p.m), default=None)


def detect(matrix: Array, groups: Sequence[int] = GROUPS) -> Zeros:
    """What is zero in ``matrix [N, K]`` of any number type.

    An N:M pattern is told for each M up to K where no group is full, with the least N that holds.
    """
    some = matrix != 0
    if not some.size:
        return Zeros(0.0, 0.0, ())
    filled = [(m, max(1, most_in_group(some, m))) for m in groups if m <= some.shape[1]]
    return Zeros(
        weights=1 - float(some.mean()),
        blocks=1 - float(block_any(some, 4).mean()),
        nm=tuple(NM(n, m) for m, n in filled if n < m),
    )


def most_in_group(some: Array, m: int) -> int:
    """The most true elements in any group of ``m`` along K."""
    starts = list(range(0, some.shape[1], m))
    return int(np.add.reduceat(some, starts, axis=1, dtype=np.int64).max(initial=0))


def block_any(some: Array, rows: int) -> Array:
    """Whether a block of ``rows`` outputs by one input has a true element: ``[stripes, K]``."""
    return np.logical_or.reduceat(some, list(range(0, len(some), rows)), axis=0)
