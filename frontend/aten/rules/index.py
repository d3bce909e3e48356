"""Reading and writing at places that data names."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Argument, Builder, axis_of
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.dtypes import boolean, i64
from tapeout.ir.expr import Expr, ExprLike, as_expr
from tapeout.ir.ops.index import (
    GatherElementsOp,
    GatherNdOp,
    GatherOp,
    ScatterElementsOp,
    ScatterNdOp,
)
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


@rule("aten.index_select")
def index_select(b: Builder, call: Call, x: SSAValue, dim: int, places: SSAValue) -> SSAValue:
    """Places of one axis."""
    flat = b.reshape(places, (spec(places).size,))
    return b.reshape(b.op(GatherOp, x, flat, axis=axis_of(x, dim)), call.output.dims)


@rule("aten.gather")
def gather(
    b: Builder, call: Call, x: SSAValue, dim: int, places: SSAValue, *, sparse_grad: bool = False
) -> SSAValue:
    """One place of an axis for each element of the result."""
    if not spec(x).rank:
        return b.expand(x, call.output.dims)
    return b.op(GatherElementsOp, x, places, axis=axis_of(x, dim))


@rule("aten.index")
def index(b: Builder, call: Call, x: SSAValue, places: Sequence[SSAValue | None]) -> SSAValue:
    """Advanced indexing: index tensors of some axes meet in one broadcast shape.

    It stands where the first of them is if they are neighbours, else in front, as in numpy.
    """
    named = _integer_places(call, places)
    axes = list(named)
    if len(axes) == 1:
        return b.reshape(b.op(GatherOp, x, named[axes[0]], axis=axes[0]), call.output.dims)
    perm = [*axes, *(a for a in range(spec(x).rank) if a not in named)]
    turned = x if perm == list(range(len(perm))) else b.transpose(x, perm)
    dims = broadcast(*(spec(v).dims for v in named.values()))
    y = b.op(GatherNdOp, turned, _joined(b, list(named.values()), dims), batch_dims=0)
    neighbours = axes == list(range(axes[0], axes[0] + len(axes)))
    if not neighbours or axes[0] == 0:
        return y
    n, before = len(dims), axes[0]
    return b.transpose(y, [*range(n, n + before), *range(n), *range(n + before, spec(y).rank)])


@rule("aten.index_put", "aten._unsafe_index_put")
def index_put(
    b: Builder,
    call: Call,
    x: SSAValue,
    places: Sequence[SSAValue | None],
    values: SSAValue,
    accumulate: bool = False,
) -> SSAValue:
    """``x`` with other values at the places that index tensors of the leading axes name."""
    if len(places) == 1 and places[0] is not None and spec(places[0]).dtype is boolean:
        return _put_where(b, call, x, places[0], values, accumulate)
    named = _integer_places(call, places)
    if list(named) != list(range(len(named))):
        call.refuse("index tensors have support on leading axes only", ("axes", list(named)))
    dims = broadcast(*(spec(v).dims for v in named.values()))
    updates = b.expand(values, (*dims, *spec(x).dims[len(named) :]))
    fn = "sum" if accumulate else "none"
    return b.op(ScatterNdOp, x, _joined(b, list(named.values()), dims), updates, fn=fn)


def _put_where(
    b: Builder, call: Call, x: SSAValue, mask: SSAValue, values: SSAValue, accumulate: bool
) -> SSAValue:
    """One value where a mask holds."""
    if spec(values).size != as_expr(1):
        call.refuse("a mask with several values has no support", ("values", spec(values).dims))
    rest = spec(x).rank - spec(mask).rank
    wide = b.reshape(mask, (*spec(mask).dims, *[1] * rest))
    one = b.reshape(values, ())
    return b.map("where", wide, b.map("add", x, one) if accumulate else one, x)


def _integer_places(call: Call, places: Sequence[SSAValue | None]) -> dict[int, SSAValue]:
    named = {axis: p for axis, p in enumerate(places) if p is not None}
    if any(spec(p).dtype is boolean for p in named.values()):
        call.refuse(
            "a mask as index makes a tensor of a size that data decides",
            fix="use torch.where, or index with integers",
        )
    return named


def _joined(b: Builder, places: Sequence[SSAValue], dims: Sequence[Expr]) -> SSAValue:
    """Index tensors as places: ``[*dims, number of axes]``."""
    wide = [b.reshape(b.expand(b.convert(p, i64), dims), (*dims, 1)) for p in places]
    return wide[0] if len(wide) == 1 else b.op(ConcatOp, tuple(wide), axis=len(dims))


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
    """``x`` with values at one place of an axis each."""
    if not include_self:
        call.refuse("scatter_reduce without the old values has no support")
    if reduce == "mean":
        call.refuse("a mean of what meets at a place has no support")
    updates = b.operand(values, spec(x).dtype)
    updates = b.expand(updates, spec(places).dims) if not spec(updates).rank else updates
    updates = _cut(b, updates, spec(places).dims)
    fn = "none" if reduce is None else _REDUCTIONS[reduce]
    return b.op(ScatterElementsOp, x, places, updates, axis=axis_of(x, dim), fn=fn)


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
    axis, first, count = axis_of(x, dim), as_expr(start or 0), spec(values).dims[axis_of(x, dim)]
    if step != 1 or (first.constant is not None and first.constant < 0):
        call.refuse("only a slice of step 1 that counts from the front can be replaced")
    behind = first + count
    parts = [b.part(x, axis, 0, first), values]
    parts.append(b.part(x, axis, behind, spec(x).dims[axis] - behind))
    kept = tuple(p for p in parts if spec(p).dims[axis] != as_expr(0))
    return kept[0] if len(kept) == 1 else b.op(ConcatOp, kept, axis=axis)


@rule("aten.select_scatter")
def select_scatter(
    b: Builder, call: Call, x: SSAValue, values: SSAValue, dim: int, place: ExprLike
) -> SSAValue:
    """``x`` with one place of an axis replaced."""
    axis, at = axis_of(x, dim), as_expr(place)
    at = at + spec(x).dims[axis] if at.constant is not None and at.constant < 0 else at
    dims = [as_expr(1) if i == axis else d for i, d in enumerate(spec(x).dims)]
    return slice_scatter(b, call, x, b.reshape(values, dims), axis, at, at + 1)
