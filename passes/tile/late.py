"""What strategies share whose result sizes data decides: a program that counts, one that fills."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import as_expr
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.types import BufferSpec
from tapeout.passes.tile.kernel_io import buffer_spec
from tapeout.passes.tile.pull import Pull

State = Sequence[tuple[str, BufferSpec]]


def counting(kernel: KernelOp, title: str, state: State) -> tuple[TileBuilder, Pull]:
    """The builder of a count program: its outputs are ``state``, then one decided size."""
    arguments = kernel.body.block.args
    b = TileBuilder(
        f"{kernel.sym_name.data}_count",
        title,
        [(f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)],
        [*state, ("sizes", BufferSpec((as_expr(1),), i64))],
    )
    return b, Pull(b, dict(zip(arguments, b.inputs, strict=True)))


def filling(
    kernel: KernelOp, title: str, state: State
) -> tuple[TileBuilder, Pull, Sequence[SSAValue], dict[SSAValue, SSAValue]]:
    """The builder of a fill program, the state that it reads, and the buffer of each result."""
    arguments = kernel.body.block.args
    b = TileBuilder(
        kernel.sym_name.data,
        title,
        [*((f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)), *state],
        [(f"y{i}", buffer_spec(v)) for i, v in enumerate(kernel.returned)],
    )
    given = b.inputs[len(arguments) :]
    pull = Pull(b, dict(zip(arguments, b.inputs[: len(arguments)], strict=True)))
    return b, pull, given, dict(zip(kernel.returned, b.outputs, strict=True))
