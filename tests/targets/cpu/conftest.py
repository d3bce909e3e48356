"""What machines do with products of bf16 and f32, in numpy: exact, then rounded as each rounds."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]

LEAST = np.float32(2.0**-126)
"""The least normal number."""


def exact_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """``x + y`` of f64 in two parts: rounded to nearest, and what that leaves."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def to_odd(total: Array, rest: Array) -> Array:
    """The f64 beside ``total + rest`` whose last bit is 1, or the sum where it is exact."""
    bits = total.view(np.int64)
    towards_zero = (rest != 0) & (np.signbit(rest) != np.signbit(total))
    bits = bits - towards_zero
    return np.where(rest != 0, bits | 1, total.view(np.int64)).view(np.float64)


def fma(a: Array, b: Array, c: Array) -> Array:
    """``a * b + c`` rounded once, of bf16 and f32: their product is exact in f64."""
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) * b.astype(np.float64)
        total, rest = exact_sum(product, c.astype(np.float64))
        plain = ~np.isfinite(total) | ~np.isfinite(rest)
        return np.where(plain, total, to_odd(total, rest)).astype(np.float32)


def flushed(x: Array) -> Array:
    """``x`` with subnormal numbers as zeros of their sign."""
    return np.where(np.abs(x) < LEAST, np.copysign(np.float32(0), x), x).astype(np.float32)


def flushing_fma(a: Array, b: Array, c: Array) -> Array:
    """:func:`fma` that neither takes nor gives subnormal numbers.

    A result is flushed by its size with an exponent that has no least value: what would round up to
    the least normal number only because subnormals are sparse is flushed too.
    """
    a, b, c = flushed(a), flushed(b), flushed(c)
    y = fma(a, b, c)
    with np.errstate(all="ignore"):
        unbounded = fma(a * np.float32(2.0**64), b, c * np.float32(2.0**64))
    tiny = np.abs(unbounded) < LEAST * np.float32(2.0**64)
    return np.where(tiny, np.copysign(np.float32(0), y), y)


def x86_pair(a: Array, b: Array, c: Array) -> Array:
    """VDPBF16PS for ``a`` and ``b`` of ``[2, ...]``: the odd product first."""
    return flushing_fma(a[0], b[0], flushing_fma(a[1], b[1], c))


def odd_f32(total: Array, rest: Array) -> Array:
    """``total + rest`` rounded to odd in f32; infinite beyond its range, subnormals flushed."""
    bits = to_odd(total, rest).view(np.int64)
    kept, lost = bits >> 29 << 29, (bits & ((1 << 29) - 1)) != 0
    made = np.where(lost, kept | (1 << 29), kept).view(np.float64)
    with np.errstate(all="ignore"):
        narrow = np.where(np.isfinite(total), made, total).astype(np.float32)
    return flushed(narrow)


def arm_pair(a: Array, b: Array, c: Array) -> Array:
    """BFDOT for ``a`` and ``b`` of ``[2, ...]``: the sum of both products first."""
    a, b, c = flushed(a), flushed(b), flushed(c)
    with np.errstate(all="ignore"):
        products = a.astype(np.float64) * b.astype(np.float64)
        parts = [odd_f32(p, np.zeros_like(p)).astype(np.float64) for p in products]
        pair = odd_f32(*exact_sum(*parts)).astype(np.float64)
        return odd_f32(*exact_sum(pair, c.astype(np.float64)))


@pytest.fixture(scope="session")
def orders() -> SimpleNamespace:
    """Steps of products as instructions take them."""
    return SimpleNamespace(fma=fma, x86_pair=x86_pair, arm_pair=arm_pair)
