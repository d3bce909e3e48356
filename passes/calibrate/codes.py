"""Integer codes of 2 to 8 bits, and the scale and zero point that lay a range of floats on them.

``real = scale * (code - zero_point)``; zero is exact, and ``scale`` is above zero and normal in
f32. Sources: Jacob et al. 2018, arXiv:1712.05877 (section 3: the zero point is rounded);
Krishnamoorthi 2018, arXiv:1806.08342 (symmetric, and narrow: -127 to 127).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = np.ndarray[Any, Any]

SMALLEST = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Scaling:
    """f32 scales and the zero points beside them, of one shape: rank 0 for a whole tensor."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]


@dataclass(frozen=True)
class Codes:
    """The codes of an integer type.

    ``symmetric``: the zero point stands in the middle (0; ``2**(bits-1)`` when unsigned).
    ``narrow``: the lowest code is left out, so that a symmetric range has as many below zero as
    above.
    """

    bits: int
    signed: bool = True
    symmetric: bool = True
    narrow: bool = False

    def __post_init__(self) -> None:
        """At least three codes: zero, and one on each side."""
        assert 2 <= self.bits <= 8, f"codes of {self.bits} bits"

    @property
    def low(self) -> int:
        """The lowest code."""
        return (-(1 << (self.bits - 1)) if self.signed else 0) + self.narrow

    @property
    def high(self) -> int:
        """The highest code."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def middle(self) -> int:
        """The code of zero when symmetric."""
        return 0 if self.signed else 1 << (self.bits - 1)

    def fit(self, low: ArrayLike, high: ArrayLike) -> Scaling:
        """The finest scaling whose codes reach over ``low .. high``, widened to hold zero.

        Arrays give one scaling for each range. An affine range is moved by up to half a step,
        so that zero is a code: values inside of it are off by half a step at most all the same
        (not above 1e36, where a code that is finite may reach less far).
        A range that is empty, or zero alone, has scale 1.
        """
        below = np.maximum(-np.asarray(low, np.float64), 0)
        above = np.maximum(np.asarray(high, np.float64), 0)
        if self.symmetric:
            step = np.maximum(below / (self.middle - self.low), above / (self.high - self.middle))
        else:
            # Divided first: the sum of two large floats may overflow.
            step = below / (self.high - self.low) + above / (self.high - self.low)
        # So that the farthest code from any zero point is finite.
        most = LARGEST / (self.high - self.low)
        step = np.where(step > 0, np.clip(step, SMALLEST, most), 1).astype(np.float32)
        return Scaling(step, self._zero_point(below, step))

    def _zero_point(self, below: Array, step: NDArray[np.float32]) -> NDArray[np.int32]:
        if self.symmetric:
            return np.full(step.shape, self.middle, np.int32)
        zero = np.rint(self.low + below / step.astype(np.float64))
        return np.clip(zero, self.low, self.high).astype(np.int32)

    def encode(self, x: Array, by: Scaling) -> NDArray[np.int32]:
        """``clip(round(x / scale) + zero_point)``, to even at ties, as ONNX's QuantizeLinear."""
        # What is far outside of the range may overflow, and ends at the last code like the rest.
        with np.errstate(over="ignore"):
            scaled = np.rint(x / by.scale) + by.zero_point
        return np.clip(scaled, self.low, self.high).astype(np.int32)

    def decode(self, codes: Array, by: Scaling) -> NDArray[np.float32]:
        """``scale * (code - zero_point)``."""
        return (codes - by.zero_point).astype(np.float32) * by.scale
