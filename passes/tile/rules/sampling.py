"""Rules of operators that read a picture at places that data decides, between its elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ONE, ZERO, Expr, as_expr
from tapeout.ir.ops.deform_conv import DeformConvOp
from tapeout.ir.ops.resample import GridSampleOp, RoiAlignOp
from tapeout.ir.tile.ops import index_operand, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.places import (
    Index,
    Pairs,
    Shape,
    accumulator,
    clamped,
    number,
    wrapped,
)
from tapeout.passes.tile.rules.lookup import read
from tapeout.passes.tile.rules.reals import Real, cubic, triangle
from tapeout.passes.tile.rules.taps import nest

if TYPE_CHECKING:
    from tapeout.passes.tile.pull import Pull

# Samples per bin and axis of a region, so that no data makes a loop endless.
MOST_SAMPLES = 1 << 16


def _sized(pull: Pull, value: Expr, like: Real) -> Real:
    b = pull.builder
    return Real(b, b.convert(number(b, value), like.dtype))


def sample(
    pull: Pull,
    x: SSAValue,
    lead: Index,
    places: Sequence[Real],
    mode: str,
    padding: str,
    align_corners: bool,
    shape: Shape,
    bounds: Pairs,
) -> Real:
    """``x[*lead, *places]`` in the type of the places; see ``ir.sampling.sample``."""
    b, sizes = pull.builder, spec(x).dims[len(lead) :]
    first, count = {"nearest": (0, 1), "linear": (0, 2), "cubic": (-1, 4)}[mode]
    lows = [p.map("round") if mode == "nearest" else p.floor() for p in places]
    dtype = places[0].dtype

    def step(at: Sequence[Expr], carried: list[SSAValue]) -> list[SSAValue]:
        weight, found = Real(b, b.full(1.0, (1, 1), dtype)), list[SSAValue]()
        for low, place, size, tap in zip(lows, places, sizes, at, strict=True):
            here = low + Real(b, b.convert(number(b, tap), dtype)) + float(first)
            if mode != "nearest":
                distance = here - place
                weight = weight * (
                    triangle(distance) if mode == "linear" else cubic(distance, -0.75)
                )
            extent = _sized(pull, size, here)
            if padding == "zeros":
                inside = b.map("and", here.compare("ge", 0.0), here.compare("lt", extent))
                weight = weight.where(inside, 0.0)
            elif padding == "reflection":
                here = _reflected(here, extent, align_corners)
            found.append(clamped(b, here.clip(0.0, extent - 1.0).integer(), size))
        operands = tuple(index_operand(i) for i in range(len(found)))
        value = b.convert(read(pull, x, (*lead, *operands), shape, bounds, found), dtype)
        return [b.map("add", carried[0], (weight * Real(b, value)).tile)]

    taps = [as_expr(count)] * len(places)
    return Real(b, nest(pull, taps, [b.full(0, shape, dtype)], step)[0])


def _reflected(at: Real, size: Real, align_corners: bool) -> Real:
    """Mirrored at the centres of the outermost elements, or else at their outer edges."""
    if align_corners:
        period = (2.0 * (size - 1.0)).max(1.0)
        folded = at.map("floor_mod", period)
        return folded.min(period - folded)
    folded = at.map("floor_mod", 2.0 * size)
    return folded.min(2.0 * size - 1.0 - folded)


def grid_sample(
    pull: Pull, op: GridSampleOp, index: Index, shape: Shape, bounds: Pairs
) -> SSAValue:
    """Read ``x`` where the grid says, which names the last axis first."""
    b, n = pull.builder, spec(op.x).rank - 2
    wide = accumulator(spec(op.grid).dtype)
    align = op.align_corners.data
    places: list[Real] = []
    for i in range(n):
        at = (index[0], *index[2:], as_expr(n - 1 - i))
        unit = Real(b, b.convert(pull.at(op.grid, at, shape, bounds), wide))
        size = _sized(pull, spec(op.x).dims[2 + i], unit)
        edge = ((unit + 1.0) * size - 1.0) / 2.0
        places.append((unit + 1.0) / 2.0 * (size - 1.0) if align else edge)
    y = sample(pull, op.x, index[:2], places, op.mode.data, op.padding.data, align, shape, bounds)
    return b.convert(y.tile, spec(op.y).dtype)


def deform_conv(
    pull: Pull, op: DeformConvOp, index: Index, shape: Shape, bounds: Pairs
) -> SSAValue:
    """A convolution whose taps are sampled at moved places."""
    b, dtype = pull.builder, accumulator(spec(op.y).dtype)
    n, out, *places = index
    channels, *kernel = spec(op.w).dims[1:]
    group = out // (spec(op.w).dims[0] // op.groups.data) if op.groups.data > 1 else ZERO
    share = spec(op.x).dims[1] // op.offset_groups.data

    def step(at: Index, carried: list[SSAValue]) -> list[SSAValue]:
        c, *tap = at
        source = group * channels + c
        part = (source // share * kernel[0] + tap[0]) * kernel[1] + tap[1]
        moved: list[Real] = []
        for i in range(2):
            base = places[i] * op.strides.data[i] - op.pads.data[i] + tap[i] * op.dilations.data[i]
            offset = pull.at(op.offset, (n, part * 2 + i, *places), shape, bounds)
            offset = Real(b, b.convert(offset, dtype))
            moved.append(Real(b, b.convert(number(b, base, shape), dtype)) + offset)
        lead = (n, source)
        value = sample(pull, op.x, lead, moved, "linear", "zeros", True, shape, bounds)
        if op.mask is not None:
            mask = pull.at(op.mask, (n, part, *places), shape, bounds)
            value = value * Real(b, b.convert(mask, dtype))
        w = b.convert(pull.at(op.w, (out, c, *tap), shape, bounds), dtype)
        return [b.map("fma", value.tile, w, carried[0])]

    total = nest(pull, [channels, *kernel], [b.full(0, shape, dtype)], step)[0]
    if op.bias is not None:
        total = b.map("add", total, b.convert(pull.at(op.bias, (out,), shape, bounds), dtype))
    return b.convert(total, spec(op.y).dtype)


def roi_align(pull: Pull, op: RoiAlignOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """Sample a bin of a region on a regular grid and combine what was read."""
    b, dtype = pull.builder, accumulator(spec(op.y).dtype)
    region, channel, *bins = index
    image = pull.at(op.batch, (region,), shape, bounds)
    image = wrapped(b, image, spec(op.x).dims[0])
    lines = [_Line(pull, op, region, axis, bins[axis], shape, bounds) for axis in range(2)]
    start = 0.0 if op.mode.data == "avg" else float("-inf")
    total = b.full(start, shape, dtype)
    with lines[0].loop([total]) as rows, pull.scope():
        with lines[1].loop(rows.carried) as columns, pull.scope():
            taps = [line.taps(at.iv) for line, at in zip(lines, (rows, columns), strict=True)]
            total = columns.carried[0]
            live = b.map("and", taps[0][2], taps[1][2])
            for row, row_weight in zip(taps[0][0], taps[0][1], strict=True):
                for column, column_weight in zip(taps[1][0], taps[1][1], strict=True):
                    at = (index_operand(0), channel, index_operand(1), index_operand(2))
                    value = read(pull, op.x, at, shape, bounds, [image, row, column])
                    here = Real(b, b.convert(value, dtype)) * (row_weight * column_weight)
                    fn = "add" if op.mode.data == "avg" else "max"
                    total = b.map("where", live, b.map(fn, total, here.tile), total)
            columns.next = [total]
        rows.next = columns.results
    y = Real(b, rows.results[0])
    count = b.map("mul", lines[0].samples, lines[1].samples)
    if op.mode.data == "avg":
        y = y / Real(b, b.convert(b.map("max", count, number(b, 1)), dtype))
    else:
        y = y.where(b.map("gt", count, number(b, 0)), 0.0)
    return b.convert(y.tile, spec(op.y).dtype)


class _Line:
    """The samples of a bin along one axis."""

    def __init__(
        self,
        pull: Pull,
        op: RoiAlignOp,
        region: Expr,
        axis: int,
        place: Expr,
        shape: Shape,
        bounds: Pairs,
    ) -> None:
        self.pull, self.b, self.size = pull, pull.builder, spec(op.x).dims[2 + axis]
        dtype = accumulator(spec(op.x).dtype)

        def side(which: int) -> Real:
            tile = pull.at(op.rois, (region, as_expr(which)), shape, bounds)
            moved = Real(self.b, self.b.convert(tile, dtype)) * op.scale.data
            return moved - 0.5 if op.half_pixel.data else moved

        low, high = side(1 - axis), side(3 - axis)
        extent = high - low if op.half_pixel.data else (high - low).max(1.0)
        self.step = extent / float(op.sizes.data[axis])
        ratio = op.sampling_ratio.data
        if ratio > 0:
            self.samples = self.b.full(ratio, (1, 1), i64)
        else:
            many = self.step.ceil().clip(0.0, float(MOST_SAMPLES)).integer()
            self.samples = clamped(self.b, many, MOST_SAMPLES)
        here = Real(self.b, self.b.convert(number(self.b, place, shape), dtype))
        self.first = low + here * self.step

    def loop(self, carried: Sequence[SSAValue]):
        """As often as the lane with most samples needs."""
        most = self.samples
        for axis, size in enumerate(tile_of(most).shape):
            most = self.b.reduce("max", most, axis) if size > 1 else most
        return self.b.loop("s", 0, index_operand(0), ONE, carried, indices=[most])

    def taps(self, at: Expr) -> tuple[list[SSAValue], list[Real], SSAValue]:
        """The two elements of a sample, their weights, and where there is such a sample."""
        b = self.b
        nth = Real(b, b.convert(number(b, at), self.first.dtype))
        count = Real(b, b.convert(self.samples, self.first.dtype)).max(1.0)
        place = self.first + (nth + 0.5) * self.step / count
        extent = _sized(self.pull, self.size, place)
        inside = b.map("and", place.compare("ge", -1.0), place.compare("le", extent))
        live = b.map("lt", number(b, at), self.samples)
        place = place.clip(0.0, extent - 1.0)
        top = Real(b, b.convert(number(b, self.size - 2), place.dtype)).max(0.0)
        first = place.floor().min(top)
        part = (place - first).where(inside, 0.0)
        rest = (1.0 - (place - first)).where(inside, 0.0)
        element = clamped(b, first.integer(), self.size)
        following = clamped(b, b.map("add", element, number(b, 1)), self.size)
        return [element, following], [rest, part], live
