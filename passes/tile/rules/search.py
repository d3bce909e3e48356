"""Rules of reductions that remember where: a value and an index travel together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ONE
from tapeout.ir.ops.reduce import ArgReduceOp, identity
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.places import Index, Pairs, Shape, accumulator, number

if TYPE_CHECKING:
    from tapeout.passes.tile.pull import Pull


def better(b: TileBuilder, fn: str, new: SSAValue, old: SSAValue) -> SSAValue:
    """Where ``new`` beats ``old`` for ``max`` or ``min``; NaN beats every number, never NaN."""
    wins = b.map("gt" if fn == "max" else "lt", new, old)
    if not tile_of(new).dtype.is_float:
        return wins
    nan = b.map("and", b.map("is_nan", new), b.map("not", b.map("is_nan", old)))
    beaten = b.map("and", wins, b.map("not", b.map("is_nan", old)))
    return b.map("or", beaten, nan)


def arg_reduce(pull: Pull, op: ArgReduceOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """One loop along the axis; the lanes of the result go side by side."""
    b, x = pull.builder, spec(op.x)
    axis: int = op.axis.data % x.rank
    dtype = accumulator(x.dtype)
    fn, rest = op.fn.data, index[axis + 1 :] if op.keepdims.data else index[axis:]
    start = b.full(identity(fn, dtype.numpy), shape, dtype)
    # The first element is taken whatever it is: -1 says that none was.
    nowhere = b.full(-1, shape, i64)
    with b.loop("k", 0, x.dims[axis], ONE, [start, nowhere]) as loop, pull.scope():
        at = (*index[:axis], loop.iv, *rest)
        new = b.convert(pull.at(op.x, at, shape, bounds), dtype)
        old, where = loop.carried
        wins = better(b, fn, new, old)
        if op.last.data:
            wins = b.map("not", better(b, fn, old, new))
        wins = b.map("or", wins, b.map("lt", where, number(b, 0)))
        here = number(b, loop.iv)
        loop.next = [b.map("where", wins, new, old), b.map("where", wins, here, where)]
    return loop.results[1]
