"""Determinants: elimination with partial pivots on a copy of each matrix, one matrix per task."""

from __future__ import annotations

from collections.abc import Set

from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, Expr
from tapeout.ir.ops.linalg import DetOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import index_operand, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, accumulator, start
from tapeout.passes.tile.loops import parallel
from tapeout.passes.tile.places import number


def lower_det(kernel: KernelOp, machine: Machine, _: Set[int]) -> Lowered:
    """The tile program of a lone determinant."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, DetOp))
    dims, dtype = spec(root.x).dims, accumulator(spec(root.x).dtype)
    b, pull = start(kernel, f"determinants of [{', '.join(map(str, dims))}]")
    *lead, size, _size = dims
    with parallel(b, pull, dict(enumerate(lead))) as places:
        work = b.alloc([size, size], dtype)
        with b.loop("i", 0, size) as i, b.loop("j", 0, size) as j, pull.scope():
            x = pull.at(root.x, [*places.values(), i.iv, j.iv], (1, 1))
            b.store(b.convert(x, dtype), work, [i.iv, j.iv])
        with b.loop("k", 0, size, ONE, [b.full(1, (1, 1), dtype)]) as k, pull.scope():
            k.next = [_eliminate(b, work, k.iv, size, k.carried[0])]
        y = b.convert(k.results[0], spec(root.y).dtype)
        b.store(y, b.outputs[0], list(places.values()))
    return Lowered(b.program)


def _eliminate(b: TileBuilder, work: SSAValue, k: Expr, size: Expr, total: SSAValue) -> SSAValue:
    """Bring the largest of column ``k`` up, clear what is below, multiply the pivot in."""
    top = b.load(work, [k, k], (1, 1))
    with b.loop("i", k, size, ONE, [b.map("abs", top), number(b, k)]) as loop:
        value = b.map("abs", b.load(work, [loop.iv, k], (1, 1)))
        best, where = loop.carried
        wins = b.map("gt", value, best)
        here = number(b, loop.iv)
        loop.next = [b.map("where", wins, value, best), b.map("where", wins, here, where)]
    pivot_row = loop.results[1]
    with b.loop("j", 0, size) as j:
        upper = b.load(work, [k, j.iv], (1, 1))
        lower = b.load(work, [index_operand(0), j.iv], (1, 1), indices=[pivot_row])
        b.store(upper, work, [index_operand(0), j.iv], indices=[pivot_row])
        b.store(lower, work, [k, j.iv])
    pivot = b.load(work, [k, k], (1, 1))
    with b.loop("i", k + 1, size) as i:
        factor = b.map("div", b.load(work, [i.iv, k], (1, 1)), pivot)
        # A column of zeros makes the determinant zero: there is nothing to clear.
        zero = b.full(0, (1, 1), tile_of(factor).dtype)
        factor = b.map("where", b.map("eq", pivot, zero), zero, factor)
        with b.loop("j", k + 1, size) as j:
            below = b.load(work, [i.iv, j.iv], (1, 1))
            above = b.load(work, [k, j.iv], (1, 1))
            b.store(b.map("sub", below, b.map("mul", factor, above)), work, [i.iv, j.iv])
    swapped = b.map("ne", pivot_row, number(b, k))
    signed = b.map("where", swapped, b.map("neg", pivot), pivot)
    return b.map("mul", total, signed)
