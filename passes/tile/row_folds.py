"""One reduction of a kernel of rows, as a pass over its reduced axes.

When vectors run along a reduced axis, a pass accumulates in vectors and folds them at its end
(:func:`horizontal`); when they run along a kept one, nothing folds (:func:`vertical`).
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.ir.expr import Expr
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.reduce import ReduceOp, identity
from tapeout.ir.tile.ops import Bounds, lane, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.places import Index, Pairs, Shape
from tapeout.passes.tile.pull import Maker
from tapeout.passes.tile.row_space import Carried, RowSpace


def held(tile: SSAValue) -> Maker:
    """A reduction's result, wherever it is read along the row."""

    def maker(index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
        return tile

    return maker


def vertical(space: RowSpace, op: ReduceOp, width: int, bounds: Pairs) -> SSAValue:
    """The reduction at one vector of kept places."""
    fn, dtype = op.fn.data, spec(op.x).dtype
    start = space.b.full(identity(fn, dtype.numpy), (1, width), dtype)

    def point(carried: Carried) -> Carried:
        x = space.pull.at(op.x, space.index, (1, width), bounds)
        return [space.combine(fn, carried[0], x)]

    return space.nest(space.reduced, [start], point)[0]


def horizontal(space: RowSpace, op: ReduceOp) -> SSAValue:
    """The reduction of one row: partial results in vectors, then all of their lanes."""
    fn, dtype = op.fn.data, spec(op.x).dtype
    start = identity(fn, dtype.numpy)
    starts = [space.b.full(start, (1, w), dtype) for w in space.widths]
    scratch = _scratch_for(space, op)

    def body(first: Expr, width: int, bounds: Bounds, carried: Carried) -> Carried:
        space.index[space.axis] = first + lane(1, width)
        x = space.pull.at(op.x, space.index, (1, width), tuple(bounds))
        if scratch is not None:
            space.b.store(x, scratch, [space.index[a] for a in space.reduced], bounds)
        return [space.combine(fn, carried[0], _masked(space, x, width, bounds, start))]

    def point(carried: Carried) -> Carried:
        return [group[0] for group in space.along("k", [[c] for c in carried], body)]

    others = [a for a in space.reduced if a != space.axis]
    totals = [space.b.reduce(fn, t, 1) for t in space.nest(others, starts, point)]
    if scratch is not None:
        space.pull.made[op.x] = _reloaded(space, scratch)
    return _combined(space, fn, totals)


def _combined(space: RowSpace, fn: str, totals: Sequence[SSAValue]) -> SSAValue:
    total = totals[0]
    for other in totals[1:]:
        total = space.combine(fn, total, other)
    return total


def _masked(
    space: RowSpace, x: SSAValue, width: int, bounds: Bounds, identity_value: float
) -> SSAValue:
    """Lanes beyond the row become the identity."""
    b = space.b
    for e, n in bounds:
        inside = b.map("lt", b.index(e, (1, width)), b.index(n, (1, 1)))
        x = b.map("where", inside, x, b.full(identity_value, (1, 1), tile_of(x).dtype))
    return x


def _scratch_for(space: RowSpace, op: ReduceOp) -> SSAValue | None:
    """A row of scratch for a computed operand that later passes read again."""
    computed = isinstance(op.x.owner, MapOp | ConvertOp)
    if not computed or op.x in space.pull.made or len(list(op.x.uses)) < 2:
        return None
    return space.b.alloc([space.dims[a] for a in space.reduced], spec(op.x).dtype)


def _reloaded(space: RowSpace, scratch: SSAValue) -> Maker:
    def maker(index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
        return space.b.load(scratch, [index[a] for a in space.reduced], shape, bounds)

    return maker
