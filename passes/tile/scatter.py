"""Scatters: the result begins as the operand, and takes the updates in their order.

Updates that can meet at one place run one after the other, so that the last of equal indices
wins whatever the number of threads; axes along which they cannot meet run side by side.
"""

from __future__ import annotations

from collections.abc import Set

from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.expr import ONE, Expr, as_expr
from tapeout.ir.ops.index import ScatterElementsOp, ScatterNdOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, buffer_of, index_operand
from tapeout.ir.types import IntsAttr, spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, accumulator, start
from tapeout.passes.tile.loops import Places, lanes_along
from tapeout.passes.tile.places import wrapped
from tapeout.passes.tile.pull import NotPullable, Pull
from tapeout.passes.tile.rules.taps import nest

COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}


def lower_scatter(kernel: KernelOp, machine: Machine, _: Set[int]) -> Lowered:
    """The tile program of a lone scatter."""
    ops = kernel.body.block.ops
    root = next(op for op in ops if isinstance(op, ScatterElementsOp | ScatterNdOp))
    if not isinstance(root.x, BlockArgument):
        raise NotPullable("a scatter begins with what lies in memory")
    dims = spec(root.x).dims
    b, pull = start(kernel, f"scatter {root.fn.data} -> [{', '.join(map(str, dims))}]")
    b.program.begins = IntsAttr((root.x.index,))
    if isinstance(root, ScatterElementsOp):
        _elements(b, pull, root, machine.lanes)
    else:
        _slices(b, pull, root, machine.lanes)
    return Lowered(b.program)


def _update(
    b: TileBuilder,
    fn: str,
    value: SSAValue,
    index: list[Expr],
    at: list[SSAValue],
    width: int,
    bounds: Bounds,
) -> None:
    """Combine one tile of updates with what lies at its place."""
    y = b.outputs[0]
    if fn != "none":
        old = b.load(y, index, (1, width), bounds, indices=at)
        dtype = accumulator(buffer_of(y).dtype)
        value = b.map(COMBINE[fn], b.convert(old, dtype), b.convert(value, dtype))
        value = b.convert(value, buffer_of(y).dtype)
    b.store(b.broadcast(value, (1, width)), y, index, bounds, at)


def _elements(b: TileBuilder, pull: Pull, root: ScatterElementsOp, lanes: int) -> None:
    dims = spec(root.indices).dims
    axis: int = root.axis.data % spec(root.x).rank
    others = [a for a in range(len(dims)) if a != axis]

    def body(places: Places, width: int, bounds: Bounds) -> None:
        with b.loop("k", 0, dims[axis], ONE) as loop, pull.scope():
            index = [loop.iv if a == axis else places[a] for a in range(len(dims))]
            where = pull.at(root.indices, index, (1, width), tuple(bounds))
            where = wrapped(b, where, spec(root.x).dims[axis])
            value = pull.at(root.updates, index, (1, width), tuple(bounds))
            index[axis] = index_operand(0)
            _update(b, root.fn.data, value, index, [where], width, bounds)

    spare = others and others[-1] == len(dims) - 1
    lanes_along(b, pull, dims, others, lanes if spare else 1, body)


def _slices(b: TileBuilder, pull: Pull, root: ScatterNdOp, lanes: int) -> None:
    dims, lead = spec(root.x).dims, spec(root.indices).dims[:-1]
    depth = int(spec(root.indices).dims[-1])
    rest = list(range(depth, len(dims)))

    def body(places: Places, width: int, bounds: Bounds) -> None:
        def step(at: tuple[Expr, ...], carried: list[SSAValue]) -> list[SSAValue]:
            where = [
                wrapped(b, pull.at(root.indices, (*at, as_expr(i)), (1, 1)), dims[i])
                for i in range(depth)
            ]
            inner = [places[a] for a in rest]
            value = pull.at(root.updates, (*at, *inner), (1, width), tuple(bounds))
            index = [*(index_operand(i) for i in range(depth)), *inner]
            _update(b, root.fn.data, value, index, where, width, bounds)
            return carried

        nest(pull, lead, [], step)

    lanes_along(b, pull, dims, rest, lanes, body)
