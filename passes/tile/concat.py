"""Concatenation: one copy per operand, each an unbroken block of the result's row."""

from __future__ import annotations

from collections.abc import Set

from xdsl.ir import BlockArgument

from tapeout.ir.expr import ZERO, product
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, sweep
from tapeout.passes.tile.pull import NotPullable, Pull


def lower_concat(kernel: KernelOp, machine: Machine, _: Set[int] = frozenset()) -> Lowered:
    """The tile program of a lone concat: buffers are seen as ``[outer, axis and inner]``."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, ConcatOp))
    if not all(isinstance(x, BlockArgument) for x in root.xs) or len(kernel.returned) != 1:
        raise NotPullable("copies go from memory to memory")
    axis = root.axis.data % spec(root.y).rank
    arguments = kernel.body.block.args

    def flat(dims: tuple[object, ...], dtype: object) -> BufferSpec:
        return BufferSpec((product(dims[:axis]), product(dims[axis:])), dtype)  # type: ignore[arg-type]

    title = f"concat along axis {axis} -> [{', '.join(map(str, spec(root.y).dims))}]"
    inputs = [(f"x{i}", flat(spec(v).dims, spec(v).dtype)) for i, v in enumerate(arguments)]
    result = flat(spec(root.y).dims, spec(root.y).dtype)
    builder = TileBuilder(kernel.sym_name.data, title, inputs, [("y0", result)])
    pull = Pull(builder, {})
    lanes = machine.lanes
    with builder.parallel("i", result.dims[0]) as row:
        offset = ZERO
        for operand in root.xs:
            assert isinstance(operand, BlockArgument), "checked above"
            buffer, size = builder.inputs[operand.index], inputs[operand.index][1].dims[1]

            def body(first, width, bounds, _, buffer=buffer, offset=offset):
                column = first + lane(1, width)
                tile = builder.load(buffer, [row.iv, column], (1, width), bounds)
                builder.store(tile, builder.outputs[0], [row.iv, offset + column], bounds)
                return []

            sweep(builder, pull, "j", 0, size, [4 * lanes, lanes], [[], []], body)
            offset = offset + size
    return Lowered(builder.program)
