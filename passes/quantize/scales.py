"""Scales and zero points for groups of weights: from the extremes, or the least squared error.

The extremes decide like this, with ``lo`` and ``hi`` widened to hold zero:

* symmetric, 8 bits: ``scale = max|w| / 127``;
* symmetric, 2 to 7 bits: the weight of greatest magnitude takes the code ``-2**(bits - 1)``, so
  the scale is *negative* where that weight is positive. All codes are in use: at 4 bits a step
  is ``max|w| / 8`` instead of ``/ 7``. A weight at the other end may be one step off, not half;
* one signed bit, codes -1 and +1: ``scale = mean|w|``, which is where the squared error is least;
* asymmetric: ``scale = (hi - lo) / high``, ``zero = -lo / scale`` rounded, so that 0 has a code.

A scale is rounded to its type before any code is made from it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from tapeout.ir.dtypes import DType, bf16, f16, f32
from tapeout.ir.errors import CompileError
from tapeout.passes.quantize.weights import WeightFormat, decode, nearest

Array = np.ndarray[Any, Any]
Grid: TypeAlias = tuple[Array, Array | None]
"""Scales, in their type, and zero points where there are some."""

RATIOS = np.linspace(1.0, 0.3, 15)
"""Parts of the extremes that the search tries; the first is the answer without a search."""

_NORMAL = {f32: 2.0**-126, bf16: 2.0**-126, f16: 2.0**-14}
"""The least normal number of each scale type."""

_UNIT = {f32: 2.0**-126, bf16: 2.0**-126, f16: 2.0**-24}
"""What a scale below the normal numbers is a multiple of.

Subnormal f16 numbers convert to f32 at full speed everywhere; subnormal f32 and bf16 ones are
flushed to zero in some kernels' floating-point mode, so the least normal number takes their place.
"""

_CHUNK = 1 << 18
"""Elements that the search works on at a time: they and their temporaries stay in cache."""


def fit(
    groups: Array, importance: Array, format: WeightFormat, name: str, search: bool = False
) -> Grid:
    """Scales and zero points ``[N, G]`` for finite ``groups [N, G, W]`` in f32.

    ``importance [G, W]`` weighs squared errors, and is 0 where a group is only filled up.
    Errors: E0702 where the scale type cannot hold a scale.
    """
    if format.bipolar:
        return bipolar(groups, importance, format, name), None
    if not search:
        return from_extremes(*extremes(groups), format, name)
    rows = max(1, _CHUNK // max(1, groups.shape[1] * groups.shape[2]))
    chunks = [groups[i : i + rows] for i in range(0, max(1, len(groups)), rows)]
    found = [searched(chunk, importance, format, name) for chunk in chunks]
    zeros = [zero for _, zero in found if zero is not None]
    return np.concatenate([s for s, _ in found]), np.concatenate(zeros) if zeros else None


def extremes(groups: Array) -> tuple[Array, Array]:
    """The least and the greatest of each group and zero, in f64."""
    lo = groups.min(axis=-1, initial=0.0).astype(np.float64)
    return lo, groups.max(axis=-1, initial=0.0).astype(np.float64)


def from_extremes(lo: Array, hi: Array, format: WeightFormat, name: str) -> Grid:
    """The grid that reaches from ``lo <= 0`` to ``hi >= 0``."""
    if format.asymmetric:
        scales = rounded((hi - lo) / format.high, format, name)
        zeros = np.rint(-lo / scales.astype(np.float64))
        return scales, np.clip(zeros, 0, format.high).astype(np.uint8)
    if format.bits == 8:
        return rounded(np.maximum(-lo, hi) / format.high, format, name), None
    return rounded(np.where(hi > -lo, hi, lo) / format.low, format, name), None


def bipolar(groups: Array, importance: Array, format: WeightFormat, name: str) -> Array:
    """The mean magnitude of each group, by importance."""
    weights = importance.astype(np.float64)
    sizes = np.einsum("ngw,gw->ng", np.abs(groups, dtype=np.float64), weights)
    return rounded(sizes / np.maximum(weights.sum(axis=1), np.finfo(np.float64).tiny), format, name)


def searched(groups: Array, importance: Array, format: WeightFormat, name: str) -> Grid:
    """The grid of least squared error among shrunk ones, and mirrored ones where that differs."""
    lo, hi = extremes(groups)
    # Powers of two change no code, and keep squares of tiny and huge weights in range.
    exponents = np.frexp(np.maximum(hi, -lo))[1]
    near = np.ldexp(groups, -exponents[..., None])
    roots = np.sqrt(importance)
    scales, zeros = from_extremes(lo, hi, format, name)
    least = np.full(lo.shape, np.inf)
    mirrored = not format.asymmetric and format.bits < 8
    for ratio in RATIOS:
        made, shifted = from_extremes(lo * ratio, hi * ratio, format, name)
        for grid in ((made, shifted), (-made, shifted)) if mirrored else ((made, shifted),):
            steps = np.ldexp(grid[0].astype(np.float32), -exponents)
            error = squared_error(near, roots, (steps, grid[1]), format)
            better = error < least
            least = np.where(better, error, least)
            scales = np.where(better, grid[0], scales)
            if zeros is not None and grid[1] is not None:
                zeros = np.where(better, grid[1], zeros)
    return scales, zeros


def squared_error(groups: Array, roots: Array, grid: Grid, format: WeightFormat) -> Array:
    """The squared error of each group ``[N, G]``; ``roots [G, W]`` is what errors count for."""
    scales, zeros = (None if part is None else part[..., None] for part in grid)
    assert scales is not None, "a grid has scales"
    errors = decode(nearest(groups, scales, zeros, format), scales, zeros)
    errors -= groups
    errors *= roots
    return np.einsum("ngw,ngw->ng", errors, errors)


def rounded(scales: Array, format: WeightFormat, name: str) -> Array:
    """f64 ``scales`` in the format's type, none of them 0, infinite or a subnormal f32.

    All-zero groups get 1. What is too small becomes the least scale, and all weights of its
    group are nearest to 0. Errors: E0702 where a code would mean more than f32 can hold.
    """
    to = format.scale
    tiny, unit = _NORMAL[to], _UNIT[to]
    sizes = np.abs(scales)
    # Below the normal numbers a type has few digits; rounding up keeps the extremes in range.
    sizes = np.where(sizes < tiny, np.ceil(sizes / unit) * unit, sizes)
    with np.errstate(over="ignore"):
        made = np.where(scales == 0, 1.0, np.copysign(sizes, scales)).astype(to.numpy)
    tops = np.abs(made.astype(np.float64)) * format.reach
    if tops.size and not tops.max() <= float(np.finfo(np.float32).max):
        raise _too_large(name, float(sizes.max()), to)
    return made


def _too_large(name: str, scale: float, to: DType) -> CompileError:
    wider = "give this layer f32 scales, as in w4g32-f32, or " if to is f16 else ""
    return CompileError(
        "E0702",
        f"a weight is too large for scales of type {to}",
        [("weight", name), ("scale", f"{scale:.4g}")],
        f"{wider}leave it in floating point with the format none",
    )
