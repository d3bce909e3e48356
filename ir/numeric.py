"""Numpy helpers that the reference meanings of several operators share."""

from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from tapeout.ir.dtypes import DType, dtype_of, f32, i8, u8

Array = np.ndarray[Any, Any]


def is_narrow(dtype: DType) -> bool:
    """Whether operators compute it in f32: every float below 32 bits."""
    return dtype.is_float and dtype.bits < 32


def is_byte(dtype: DType) -> bool:
    """Whether products of it are summed in i32: the 8-bit integers."""
    return dtype is i8 or dtype is u8


def wide(x: Array) -> Array:
    """``x`` in the type that operators compute it in."""
    return x.astype(f32.numpy) if is_narrow(dtype_of(x)) else x


def saturated(x: Array, to: np.dtype[Any]) -> Array:
    """``x`` toward zero in an integer type, with what is out of range at its ends."""
    info = ml_dtypes.iinfo(to)
    return np.clip(np.trunc(x), float(info.min), float(info.max)).astype(to)


def window_taps(
    x: Array,
    fill: Any,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    sizes: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each kernel position, the element that it meets in every window.

    ``x [N, C, *S]``, ``pads`` all low sides, then all high sides; yields position and a view
    ``[N, C, *sizes]`` of ``x`` padded with ``fill``, as far as the last window reaches.
    """
    reach = [
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    widths = [
        (low, max(0, r - low - size))
        for low, r, size in zip(pads, reach, x.shape[2:], strict=False)
    ]
    padded = x
    if any(low or high for low, high in widths):
        padded = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=fill)
    for tap in np.ndindex(*kernel):
        starts = [t * d for t, d in zip(tap, dilations, strict=True)]
        window = tuple(
            slice(a, a + max(0, (o - 1) * s + 1), s)
            for a, o, s in zip(starts, sizes, strides, strict=True)
        )
        yield tap, padded[(slice(None), slice(None), *window)]
