"""The k largest of each line, one pass over the line for each.

A pass finds the best element among those that come after the one found before, in the total
order "larger value, then lower index"; nothing is moved and no scratch is needed. That is
``n * k / lanes`` steps, which beats a sort for the small ``k`` that models ask for.
"""

from __future__ import annotations

from collections.abc import Set

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ONE
from tapeout.ir.ops.sort import TopKOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, accumulator, start
from tapeout.passes.tile.loops import Places, lanes_along
from tapeout.passes.tile.places import number


def before(b: TileBuilder, largest: bool, x: SSAValue, y: SSAValue) -> SSAValue:
    """Where value ``x`` is ordered strictly before ``y``; NaN counts as the largest."""
    first = b.map("gt" if largest else "lt", x, y)
    if not tile_of(x).dtype.is_float:
        return first
    lone, other = (x, y) if largest else (y, x)
    return b.map("or", first, b.map("and", b.map("is_nan", lone), _numeric(b, other)))


def _numeric(b: TileBuilder, x: SSAValue) -> SSAValue:
    return b.map("not", b.map("is_nan", x))


def lower_top_k(kernel: KernelOp, machine: Machine, _: Set[int]) -> Lowered:
    """The tile program of a lone top-k, lines side by side in lanes."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, TopKOp))
    dims, dtype = spec(root.x).dims, accumulator(spec(root.x).dtype)
    axis: int = root.axis.data % len(dims)
    largest: bool = root.largest.data
    what = f"{root.k.data[0]} {'largest' if largest else 'smallest'}"
    b, pull = start(kernel, f"the {what} along axis {axis} of [{', '.join(map(str, dims))}]")
    others = [a for a in range(len(dims)) if a != axis]

    def pick(places: Places, width: int, bounds: Bounds, last: list[SSAValue]) -> list[SSAValue]:
        """The best element after ``last``, a value and its index (-1: none yet)."""
        shape = (1, width)
        none = [b.full(0, shape, dtype), b.full(-1, shape, i64)]
        with b.loop("i", 0, dims[axis], ONE, none) as loop, pull.scope():
            index = [loop.iv if a == axis else places[a] for a in range(len(dims))]
            x = b.convert(pull.at(root.x, index, shape, tuple(bounds)), dtype)
            here, (best, where) = number(b, loop.iv), loop.carried
            # After the last: strictly later in value, or its equal with a higher index.
            tie = b.map("not", before(b, largest, x, last[0]))
            later = b.map("gt", here, last[1])
            after = b.map("or", before(b, largest, last[0], x), b.map("and", tie, later))
            after = b.map("or", after, b.map("lt", last[1], number(b, 0)))
            wins = b.map("or", before(b, largest, x, best), b.map("lt", where, number(b, 0)))
            take = b.map("and", after, wins)
            loop.next = [b.map("where", take, x, best), b.map("where", take, here, where)]
        return loop.results

    def body(places: Places, width: int, bounds: Bounds) -> None:
        shape = (1, width)
        first = [b.full(0, shape, dtype), b.full(-1, shape, i64)]
        with b.loop("k", 0, root.k.data[0], ONE, first) as loop, pull.scope():
            found = pick(places, width, bounds, loop.carried)
            index = [loop.iv if a == axis else places[a] for a in range(len(dims))]
            made: dict[SSAValue, SSAValue] = dict(zip(root.results, found, strict=True))
            for buffer, result in zip(b.outputs, kernel.returned, strict=True):
                value = b.convert(made[result], spec(result).dtype)
                b.store(value, buffer, index, bounds)
            loop.next = found

    lanes_along(b, pull, dims, others, machine.lanes if others else 1, body)
    return Lowered(b.program)
