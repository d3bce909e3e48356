"""Rules of windows and products at any layout: one result element is a loop over its taps.

These serve what the strategies of :mod:`conv`, :mod:`window` and :mod:`product` do not take:
filters that are no constants, channels first, element types without a register tile. Lanes run
along whatever axis the kernel stores last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ONE, ZERO, Expr, as_expr, ceildiv, maximum, minimum
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.conv_transpose import ConvTransposeOp
from tapeout.ir.ops.pool import MaxPoolIndicesOp, PoolOp
from tapeout.ir.ops.reduce import identity
from tapeout.ir.tile.ops import index_operand
from tapeout.ir.types import spec
from tapeout.passes.tile.places import Index, Pairs, Shape, accumulator, number
from tapeout.passes.tile.rules.search import better

if TYPE_CHECKING:
    from tapeout.passes.tile.pull import Pull

Carried = list[SSAValue]
Step = Callable[[Index, Carried], Carried]


def nest(pull: Pull, sizes: Sequence[Expr | SSAValue], carried: Carried, step: Step) -> Carried:
    """Serial loops over ``sizes`` around ``step``, which maps carried tiles to the next ones.

    A size that data decides is an i64 tile ``[1, 1]``.
    """

    def inner(at: Index, carried: Carried) -> Carried:
        if len(at) == len(sizes):
            return step(at, carried)
        size = sizes[len(at)]
        if isinstance(size, Expr) and size == 1:
            return inner((*at, ZERO), carried)
        hi, indices = (size, []) if isinstance(size, Expr) else (index_operand(0), [size])
        loop_over = pull.builder.loop("t", 0, hi, ONE, carried, indices=indices)
        with loop_over as loop, pull.scope():
            loop.next = inner((*at, loop.iv), loop.carried)
        return loop.results

    return inner((), carried)


def matmul(pull: Pull, op: MatmulOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """The sum over ``k``, in order."""
    b, dtype = pull.builder, accumulator(spec(op.y).dtype)
    *batch, row, column = index

    def of(value: SSAValue, *last: Expr) -> list[Expr]:
        own = spec(value).dims[:-2]
        tail = batch[len(batch) - len(own) :]
        return [*(ZERO if d == 1 else i for d, i in zip(own, tail, strict=True)), *last]

    def step(at: Index, carried: Carried) -> Carried:
        (k,) = at
        last = (column, k) if op.transpose_b.data else (k, column)
        x = b.convert(pull.at(op.a, of(op.a, row, k), shape, bounds), dtype)
        w = b.convert(pull.at(op.b, of(op.b, *last), shape, bounds), dtype)
        return [pull.builder.multiply_add(x, w, carried[0])]

    total = nest(pull, [spec(op.a).dims[-1]], [b.full(0, shape, dtype)], step)
    return b.convert(total[0], spec(op.y).dtype)


def conv(pull: Pull, op: ConvOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """The sum over input channels and kernel positions."""
    b, dtype, x = pull.builder, accumulator(spec(op.y).dtype), spec(op.x).dims
    last, n = op.channels_last.data, len(op.strides.data)
    out, places = (index[-1], index[1:-1]) if last else (index[1], index[2:])
    channels, *kernel = spec(op.w).dims[1:]
    group = out // (spec(op.w).dims[0] // op.groups.data) if op.groups.data > 1 else ZERO

    def step(at: Index, carried: Carried) -> Carried:
        c, *tap = at
        spatial = [
            places[i] * op.strides.data[i] - op.pads.data[i] + tap[i] * op.dilations.data[i]
            for i in range(n)
        ]
        source = group * channels + c
        here = (index[0], *spatial, source) if last else (index[0], source, *spatial)
        inside = _rims(spatial, x[1:-1] if last else x[2:], op.pads.data)
        value = b.convert(pull.within(op.x, here, shape, bounds, inside), dtype)
        w = b.convert(pull.at(op.w, (out, c, *tap), shape, bounds), dtype)
        return [pull.builder.multiply_add(value, w, carried[0])]

    total = nest(pull, [channels, *kernel], [b.full(0, shape, dtype)], step)[0]
    return _biased(pull, op.bias, total, out, shape, bounds, op.y)


def _rims(places: Sequence[Expr], sizes: Sequence[Expr], pads: Sequence[int]) -> Pairs:
    n = len(places)
    return tuple((places[i], sizes[i]) for i in range(n) if pads[i] or pads[n + i])


def conv_transpose(
    pull: Pull, op: ConvTransposeOp, index: Index, shape: Shape, bounds: Pairs
) -> SSAValue:
    """The sum over the elements that reach this place: those where the stride divides the way."""
    b, dtype, x = pull.builder, accumulator(spec(op.y).dtype), spec(op.x).dims
    n, out = len(op.strides.data), index[1]
    per_group, *kernel = spec(op.w).dims[1:]
    channels = x[1] // op.groups.data
    group = out // per_group if op.groups.data > 1 else ZERO

    def step(at: Index, carried: Carried) -> Carried:
        c, *tap = at
        way = [index[2 + i] + op.pads.data[i] - tap[i] * op.dilations.data[i] for i in range(n)]
        spatial = [w // s for w, s in zip(way, op.strides.data, strict=True)]
        hits = [(w % s, ONE) for w, s in zip(way, op.strides.data, strict=True) if s > 1]
        inside = (*hits, *zip(spatial, x[2:], strict=True))
        source = group * channels + c
        value = pull.within(op.x, (index[0], source, *spatial), shape, bounds, inside)
        w = pull.at(op.w, (source, out - group * per_group, *tap), shape, bounds)
        return [pull.builder.multiply_add(b.convert(value, dtype), b.convert(w, dtype), carried[0])]

    total = nest(pull, [channels, *kernel], [b.full(0, shape, dtype)], step)[0]
    return _biased(pull, op.bias, total, out, shape, bounds, op.y)


def _biased(
    pull: Pull,
    bias: SSAValue | None,
    total: SSAValue,
    out: Expr,
    shape: Shape,
    bounds: Pairs,
    y: SSAValue,
) -> SSAValue:
    b, dtype = pull.builder, accumulator(spec(y).dtype)
    if bias is not None:
        tile = b.convert(pull.at(bias, (out,), shape, bounds), dtype)
        total = b.map("add", total, tile)
    return b.convert(total, spec(y).dtype)


def pool(pull: Pull, op: PoolOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """The kernel positions combined one after the other."""
    b, dtype, x = pull.builder, accumulator(spec(op.y).dtype), spec(op.x).dims
    last, n = op.channels_last.data, len(op.kernel.data)
    places, sizes = (index[1:-1], x[1:-1]) if last else (index[2:], x[2:])
    fn = "max" if op.fn.data == "max" else "add"
    fill = identity("max" if fn == "max" else "sum", dtype.numpy)

    def step(at: Index, carried: Carried) -> Carried:
        spatial = _window(op, places, at)
        here = (index[0], *spatial, index[-1]) if last else (*index[:2], *spatial)
        inside = tuple(zip(spatial, sizes, strict=True))
        value = b.convert(pull.within(op.x, here, shape, bounds, inside, fill), dtype)
        return [b.map(fn, carried[0], value)]

    kernel = list(map(as_expr, op.kernel.data))
    total = nest(pull, kernel, [b.full(fill, shape, dtype)], step)[0]
    if op.fn.data == "mean":
        count = ONE
        for i in range(n):
            d, k = op.dilations.data[i], op.kernel.data[i]
            first = places[i] * op.strides.data[i] - op.pads.data[i]
            low = maximum(0, ceildiv(-first, d))
            count = count * maximum(0, minimum(k, ceildiv(sizes[i] - first, d)) - low)
        total = b.map("div", total, b.convert(number(b, count, shape), dtype))
    return b.convert(total, spec(op.y).dtype)


def _window(op: PoolOp | MaxPoolIndicesOp, places: Sequence[Expr], tap: Index) -> list[Expr]:
    n = len(op.kernel.data)
    return [
        places[i] * op.strides.data[i] - op.pads.data[i] + tap[i] * op.dilations.data[i]
        for i in range(n)
    ]


def max_pool_indices(
    pull: Pull, op: MaxPoolIndicesOp, index: Index, shape: Shape, bounds: Pairs
) -> tuple[SSAValue, SSAValue]:
    """The largest so far and its number; a place outside the input has the number -1."""
    b, dtype, sizes = pull.builder, accumulator(spec(op.y).dtype), spec(op.x).dims[2:]
    fill = identity("max", dtype.numpy)

    def step(at: Index, carried: Carried) -> Carried:
        spatial = _window(op, index[2:], at)
        inside = tuple(zip(spatial, sizes, strict=True))
        here = (*index[:2], *spatial)
        new = b.convert(pull.within(op.x, here, shape, bounds, inside, fill), dtype)
        old, where = carried
        order = list(zip(spatial, sizes, strict=True))
        flat = index[0] * spec(op.x).dims[1] + index[1]
        inner, total = ZERO, ONE
        for place, size in order if op.column_major.data else reversed(order):
            inner, total = inner + place * total, total * size
        number_here = number(b, flat * total + inner, shape)
        wins = b.map("or", better(b, "max", new, old), b.map("lt", where, number(b, 0)))
        for place, size in inside:
            at_place = number(b, place, shape)
            wins = b.map("and", wins, b.map("ge", at_place, number(b, 0)))
            wins = b.map("and", wins, b.map("lt", at_place, number(b, size)))
        return [b.map("where", wins, new, old), b.map("where", wins, number_here, where)]

    start = [b.full(fill, shape, dtype), b.full(-1, shape, i64)]
    y, where = nest(pull, list(map(as_expr, op.kernel.data)), start, step)
    return b.convert(y, spec(op.y).dtype), where
