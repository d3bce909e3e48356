"""Running sums and products: one serial loop along the axis, all other axes side by side."""

from __future__ import annotations

from collections.abc import Set

from tapeout.ir.expr import ONE
from tapeout.ir.ops.reduce import CumulativeOp, identity
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import Bounds
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, accumulator, start
from tapeout.passes.tile.loops import Places, lanes_along


def lower_cumulative(kernel: KernelOp, machine: Machine, _: Set[int]) -> Lowered:
    """The tile program of a lone running sum or product."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, CumulativeOp))
    dims, dtype = spec(root.x).dims, accumulator(spec(root.x).dtype)
    axis: int = root.axis.data % len(dims)
    fn: str = root.fn.data
    b, pull = start(kernel, f"cumulative {fn} along axis {axis} -> [{', '.join(map(str, dims))}]")
    others = [a for a in range(len(dims)) if a != axis]

    def body(places: Places, width: int, bounds: Bounds) -> None:
        first = b.full(identity(fn, dtype.numpy), (1, width), dtype)
        with b.loop("k", 0, dims[axis], ONE, [first]) as loop, pull.scope():
            here = dims[axis] - 1 - loop.iv if root.reverse.data else loop.iv
            index = [here if a == axis else places[a] for a in range(len(dims))]
            x = b.convert(pull.at(root.x, index, (1, width), tuple(bounds)), dtype)
            (before,) = loop.carried
            after = b.map("add" if fn == "sum" else "mul", before, x)
            given = before if root.exclusive.data else after
            b.store(b.convert(given, spec(root.y).dtype), b.outputs[0], index, bounds)
            loop.next = [after]

    # Lanes run along an axis of their own; an axis that is summed last leaves none to spare.
    lanes = machine.lanes if others and others[-1] == len(dims) - 1 else 1
    lanes_along(b, pull, dims, others, lanes, body)
    return Lowered(b.program)
