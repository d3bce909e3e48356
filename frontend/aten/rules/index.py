"""Reading and writing at places that data names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Argument, Builder, axis_of
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.frontend.aten.rules.decided import non_zero
from tapeout.frontend.aten.rules.pointwise import quotient
from tapeout.frontend.aten.rules.views import clamped, from_front
from tapeout.ir.dtypes import boolean, i64, u8
from tapeout.ir.expr import Expr, ExprLike, as_expr
from tapeout.ir.ops.index import (
    GatherElementsOp,
    GatherNdOp,
    GatherOp,
    ScatterElementsOp,
    ScatterNdOp,
)
from tapeout.ir.ops.reduce import CumulativeOp, ReduceOp, identity
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.shapes import broadcast
from tapeout.ir.types import spec

_REDUCTIONS = {"sum": "sum", "prod": "prod", "amax": "max", "amin": "min", "add": "sum"}
_REDUCTIONS["multiply"] = "prod"


@rule("aten.embedding")
def embedding(
    b: Builder,
    call: Call,
    table: SSAValue,
    places: SSAValue,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> SSAValue:
    """Rows of a table."""
    return b.op(GatherOp, table, places, axis=0)


@rule("aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(
    b: Builder,
    call: Call,
    table: SSAValue,
    places: SSAValue,
    starts: SSAValue,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    weights: SSAValue | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[SSAValue, ...]:
    """Sum (``mode`` 0), mean or greatest of the rows of each bag; 0 for an empty one."""
    if any(user.args[1] for user in call.node.users):
        call.refuse("only its first result has support")
    dtype, (bags, width) = spec(table).dtype, call.output.dims
    # A row is in the last bag that starts at it or before.
    begun = b.map("le", b.part(starts, 0, 0, bags), b.iota((spec(places).size, 1), 0))
    bag = b.map(
        "sub", b.op(ReduceOp, b.convert(begun, i64), fn="sum", axes=(1,)), b.constant(1, i64)
    )
    bag = b.reshape(bag, (spec(places).size, 1))
    rows = b.op(GatherOp, table, places, axis=0)
    counts = b.map("ne", places, b.like(padding_idx, places))
    column = b.reshape(counts, (spec(places).size, 1))
    fn = "max" if mode == 2 else "sum"
    lowest = b.like(identity(fn, dtype.numpy), table)
    if weights is not None:
        rows = b.map("mul", rows, b.reshape(weights, (spec(places).size, 1)))
    rows = b.map("where", column, rows, lowest)
    y = b.op(ScatterNdOp, b.expand(lowest, (bags, width)), bag, rows, fn=fn)
    none = b.expand(b.like(0, table), (bags,))
    sizes = b.reshape(b.op(ScatterNdOp, none, bag, b.convert(counts, dtype), fn="sum"), (bags, 1))
    if mode == 1:
        y = b.map("div", y, b.map("max", sizes, b.like(1, table)))
    return (b.map("where", b.map("gt", sizes, b.like(0, table)), y, b.like(0, table)),)


@rule("aten.index_select")
def index_select(b: Builder, call: Call, x: SSAValue, dim: int, places: SSAValue) -> SSAValue:
    """Places of one axis."""
    flat = b.reshape(places, (spec(places).size,))
    x = x if spec(x).rank else b.reshape(x, (1,))
    return b.reshape(b.op(GatherOp, x, flat, axis=axis_of(x, dim)), call.output.dims)


@rule("aten.gather")
def gather(
    b: Builder, call: Call, x: SSAValue, dim: int, places: SSAValue, *, sparse_grad: bool = False
) -> SSAValue:
    """One place of an axis for each element of the result."""
    # torch takes places of no elements for a tensor of any shape.
    if not spec(x).rank or call.output.size == as_expr(0):
        return b.expand(x if not spec(x).rank else b.like(0, x), call.output.dims)
    return b.op(GatherElementsOp, x, b.convert(places, i64), axis=axis_of(x, dim))


@rule("aten.index", "aten._unsafe_index")
def index(b: Builder, call: Call, x: SSAValue, places: Sequence[SSAValue | None]) -> SSAValue:
    """Advanced indexing: index tensors of some axes meet in one broadcast shape.

    It stands where the first of them is if they are neighbours, else in front, as in numpy. A mask
    stands for the places where it holds; how many there are, data decides.
    """
    named = _places(b, call, places, call.output.dims)
    axes = list(named)
    if len(axes) == 1:
        return b.reshape(b.op(GatherOp, x, named[axes[0]], axis=axes[0]), call.output.dims)
    dims = broadcast(*(spec(v).dims for v in named.values()))
    y = b.op(GatherNdOp, _in_front(b, x, axes), _joined(b, named, dims), batch_dims=0)
    neighbours = axes == list(range(axes[0], axes[0] + len(axes)))
    if neighbours and axes[0]:
        n, before = len(dims), axes[0]
        y = b.transpose(y, [*range(n, n + before), *range(n), *range(n + before, spec(y).rank)])
    return b.reshape(y, call.output.dims)


@rule("aten.index_put", "aten._unsafe_index_put")
def index_put(
    b: Builder,
    call: Call,
    x: SSAValue,
    places: Sequence[SSAValue | None],
    values: SSAValue,
    accumulate: bool = False,
) -> SSAValue:
    """``x`` with other values at the places that index tensors name."""
    if len(places) == 1 and places[0] is not None and _is_mask(places[0]):
        if spec(values).size == as_expr(1):
            return _put_where(b, x, places[0], values, accumulate)
    named = _places(b, call, places, ())
    axes = list(named)
    dims = broadcast(*(spec(v).dims for v in named.values()))
    rest = [d for axis, d in enumerate(spec(x).dims) if axis not in named]
    # Values have the shape that indexing would give; axes in front of the named ones move behind.
    neighbours = axes == list(range(axes[0], axes[0] + len(axes)))
    before = axes[0] if neighbours else 0
    wide = b.expand(values, (*rest[:before], *dims, *rest[before:]))
    n, rank = len(dims), len(dims) + len(rest)
    order = [*range(before, before + n), *range(before), *range(before + n, rank)]
    updates = wide if not before else b.transpose(wide, order)
    fn = "sum" if accumulate else "none"
    if accumulate and spec(x).dtype is boolean:
        fn, x, updates = "max", b.convert(x, u8), b.convert(updates, u8)
    turned = _in_front(b, x, axes)
    y = b.op(ScatterNdOp, turned, _joined(b, named, dims), updates, fn=fn)
    first = [*axes, *(a for a in range(spec(x).rank) if a not in named)]
    back = [first.index(a) for a in range(len(first))]
    y = y if back == list(range(len(back))) else b.transpose(y, back)
    return b.convert(y, call.dtype)


def _put_where(
    b: Builder, x: SSAValue, mask: SSAValue, values: SSAValue, accumulate: bool
) -> SSAValue:
    """One value where a mask holds."""
    rest = spec(x).rank - spec(mask).rank
    wide = b.reshape(b.convert(mask, boolean), (*spec(mask).dims, *[1] * rest))
    one = b.reshape(values, ())
    if accumulate:
        one = b.map("or" if spec(x).dtype is boolean else "add", x, one)
    return b.map("where", wide, one, x)


def _is_mask(place: SSAValue) -> bool:
    """Bools, and bytes as torch had them before bools."""
    return spec(place).dtype in (boolean, u8)


def _places(
    b: Builder, call: Call, places: Sequence[SSAValue | None], dims: Sequence[Expr]
) -> dict[int, SSAValue]:
    """Index tensors by axis; a mask becomes one for each of its axes."""
    named, axis = dict[int, SSAValue](), 0
    for place in places:
        if place is None:
            axis += 1
        elif _is_mask(place):
            if not spec(place).rank:
                call.refuse("a mask without axes has no support", fix="use torch.where")
            columns = non_zero(b, b.convert(place, boolean), dims)
            for row in range(spec(place).rank):
                named[axis] = b.reshape(b.part(columns, 0, row, 1), spec(columns).dims[1:])
                axis += 1
        else:
            named[axis] = b.convert(place, i64)
            axis += 1
    return named


def _in_front(b: Builder, x: SSAValue, axes: Sequence[int]) -> SSAValue:
    """``x`` with some axes before all others."""
    perm = [*axes, *(a for a in range(spec(x).rank) if a not in axes)]
    return x if perm == list(range(len(perm))) else b.transpose(x, perm)


def _joined(b: Builder, named: Mapping[int, SSAValue], dims: Sequence[Expr]) -> SSAValue:
    """Index tensors as places: ``[*dims, number of axes]``."""
    wide = tuple(b.reshape(b.expand(p, dims), (*dims, 1)) for p in named.values())
    return wide[0] if len(wide) == 1 else b.op(ConcatOp, wide, axis=len(dims))


@rule("aten.masked_scatter")
def masked_scatter(
    b: Builder, call: Call, x: SSAValue, mask: SSAValue, values: SSAValue
) -> SSAValue:
    """``x`` with one value after the other where a mask holds."""
    dims = call.output.dims
    flat = b.reshape(b.expand(mask, dims), (call.output.size,))
    before = b.op(CumulativeOp, b.convert(flat, i64), fn="sum", axis=0, exclusive=True)
    count = spec(values).size
    if count == as_expr(0):
        return b.expand(x, dims)
    # Behind the last place that takes a value the count goes on, so it has to stop somewhere.
    at = b.map("min", before, b.size(count - 1, i64))
    taken = b.op(GatherOp, b.reshape(values, (count,)), at, axis=0)
    return b.map("where", b.reshape(flat, dims), b.reshape(taken, dims), b.expand(x, dims))


@rule("aten.scatter", "aten.scatter_reduce")
def scatter(
    b: Builder,
    call: Call,
    x: SSAValue,
    dim: int,
    places: SSAValue,
    values: Argument,
    reduce: str | None = None,
    *,
    include_self: bool = True,
) -> SSAValue:
    """``x`` with values at one place of an axis each; what was there counts, or does not."""
    if spec(places).size == as_expr(0):
        return x
    places, updates = b.convert(places, i64), b.operand(values, spec(x).dtype)
    updates = b.expand(updates, spec(places).dims) if not spec(updates).rank else updates
    if not spec(x).rank:
        x, places, updates = (b.reshape(v, (1,)) for v in (x, places, updates))
    updates = _cut(b, updates, spec(places).dims)
    place = {"axis": axis_of(x, dim)}
    if reduce is None:
        y = b.op(ScatterElementsOp, x, places, updates, fn="none", **place)
        return b.reshape(y, call.output.dims)
    ones = b.expand(b.like(1, x), spec(places).dims)
    mean, fn = reduce == "mean", _REDUCTIONS.get(reduce, "sum")
    start = x
    if not include_self:
        nothing = b.expand(b.like(identity(fn, spec(x).dtype.numpy), x), spec(places).dims)
        start = b.op(ScatterElementsOp, x, places, nothing, fn="none", **place)
    y = b.op(ScatterElementsOp, start, places, updates, fn=fn, **place)
    if mean:
        count = b.expand(b.like(int(include_self), x), spec(x).dims)
        count = b.op(ScatterElementsOp, count, places, ones, fn="sum", **place)
        whole = None if spec(x).dtype.is_float else "floor"
        y = quotient(b, y, b.map("max", count, b.like(1, x)), whole)
    return b.reshape(y, call.output.dims)


@rule("aten.scatter_add")
def scatter_add(
    b: Builder, call: Call, x: SSAValue, dim: int, places: SSAValue, values: SSAValue
) -> SSAValue:
    """``x`` plus values at one place of an axis each."""
    return scatter(b, call, x, dim, places, values, "sum")


def _cut(b: Builder, x: SSAValue, dims: Sequence[Expr]) -> SSAValue:
    for axis, size in enumerate(dims):
        x = x if spec(x).dims[axis] == size else b.part(x, axis, 0, size)
    return x


@rule("aten.slice_scatter")
def slice_scatter(
    b: Builder,
    call: Call,
    x: SSAValue,
    values: SSAValue,
    dim: int = 0,
    start: ExprLike | None = None,
    end: ExprLike | None = None,
    step: int = 1,
) -> SSAValue:
    """``x`` with a slice of it replaced."""
    axis = axis_of(x, dim)
    size, count = spec(x).dims[axis], spec(values).dims[axis]
    first = clamped(call, start or 0, size)
    if count == as_expr(0):
        return x
    if step != 1:
        places = b.map("mul", b.iota((count, 1), 0), b.constant(step, i64))
        places = b.map("add", places, b.size(first, i64))
        front = [axis, *(a for a in range(spec(x).rank) if a != axis)]
        turned = (b.transpose(x, front), places, b.transpose(values, front))
        y = b.op(ScatterNdOp, *turned, fn="none")
        return b.transpose(y, [front.index(a) for a in range(len(front))])
    behind = first + count
    parts = [b.part(x, axis, 0, first), values, b.part(x, axis, behind, size - behind)]
    kept = tuple(p for p in parts if spec(p).dims[axis] != as_expr(0))
    return kept[0] if len(kept) == 1 else b.op(ConcatOp, kept, axis=axis)


@rule("aten.select_scatter")
def select_scatter(
    b: Builder, call: Call, x: SSAValue, values: SSAValue, dim: int, place: ExprLike
) -> SSAValue:
    """``x`` with one place of an axis replaced."""
    axis = axis_of(x, dim)
    at = from_front(call, place, spec(x).dims[axis])
    dims = [as_expr(1) if i == axis else d for i, d in enumerate(spec(x).dims)]
    return slice_scatter(b, call, x, b.reshape(values, dims), axis, at, at + 1)
