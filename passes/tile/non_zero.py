"""Places of what is not zero: one pass counts them, one writes them down in order."""

from __future__ import annotations

from collections.abc import Set

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.ops.sort import NonZeroOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import index_operand
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine
from tapeout.passes.tile.late import counting, filling
from tapeout.passes.tile.loops import parallel
from tapeout.passes.tile.places import number
from tapeout.passes.tile.pull import Pull
from tapeout.passes.tile.rules.taps import nest


def lower_non_zero(kernel: KernelOp, machine: Machine, _: Set[int]) -> Lowered:
    """The count and the fill program of a lone non-zero."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, NonZeroOp))
    dims = spec(root.x).dims
    what = f"of [{', '.join(map(str, dims))}] that are not zero"
    counter, pull = counting(kernel, f"how many elements {what}", [])
    with parallel(counter, pull, {}):
        total = _sweep(counter, pull, root, None)
        counter.store(total, counter.outputs[-1], [as_expr(0)])
    b, pull, _state, target = filling(kernel, f"places of elements {what}", [])
    with parallel(b, pull, {}):
        _sweep(b, pull, root, target[root.y])
    return Lowered(b.program, count=counter.program)


def _sweep(b: TileBuilder, pull: Pull, root: NonZeroOp, y: SSAValue | None) -> SSAValue:
    """Count in row-major order; write each place into its column of ``y`` on the way."""
    dims = spec(root.x).dims

    def step(at: tuple[Expr, ...], carried: list[SSAValue]) -> list[SSAValue]:
        x = pull.at(root.x, at, (1, 1))
        there = b.map("ne", x, b.full(0, (1, 1), spec(root.x).dtype))
        if y is not None:
            column = b.map("where", there, carried[0], number(b, -1))
            inside = [(index_operand(0), root.count.data[0])]
            for axis, place in enumerate(at):
                index = [as_expr(axis), index_operand(0)]
                b.store(number(b, place), y, index, inside, [column])
        return [b.map("add", carried[0], b.convert(there, i64))]

    return nest(pull, dims, [b.full(0, (1, 1), i64)], step)[0]
