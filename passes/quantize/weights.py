"""A quantised weight matrix: its format, its codes and scales, and what number each code means.

``value = (code - zero) * scale``, where a scale belongs to the whole tensor, to a row (an output
channel) or to ``group`` neighbours along K. The order of operations is the one that every kernel
is compared with: the difference is exact, the product is rounded once, to f32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from tapeout.ir.dtypes import DType, bf16, f16, f32

Array = np.ndarray[Any, Any]
Group: TypeAlias = int | Literal["tensor", "channel"]
"""Weights that share a scale: so many along K, a whole row, or all."""

SCALE_TYPES = (f32, f16, bf16)


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """Codes of 1 to 8 bits, and which of them share a scale of which type.

    Symmetric codes are signed and have no zero point; asymmetric ones are unsigned.
    """

    bits: int
    group: Group = "channel"
    asymmetric: bool = False
    scale: DType = f32

    def __post_init__(self) -> None:
        assert 1 <= self.bits <= 8, f"codes have 1 to 8 bits, not {self.bits}"
        assert self.group in ("tensor", "channel") or int(self.group) > 0, "groups hold something"
        assert self.scale in SCALE_TYPES, f"scales are f32, f16 or bf16, not {self.scale}"

    def __str__(self) -> str:
        shared = {"channel": "", "tensor": "-per-tensor"}.get(str(self.group), f"g{self.group}")
        return f"w{self.bits}{shared}{'a' if self.asymmetric else ''}-{self.scale}"

    @property
    def bipolar(self) -> bool:
        """Whether the codes are -1 and +1: what one signed bit stands for."""
        return self.bits == 1 and not self.asymmetric

    @property
    def low(self) -> int:
        """The least code.

        8 bits leave -128 out, which costs 0.8 % of a step and lets kernels negate a code.
        """
        if self.asymmetric:
            return 0
        return -127 if self.bits == 8 else -1 if self.bits == 1 else -(1 << self.bits - 1)

    @property
    def high(self) -> int:
        """The greatest code."""
        if self.asymmetric:
            return (1 << self.bits) - 1
        return 1 if self.bits == 1 else (1 << self.bits - 1) - 1

    @property
    def reach(self) -> int:
        """The most that a code can differ from its zero point."""
        return max(-self.low, self.high)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type that codes travel in, one to a byte."""
        return np.dtype(np.uint8 if self.asymmetric else np.int8)

    def width(self, k: int) -> int:
        """How many neighbours along a row of ``k`` share a scale; at least 1."""
        return max(1, k if isinstance(self.group, str) else min(self.group, k))

    def groups(self, k: int) -> int:
        """How many scales a row of ``k`` has; the last may belong to fewer weights."""
        return max(1, -(-k // self.width(k)))

    def scales_shape(self, n: int, k: int) -> tuple[int, int]:
        """The shape of the scales of an ``[n, k]`` weight."""
        return (1 if self.group == "tensor" else n, self.groups(k))

    def packed_bytes(self, n: int, k: int) -> int:
        """The bytes of an ``[n, k]`` weight: codes, scales and zero points without gaps."""
        scales = math.prod(self.scales_shape(n, k))
        coded = n * k + (scales if self.asymmetric else 0)
        return -(-coded * self.bits // 8) + scales * self.scale.bytes


@dataclass(frozen=True, eq=False, slots=True)
class QuantisedWeight:
    """``codes [N, K]``, ``scales [N, G]`` and ``zeros [N, G]`` or None.

    Codes are int8 or uint8, one to a byte, of ``format.bits`` bits; zeros are uint8. One scale
    for the whole tensor is ``[1, 1]``. No scale is 0, infinite, NaN or a subnormal f32; some are
    negative, see :mod:`tapeout.passes.quantize.scales`.
    """

    format: WeightFormat
    codes: Array
    scales: Array
    zeros: Array | None

    def __post_init__(self) -> None:
        n, k = self.codes.shape
        assert self.codes.dtype == self.format.numpy, f"codes travel as {self.format.numpy}"
        assert self.scales.dtype == self.format.scale.numpy, f"scales are {self.format.scale}"
        assert self.scales.shape == self.format.scales_shape(n, k), f"scales {self.scales.shape}"
        assert (self.zeros is not None) == self.format.asymmetric, "zeros where asymmetric"
        assert self.zeros is None or self.zeros.shape == self.scales.shape, "a zero per scale"

    @property
    def bytes(self) -> int:
        """The bytes of codes, scales and zero points, packed without gaps."""
        n, k = self.codes.shape
        return self.format.packed_bytes(n, k)

    def dequantised(self) -> Array:
        """The exact f32 numbers ``[N, K]`` that the codes stand for."""
        scales = self.per_weight(self.scales)
        zeros = None if self.zeros is None else self.per_weight(self.zeros)
        return decode(self.codes, scales, zeros)

    def per_weight(self, values: Array) -> Array:
        """``values``, one per scale, for each weight: ``[N, K]``."""
        return per_weight(values, self.codes.shape, self.format)


def decode(codes: Array, scales: Array, zeros: Array | None) -> Array:
    """``(codes - zeros) * scales`` in f32, with scales and zeros that broadcast to the codes."""
    steps = codes.astype(np.float32, copy=False)
    if zeros is not None:
        steps = steps - zeros.astype(np.float32)
    return steps * scales.astype(np.float32)


def encode(values: Array, scales: Array, zeros: Array | None, format: WeightFormat) -> Array:
    """The codes whose meaning is nearest to finite ``values``, in the type that codes travel in.

    ``scales`` and ``zeros`` broadcast to the values.
    """
    return nearest(values, scales, zeros, format).astype(format.numpy)


def nearest(values: Array, scales: Array, zeros: Array | None, format: WeightFormat) -> Array:
    """:func:`encode` with codes in f32; ties go to the even difference from the zero point."""
    if format.bipolar:
        return np.where(values < 0, np.float32(-1), np.float32(1))
    # What is out of range may be infinitely far out of it: clipping ends that.
    with np.errstate(over="ignore"):
        codes = np.divide(values, scales, dtype=np.float32)
    np.rint(codes, out=codes)
    if zeros is not None:
        codes += zeros.astype(np.float32)
    return np.clip(codes, format.low, format.high, out=codes)


def grouped(values: Array, format: WeightFormat) -> Array:
    """``[N, K]`` as ``[N, G, width]``, or ``[1, 1, N * K]`` for one scale in all.

    Zeros fill the last group: they change neither its range nor its error.
    """
    if format.group == "tensor":
        return values.reshape(1, 1, -1)
    n, k = values.shape
    count, width = format.groups(k), format.width(k)
    if count * width != k:
        values = np.pad(values, ((0, 0), (0, count * width - k)))
    return values.reshape(n, count, width)


def per_weight(values: Array, shape: tuple[int, int], format: WeightFormat) -> Array:
    """``values`` of the shape of the scales, spread out to the shape ``[N, K]`` of the codes."""
    n, k = shape
    return np.broadcast_to(np.repeat(values, format.width(k), axis=1)[:, :k], (n, k))
