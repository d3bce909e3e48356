"""Rules of operators that read where a tensor of indices, or a fold of the index, says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from xdsl.ir import SSAValue

from tapeout.ir.expr import Expr, maximum, minimum
from tapeout.ir.ops.index import GatherElementsOp, GatherNdOp, GatherOp
from tapeout.ir.ops.views import PadOp
from tapeout.ir.tile.ops import index_operand
from tapeout.ir.types import spec
from tapeout.passes.tile.places import Index, NotPullable, Pairs, Shape, lanes_within, wrapped

if TYPE_CHECKING:
    from tapeout.passes.tile.pull import Pull


def table(pull: Pull, value: SSAValue) -> SSAValue:
    """The buffer of a value that is read at looked-up places."""
    if value not in pull.buffers:
        raise NotPullable("a look-up reads a table in memory")
    return pull.buffers[value]


def read(
    pull: Pull, value: SSAValue, index: Index, shape: Shape, bounds: Pairs, at: list[SSAValue]
) -> SSAValue:
    """Load a table at an index that holds ``index_operand(i)`` for the tiles of ``at``."""
    kept = tuple(pair for pair in bounds if lanes_within(pair, shape))
    return pull.builder.load(table(pull, value), index, shape, kept, indices=at)


def gather(pull: Pull, op: GatherOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """Look a row up: an index tile, wrapped when negative and clamped, then a load through it."""
    axis: int = op.axis.data % spec(op.x).rank
    places = spec(op.indices).rank
    where = pull.at(op.indices, index[axis : axis + places], shape, bounds)
    where = wrapped(pull.builder, where, spec(op.x).dims[axis])
    moved = (*index[:axis], index_operand(0), *index[axis + places :])
    return read(pull, op.x, moved, shape, bounds, [where])


def gather_elements(
    pull: Pull, op: GatherElementsOp, index: Index, shape: Shape, bounds: Pairs
) -> SSAValue:
    """Look one element up."""
    axis: int = op.axis.data % spec(op.x).rank
    where = wrapped(pull.builder, pull.at(op.indices, index, shape, bounds), spec(op.x).dims[axis])
    moved = (*index[:axis], index_operand(0), *index[axis + 1 :])
    return read(pull, op.x, moved, shape, bounds, [where])


def gather_nd(pull: Pull, op: GatherNdOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """Look an element of a slice up: one index tile for each axis that a place names."""
    dims, lead = spec(op.x).dims, spec(op.indices).rank - 1
    batch: int = op.batch_dims.data
    depth = int(spec(op.indices).dims[-1])
    where = [
        wrapped(
            pull.builder,
            pull.at(op.indices, (*index[:lead], Expr({(): i})), shape, bounds),
            dims[batch + i],
        )
        for i in range(depth)
    ]
    named = tuple(index_operand(i) for i in range(depth))
    moved = (*index[:batch], *named, *index[lead:])
    return read(pull, op.x, moved, shape, bounds, where)


def folded(pull: Pull, op: PadOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """A pad that repeats ``x``: the index is folded back into it, so nothing is looked up."""
    fold = FOLDS[op.mode.data]
    moved = [
        i if low == 0 and high == 0 else fold(i - low, n)
        for i, n, low, high in zip(index, spec(op.x).dims, op.low.data, op.high.data, strict=True)
    ]
    return pull.at(op.x, moved, shape, bounds)


def _edge(i: Expr, size: Expr) -> Expr:
    return maximum(0, minimum(i, size - 1))


def _reflect(i: Expr, size: Expr) -> Expr:
    """Back and forth with a period of ``2 * (size - 1)``, at least 1."""
    around = i % maximum(2 * size - 2, 1)
    return minimum(around, 2 * size - 2 - around)


def _wrap(i: Expr, size: Expr) -> Expr:
    return i % size


FOLDS: Mapping[str, Callable[[Expr, Expr], Expr]] = {
    "edge": _edge,
    "reflect": _reflect,
    "wrap": _wrap,
}
"""By the mode of a pad: the place inside an axis of ``size`` that place ``i`` repeats."""
