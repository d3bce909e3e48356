"""Operators that only move elements: shapes, slices, joins, padding."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Argument, Builder, axis_of
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr, ExprLike, as_expr, bounds, maximum, minimum, product
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.pointwise import BitcastOp
from tapeout.ir.ops.views import ConcatOp, PadOp, SliceOp
from tapeout.ir.types import spec


@rule(
    *("aten.view", "aten.reshape", "aten._unsafe_view", "aten.unsqueeze", "aten.squeeze"),
    *("aten.flatten", "aten.unflatten", "aten._reshape_copy"),
)
def reshape(b: Builder, call: Call, x: SSAValue, *_: object) -> SSAValue:
    """The same elements in order; torch says the shape."""
    return b.reshape(x, call.output.dims)


@rule("aten.view.dtype")
def bitcast(b: Builder, call: Call, x: SSAValue, dtype: object) -> SSAValue:
    """Not the same elements, but the same bits."""
    if spec(x).dtype.bits != call.dtype.bits:
        call.refuse("bits seen as a type of another width have no support", fix="use .to(dtype)")
    return b.op(BitcastOp, x, to=call.dtype)


@rule("aten.permute")
def permute(b: Builder, call: Call, x: SSAValue, dims: Sequence[int]) -> SSAValue:
    """Axes in another order."""
    return _permuted(b, x, [axis_of(x, d) for d in dims])


@rule("aten.transpose")
def transpose(b: Builder, call: Call, x: SSAValue, first: int, second: int) -> SSAValue:
    """Two axes changed for each other."""
    perm = list(range(spec(x).rank))
    if perm:
        first, second = axis_of(x, first), axis_of(x, second)
        perm[first], perm[second] = perm[second], perm[first]
    return _permuted(b, x, perm)


@rule("aten.t", "aten.numpy_T")
def reverse_axes(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """All axes in reverse."""
    return _permuted(b, x, list(reversed(range(spec(x).rank))))


def _permuted(b: Builder, x: SSAValue, perm: Sequence[int]) -> SSAValue:
    return x if list(perm) == list(range(len(perm))) else b.transpose(x, perm)


@rule("aten.expand", "aten.broadcast_to")
def expand(b: Builder, call: Call, x: SSAValue, *_: object) -> SSAValue:
    """Axes of size 1 repeated; torch says the shape."""
    return x if spec(x).dims == call.output.dims else b.expand(x, call.output.dims)


@rule("aten.repeat")
def repeat(b: Builder, call: Call, x: SSAValue, repeats: Sequence[ExprLike]) -> SSAValue:
    """Each axis over and over."""
    dims = [as_expr(1)] * (len(repeats) - spec(x).rank) + list(spec(x).dims)
    counts = [as_expr(n) for n in repeats]
    split = [d for size in dims for d in (as_expr(1), size)]
    wide = [d for n, size in zip(counts, dims, strict=True) for d in (n, size)]
    return b.reshape(b.expand(b.reshape(x, split), wide), call.output.dims)


@rule("aten.repeat_interleave.self_int")
def repeat_each(
    b: Builder, call: Call, x: SSAValue, repeats: ExprLike, dim: int | None = None
) -> SSAValue:
    """Each element over and over, along an axis or of the flat tensor."""
    if dim is None:
        x, dim = b.reshape(x, (spec(x).size,)), 0
    axis, dims = axis_of(x, dim), list(spec(x).dims)
    split = b.reshape(x, [*dims[: axis + 1], 1, *dims[axis + 1 :]])
    wide = b.expand(split, [*dims[: axis + 1], as_expr(repeats), *dims[axis + 1 :]])
    return b.reshape(wide, call.output.dims)


@rule("aten.slice")
def slice_(
    b: Builder,
    call: Call,
    x: SSAValue,
    dim: int = 0,
    start: ExprLike | None = None,
    end: ExprLike | None = None,
    step: ExprLike = 1,
) -> SSAValue:
    """Every ``step``-th element from ``start`` on; torch says how many."""
    axis, steps = axis_of(x, dim), as_expr(step).constant
    if steps is None:
        call.refuse("the step of a slice must be a number")
    first = clamped(call, start if start is not None else 0, spec(x).dims[axis])
    return _cut(b, x, axis, first, call.output.dims[axis], steps)


def from_front(call: Call, place: ExprLike, size: Expr) -> Expr:
    """A place that may count from the end."""
    at = as_expr(place)
    low, high = bounds(at)
    if high is not None and high < 0:
        return at + size
    if low is None or low < 0:
        call.refuse("a place may count from either end", ("place", at), fix="torch._check(it >= 0)")
    return at


def clamped(call: Call, place: ExprLike, size: Expr) -> Expr:
    """A place that may count from the end, inside of ``[0, size]``."""
    return minimum(maximum(from_front(call, place, size), 0), size)


def _cut(
    b: Builder, x: SSAValue, axis: int, start: ExprLike, size: ExprLike, step: int = 1
) -> SSAValue:
    dims = spec(x).dims
    if step == 1 and as_expr(start) == as_expr(0) and dims[axis] == as_expr(size):
        return x
    starts = [as_expr(start) if i == axis else as_expr(0) for i in range(len(dims))]
    sizes = [as_expr(size) if i == axis else d for i, d in enumerate(dims)]
    steps = tuple(step if i == axis else 1 for i in range(len(dims)))
    return b.op(SliceOp, x, starts=tuple(starts), sizes=tuple(sizes), steps=steps)


@rule("aten.narrow")
def narrow(
    b: Builder, call: Call, x: SSAValue, dim: int, start: ExprLike, length: ExprLike
) -> SSAValue:
    """``length`` elements from ``start`` on."""
    axis = axis_of(x, dim)
    return _cut(b, x, axis, clamped(call, start, spec(x).dims[axis]), length)


@rule("aten.select")
def select(b: Builder, call: Call, x: SSAValue, dim: int, index: ExprLike) -> SSAValue:
    """One element of an axis, which goes."""
    axis = axis_of(x, dim)
    at = from_front(call, index, spec(x).dims[axis])
    return b.reshape(_cut(b, x, axis, at, 1), call.output.dims)


@rule("aten.split_with_sizes", "aten.split", "aten.chunk", "aten.unbind")
def split(
    b: Builder, call: Call, x: SSAValue, sizes: object = None, dim: int = 0
) -> tuple[SSAValue, ...]:
    """Parts side by side along an axis; torch says how large each is."""
    if call.operator == "unbind":
        axis = axis_of(x, int(str(sizes or 0)))
        lengths = [as_expr(1)] * len(call.outputs)
    else:
        axis = axis_of(x, dim)
        lengths = [part.dims[axis] for part in call.outputs]
    starts = [as_expr(0), *accumulate(lengths)]
    parts = [_cut(b, x, axis, at, n) for at, n in zip(starts[:-1], lengths, strict=True)]
    return tuple(b.reshape(p, s.dims) for p, s in zip(parts, call.outputs, strict=True))


@rule("aten.cat", "aten.concat")
def concat(b: Builder, call: Call, xs: Sequence[SSAValue], dim: int = 0) -> SSAValue:
    """Tensors one after the other; torch leaves out those of shape ``[0]``."""
    empty = as_expr(0)
    rank = call.output.rank
    kept = [x for x in xs if spec(x).rank == rank and not (rank > 1 and spec(x).dims == (empty,))]
    same = tuple(b.convert(x, call.dtype) for x in kept)
    return same[0] if len(same) == 1 else b.op(ConcatOp, same, axis=dim % rank)


@rule("aten.stack")
def stack(b: Builder, call: Call, xs: Sequence[SSAValue], dim: int = 0) -> SSAValue:
    """Tensors one after the other along an axis of its own."""
    axis = dim % call.output.rank
    single = [as_expr(1) if i == axis else d for i, d in enumerate(call.output.dims)]
    return b.op(ConcatOp, tuple(b.reshape(b.convert(x, call.dtype), single) for x in xs), axis=axis)


@rule("aten.constant_pad_nd")
def pad(
    b: Builder, call: Call, x: SSAValue, pads: Sequence[ExprLike], value: Argument = 0
) -> SSAValue:
    """A fixed value around; pads come from the last axis on, and cut where they are negative."""
    low, high = _pads(spec(x).rank, pads)
    x = _cropped(b, x, low, high)
    fill = b.operand(value, call.dtype)
    grown = [tuple(maximum(p, 0) for p in side) for side in (low, high)]
    if all(p == as_expr(0) for side in grown for p in side):
        return x
    return b.op(PadOp, x, fill, low=grown[0], high=grown[1])


@rule(
    *("aten.reflection_pad1d", "aten.reflection_pad2d", "aten.reflection_pad3d"),
    *("aten.replication_pad1d", "aten.replication_pad2d", "aten.replication_pad3d"),
)
def pad_with_itself(b: Builder, call: Call, x: SSAValue, pads: Sequence[ExprLike]) -> SSAValue:
    """The tensor's own elements around: mirrored without the edge, or the edge."""
    low, high = _pads(spec(x).rank, pads)
    mode = "reflect" if call.operator.startswith("reflection") else "edge"
    return b.op(PadOp, x, None, low=low, high=high, mode=mode)


def _pads(rank: int, pads: Sequence[ExprLike]) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
    low, high = [as_expr(0)] * rank, [as_expr(0)] * rank
    for i, (a, z) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        low[rank - 1 - i], high[rank - 1 - i] = as_expr(a), as_expr(z)
    return tuple(low), tuple(high)


def _cropped(b: Builder, x: SSAValue, low: Sequence[Expr], high: Sequence[Expr]) -> SSAValue:
    for axis, (a, z) in enumerate(zip(low, high, strict=True)):
        before, after = maximum(-a, 0), maximum(-z, 0)
        x = _cut(b, x, axis, before, spec(x).dims[axis] - before - after)
    return x


@rule("aten.flip")
def flip(b: Builder, call: Call, x: SSAValue, dims: Sequence[int]) -> SSAValue:
    """Axes from back to front."""
    for dim in dims:
        axis = axis_of(x, dim)
        size = spec(x).dims[axis]
        x = _cut(b, x, axis, size - 1, size, -1)
    return x


@rule("aten.roll")
def roll(
    b: Builder, call: Call, x: SSAValue, shifts: Sequence[ExprLike], dims: Sequence[int] = ()
) -> SSAValue:
    """Axes turned round: what leaves at the end comes in at the front."""
    if not dims:
        flat = b.reshape(x, (spec(x).size,))
        return b.reshape(_rolled(b, flat, 0, shifts[0]), call.output.dims)
    for shift, dim in zip(shifts, dims, strict=True):
        x = _rolled(b, x, axis_of(x, dim), shift)
    return x


def _rolled(b: Builder, x: SSAValue, axis: int, shift: ExprLike) -> SSAValue:
    size = spec(x).dims[axis]
    tail = as_expr(shift) % size
    if tail == as_expr(0):
        return x
    ends = (_cut(b, x, axis, size - tail, tail), _cut(b, x, axis, 0, size - tail))
    return b.op(ConcatOp, ends, axis=axis)


@rule("aten.pixel_shuffle")
def pixel_shuffle(b: Builder, call: Call, x: SSAValue, factor: int) -> SSAValue:
    """``[..., C * r * r, H, W]`` to ``[..., C, H * r, W * r]``."""
    *lead, channels, height, width = spec(x).dims
    n = len(lead)
    split = b.reshape(x, [*lead, channels // (factor * factor), factor, factor, height, width])
    perm = [*range(n), n, n + 3, n + 1, n + 4, n + 2]
    return b.reshape(b.transpose(split, perm), call.output.dims)


@rule("aten.pixel_unshuffle")
def pixel_unshuffle(b: Builder, call: Call, x: SSAValue, factor: int) -> SSAValue:
    """``[..., C, H * r, W * r]`` to ``[..., C * r * r, H, W]``."""
    *lead, channels, height, width = spec(x).dims
    n = len(lead)
    split = b.reshape(x, [*lead, channels, height // factor, factor, width // factor, factor])
    return b.reshape(
        b.transpose(split, [*range(n), n, n + 2, n + 4, n + 1, n + 3]), call.output.dims
    )


@rule("aten.as_strided", "aten.as_strided_copy")
def strided(
    b: Builder,
    call: Call,
    x: SSAValue,
    size: Sequence[ExprLike],
    strides: Sequence[ExprLike],
    offset: ExprLike | None = None,
) -> SSAValue:
    """A view whose elements overlap or skip, as places of the flat tensor."""
    source = call.node.args[0].meta["val"]  # type: ignore[union-attr]
    if not source.is_contiguous() or source.storage_offset():
        call.refuse("only strides of a dense tensor have support", fix="use contiguous()")
    dims, steps = call.output.dims, [as_expr(s) for s in strides]
    first = as_expr(offset or 0)
    if first == as_expr(0) and spec(x).size == call.output.size:
        wide = [(d, s, c) for d, s, c in zip(dims, steps, _strides(dims), strict=True) if d != 1]
        if all(s == c for _, s, c in wide):
            return b.reshape(x, dims)
    places = b.expand(b.size(first, i64), [1] * len(dims))
    for axis, step in enumerate(steps):
        line = b.iota([d if i == axis else 1 for i, d in enumerate(dims)], axis)
        places = b.map("add", places, b.map("mul", line, b.size(step, i64)))
    return b.op(GatherOp, b.reshape(x, (spec(x).size,)), places, axis=0)


def _strides(dims: Sequence[Expr]) -> list[Expr]:
    return [product(dims[axis + 1 :]) for axis in range(len(dims))]


@rule("aten.unfold", "aten.unfold_copy")
def unfold(b: Builder, call: Call, x: SSAValue, dim: int, size: int, step: int) -> SSAValue:
    """Windows of an axis, their elements on an axis of their own behind all others."""
    if not spec(x).rank:
        return b.reshape(x, call.output.dims)
    axis, count = axis_of(x, dim), call.output.dims[axis_of(x, dim)]
    starts = b.map("mul", b.iota((count, 1), 0), b.constant(step, i64))
    windows = b.op(GatherOp, x, b.map("add", starts, b.iota((1, size), 1)), axis=axis)
    rank = spec(x).rank
    return _permuted(b, windows, [a for a in range(rank + 1) if a != axis + 1] + [axis + 1])


@rule("aten.diagonal", "aten.diagonal_copy")
def diagonal(
    b: Builder, call: Call, x: SSAValue, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> SSAValue:
    """Elements ``[i, i + offset]`` of two axes, on one axis behind all others."""
    matrices, columns = _matrices(b, x, dim1, dim2)
    *batch, rows, _ = spec(matrices).dims
    count = call.output.dims[-1]
    flat = b.reshape(matrices, (*batch, rows * columns))
    start = columns * -offset if offset < 0 else as_expr(offset)
    step = b.map("mul", b.iota((count,), 0), b.size(columns + 1, i64))
    return b.op(GatherOp, flat, b.map("add", step, b.size(start, i64)), axis=len(batch))


@rule("aten.diagonal_scatter")
def diagonal_scatter(
    b: Builder,
    call: Call,
    x: SSAValue,
    values: SSAValue,
    offset: int = 0,
    dim1: int = 0,
    dim2: int = 1,
) -> SSAValue:
    """``x`` with other elements on a diagonal: row ``i`` takes the ``i``-th where it crosses it."""
    matrices, columns = _matrices(b, x, dim1, dim2)
    rank, rows, low = spec(x).rank, spec(matrices).dims[-2], max(-offset, 0)
    sides = [
        [as_expr(0)] * (rank - 2) + [e] for e in (as_expr(low), rows - low - spec(values).dims[-1])
    ]
    placed = b.op(PadOp, values, b.like(0, values), low=tuple(sides[0]), high=tuple(sides[1]))
    across = b.map("add", b.iota((rows, 1), 0), b.constant(offset, i64))
    crosses = b.map("eq", b.iota((1, columns), 1), across)
    y = b.map("where", crosses, b.reshape(placed, (*spec(placed).dims, 1)), matrices)
    first, second = axis_of(x, dim1), axis_of(x, dim2)
    back = [a for a in range(rank) if a not in (first, second)] + [first, second]
    return _permuted(b, y, [back.index(a) for a in range(rank)])


def _matrices(b: Builder, x: SSAValue, dim1: int, dim2: int) -> tuple[SSAValue, Expr]:
    """``x`` with two axes behind all others, and how many columns there are."""
    first, second = axis_of(x, dim1), axis_of(x, dim2)
    rest = [a for a in range(spec(x).rank) if a not in (first, second)]
    return _permuted(b, x, [*rest, first, second]), spec(x).dims[second]
