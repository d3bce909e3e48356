"""The rule of ``nn.resize``: coordinates in f64, then taps looked up and weighted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, f64
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.ops.resample import ResizeOp
from tapeout.ir.tile.ops import index_operand
from tapeout.ir.types import spec
from tapeout.passes.tile.places import (
    Index,
    Pairs,
    Shape,
    accumulator,
    clamped,
    number,
    real,
    within,
)
from tapeout.passes.tile.rules.lookup import read
from tapeout.passes.tile.rules.reals import Real, cubic, triangle
from tapeout.passes.tile.rules.taps import nest

if TYPE_CHECKING:
    from tapeout.passes.tile.pull import Pull

# The widest filter on either side: a picture shrunk by more is read at its centre only.
MOST_TAPS = 1 << 16


def resize(pull: Pull, op: ResizeOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """Read at the place that each result element comes from."""
    b, dims = pull.builder, spec(op.x).dims
    axes = [a for a in range(len(dims)) if _is_resized(op, a)]
    places = {a: _place(pull, op, a, index[a], shape) for a in axes}
    if op.mode.data == "nearest":
        found = {a: _rounded(p, op.nearest.data).integer() for a, p in places.items()}
        y = _look_up(pull, op, index, shape, bounds, found)
    else:
        y = _weighted(pull, op, index, shape, bounds, places)
    if op.coordinate.data != "tf_crop_and_resize":
        return y
    for axis, place in places.items():
        low = place.compare("lt", 0.0)
        out = b.map("or", low, place.compare("gt", Real(b, real(b, dims[axis] - 1))))
        other = b.full(op.extrapolation.data, (1, 1), spec(op.y).dtype)
        y = b.map("where", out, other, y)
    return y


def _is_resized(op: ResizeOp, axis: int) -> bool:
    scale = 1.0 if op.scales is None else op.scales.data[axis]
    same = spec(op.x).dims[axis] == op.sizes.data[axis]
    return not (same and scale == 1 and op.roi is None)


def _scale(pull: Pull, op: ResizeOp, axis: int) -> Real:
    b = pull.builder
    size, count = spec(op.x).dims[axis], op.sizes.data[axis]
    if op.scales is not None:
        return Real(b, b.full(op.scales.data[axis], (1, 1), f64))
    return Real(b, real(b, count)) / Real(b, real(b, size))


def _place(pull: Pull, op: ResizeOp, axis: int, at: Expr, shape: Shape) -> Real:
    """Where an element of the result lies between those of ``x``; see ``ir.sampling``."""
    b, rank = pull.builder, spec(op.x).rank
    x, scale = Real(b, real(b, at, shape)), _scale(pull, op, axis)
    size, count = (Real(b, real(b, e)) for e in (spec(op.x).dims[axis], op.sizes.data[axis]))
    length = scale * size
    single = length.compare("eq", 1.0)
    kind = op.coordinate.data
    if kind == "align_corners":
        return x.lift(0.0).where(single, x * (size - 1.0) / (length - 1.0))
    if kind == "asymmetric":
        return x / scale
    if kind == "tf_crop_and_resize":
        assert op.roi is not None, "a crop has its region"
        first, last = op.roi.data[axis], op.roi.data[rank + axis]
        middle = (size - 1.0) * (first + last) / 2.0
        steps = x * (last - first) * (size - 1.0) / (length - 1.0)
        return middle.where(single, steps + first * (size - 1.0))
    half = (x + 0.5) / scale - 0.5
    if kind == "pytorch_half_pixel":
        return x.lift(-0.5).where(single, half)
    if kind == "half_pixel_symmetric":
        return size / 2.0 * (1.0 - count / length) + half
    return half


def _rounded(place: Real, nearest: str) -> Real:
    match nearest:
        case "round_prefer_floor":
            return (place - 0.5).ceil()
        case "round_prefer_ceil":
            return (place + 0.5).floor()
        case "floor":
            return place.floor()
        case _:
            return place.ceil()


def _look_up(
    pull: Pull,
    op: ResizeOp,
    index: Index,
    shape: Shape,
    bounds: Pairs,
    found: dict[int, SSAValue],
) -> SSAValue:
    """The elements at clamped places."""
    dims, moved, tiles = spec(op.x).dims, list(index), list[SSAValue]()
    for axis, at in found.items():
        moved[axis] = index_operand(len(tiles))
        tiles.append(clamped(pull.builder, at, dims[axis]))
    return read(pull, op.x, tuple(moved), shape, bounds, tiles)


def _weighted(
    pull: Pull,
    op: ResizeOp,
    index: Index,
    shape: Shape,
    bounds: Pairs,
    places: dict[int, Real],
) -> SSAValue:
    """The sum of taps times their weights, over the sum of the weights."""
    b, dims, source = pull.builder, spec(op.x).dims, spec(op.x).dtype
    dtype = accumulator(source) if source.is_float else f32
    linear = op.mode.data == "linear"
    kernel, reach = (triangle, 1) if linear else (partial(cubic, a=op.cubic_a.data), 2)
    shrinks = {a: _scale(pull, op, a).min(1.0) for a in places} if op.antialias.data else {}
    lows, counts = _windows(places, reach, shrinks)

    def step(at: Sequence[Expr], carried: list[SSAValue]) -> list[SSAValue]:
        weight, found = Real(b, b.full(1.0, (1, 1), f64)), dict[int, SSAValue]()
        for (axis, place), low, tap in zip(places.items(), lows, at, strict=True):
            found[axis] = b.map("add", low, number(b, tap))
            distance = Real(b, b.convert(found[axis], f64)) - place
            here = kernel(distance * shrinks[axis] if axis in shrinks else distance)
            if op.exclude_outside.data:
                here = here.where(within(b, found[axis], dims[axis]), 0.0)
            weight = weight * here
        value = b.convert(_look_up(pull, op, index, shape, bounds, found), dtype)
        total = b.map("fma", value, weight.to(dtype).tile, carried[0])
        return [total, b.map("add", carried[1], weight.tile)]

    start = [b.full(0, shape, dtype), b.full(0, shape, f64)]
    total, weights = nest(pull, counts, start, step)
    y = Real(b, total) / Real(b, weights).to(dtype)
    return b.convert(y.tile, source, saturate=not source.is_float)


def _windows(
    places: dict[int, Real], reach: int, shrinks: dict[int, Real]
) -> tuple[list[SSAValue], list[Expr | SSAValue]]:
    """Per axis the first tap and the number of taps that can have a weight.

    ``shrinks`` says how much the kernel is stretched, to smooth while the picture shrinks.
    """
    lows: list[SSAValue] = []
    counts: list[Expr | SSAValue] = []
    for axis, place in places.items():
        b, first = place.b, place.floor()
        if axis in shrinks:
            span = (float(reach) / shrinks[axis]).ceil().clip(1.0, float(MOST_TAPS))
            lows.append((first - span).integer())
            counts.append(clamped(b, (span * 2.0 + 2.0).integer(), 2 * MOST_TAPS + 3))
        else:
            lows.append((first - float(reach - 1)).integer())
            counts.append(as_expr(2 * reach))
    return lows, counts
