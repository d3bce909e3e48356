"""Exact floating-point results from binary64, rounded once as the PTX ISA asks.

A sum is first rounded to *odd*: where binary64 cannot hold it, its last bit is set. A later
rounding to a format of at least two bits less then sees on which side of a tie the true value
lies, so that two roundings give what one gives.

Source: Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums".
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

F32_TINY = float(np.finfo(np.float32).tiny)


def odd_sum(a: Array, b: Array) -> Array:
    """Return ``a + b`` of binary64 arrays, rounded to odd."""
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)
    inexact = np.isfinite(total) & (error != 0)
    if not inexact.any():
        return total
    bits = np.atleast_1d(total).view(np.int64)
    # Where the last bit is even, the odd neighbour on the side of the error; magnitudes order
    # as integers do, so away from zero is one up.
    away = (error > 0) == (total > 0)
    odd = np.where(bits & 1 == 1, bits, np.where(away, bits + 1, bits - 1))
    return np.where(inexact, odd, bits).view(np.float64)


def fma(a: Array, b: Array, c: Array) -> Array:
    """Return ``a * b + c`` of operands below 26 bits as binary64, rounded to odd."""
    return odd_sum(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))


def fma_f32(a: Array, b: Array, c: Array) -> Array:
    """Return ``a * b + c`` of binary32 arrays, rounded once to nearest even.

    Only a binary64 sum that lies exactly between two binary32 numbers, or below the normal
    ones, can be rounded wrongly the second time; all others skip the exact sum.
    """
    product = a.astype(np.float64) * b.astype(np.float64)
    wide = c.astype(np.float64)
    total = product + wide
    tie = (total.view(np.uint64) & np.uint64(0x1FFF_FFFF)) == np.uint64(0x1000_0000)
    if tie.any() or ((total != 0) & (np.abs(total) < F32_TINY)).any():
        total = odd_sum(product, wide)
    return total.astype(np.float32)


def to_f32(value: Array, mode: str) -> Array:
    """Round binary64 to binary32: ``rn``, ``rz``, ``rm``, ``rp``, or ``odd``."""
    near = value.astype(np.float32)
    if mode == "rn":
        return near
    back = near.astype(np.float64)
    if mode == "rm":
        return np.where(back > value, np.nextafter(near, np.float32(-np.inf)), near)
    if mode == "rp":
        return np.where(back < value, np.nextafter(near, np.float32(np.inf)), near)
    beyond = np.abs(back) > np.abs(value)
    short = np.where(beyond, np.nextafter(near, np.float32(0)), near)
    if mode == "rz":
        return short
    assert mode == "odd", mode
    sticky = (back != value) & np.isfinite(value)
    return np.where(sticky, short.view(np.uint32) | np.uint32(1), short.view(np.uint32)).view(
        np.float32
    )


def to_bf16(value: Array, mode: str = "rn") -> Array:
    """Round to the bits of a bfloat16: to nearest even, or ``rz``."""
    if value.dtype == np.float64:
        value = to_f32(value, "odd")
    bits = value.astype(np.float32, copy=False).view(np.uint32)
    if mode == "rz":
        kept = bits >> np.uint32(16)
    else:
        kept = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(
            16
        )
    return np.where(np.isnan(value), np.uint32(0x7FFF), kept).astype(np.uint16)


def to_f16(value: Array, mode: str = "rn") -> Array:
    """Round to the bits of a binary16: to nearest even, or ``rz``."""
    near = value.astype(np.float16)
    if mode == "rz":
        beyond = np.abs(near.astype(np.float64)) > np.abs(value.astype(np.float64))
        near = np.where(beyond, np.nextafter(near, np.float16(0)), near)
    return np.where(np.isnan(near), np.uint16(0x7FFF), near.view(np.uint16))


def from_bf16(bits: Array) -> Array:
    """Return the value of bfloat16 bits as binary32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_tf32(value: Array, mode: str) -> Array:
    """Round binary32 to the 10 fraction bits of TF32: ``rna`` (ties away), ``rn`` or ``rz``."""
    bits = value.view(np.uint32)
    half = {
        "rna": np.uint32(0x1000),
        "rn": np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1)),
        "rz": np.uint32(0),
    }[mode]
    kept = (bits + half) & np.uint32(0xFFFF_E000)
    return np.where(np.isnan(value), np.uint32(0x7FFF_FFFF), kept).view(np.float32)


def flush(value: Array) -> Array:
    """Return ``value`` with subnormal binary32 numbers as zeros of their sign (``.ftz``)."""
    small = np.abs(value) < np.float32(F32_TINY)
    if not small.any():
        return value
    return np.where(small, np.copysign(np.float32(0), value), value)
