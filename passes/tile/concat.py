"""Concatenation: one copy per operand, each an unbroken block of the result's row."""

from __future__ import annotations

from collections.abc import Sequence, Set

from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.expr import ZERO, Expr, product
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, buffer_of, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import Spec, spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, sweep
from tapeout.passes.tile.pull import NotPullable, Pull


def lower_concat(kernel: KernelOp, machine: Machine, _: Set[int] = frozenset()) -> Lowered:
    """The tile program of a lone concat: buffers are seen as ``[outer, axis and inner]``."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, ConcatOp))
    if not all(isinstance(x, BlockArgument) for x in root.xs) or list(kernel.returned) != [root.y]:
        raise NotPullable("copies go from memory to memory")
    axis: int = root.axis.data % spec(root.y).rank
    title = f"concat along axis {axis} -> [{', '.join(map(str, spec(root.y).dims))}]"
    arguments = kernel.body.block.args
    inputs = [(f"x{i}", _flat(spec(v), axis)) for i, v in enumerate(arguments)]
    result = _flat(spec(root.y), axis)
    builder = TileBuilder(kernel.sym_name.data, title, inputs, [("y0", result)])
    buffers: dict[SSAValue, SSAValue] = dict(zip(arguments, builder.inputs, strict=True))
    pull = Pull(builder, buffers)
    with builder.parallel("i", result.dims[0]) as row:
        offset = ZERO
        for operand in root.xs:
            _copy(builder, pull, buffers[operand], row.iv, offset, machine.lanes)
            offset = offset + buffer_of(buffers[operand]).dims[1]
    return Lowered(builder.program)


def _flat(tensor: Spec, axis: int) -> BufferSpec:
    return BufferSpec((product(tensor.dims[:axis]), product(tensor.dims[axis:])), tensor.dtype)


def _copy(
    builder: TileBuilder, pull: Pull, source: SSAValue, row: Expr, offset: Expr, lanes: int
) -> None:
    """Copy one row of an operand to its place in the result's row."""

    def body(first: Expr, width: int, bounds: Bounds, _: Sequence[SSAValue]) -> list[SSAValue]:
        column = first + lane(1, width)
        tile = builder.load(source, [row, column], (1, width), bounds)
        builder.store(tile, builder.outputs[0], [row, offset + column], bounds)
        return []

    sweep(builder, pull, "j", 0, buffer_of(source).dims[1], [4 * lanes, lanes], [[], []], body)
