"""Store what a kernel gives: through the transposes and zero pads that end it.

A strategy computes tiles of a *core* value at the core's own index. A kernel may return a
transpose or a pad of it: then the tile is stored at the moved index, and the border of a pad is
filled with zeros by loops of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO, Expr
from tapeout.ir.ops.views import PadOp, TransposeOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, buffer_of, lane
from tapeout.ir.types import spec
from tapeout.passes.tile.pull import Pull

Mover = Callable[[tuple[Expr, ...]], tuple[Expr, ...]]


def core_of(value: SSAValue) -> tuple[SSAValue, Mover, list[PadOp]]:
    """The value under trailing transposes and pads, and where its elements are stored."""
    chain: list[TransposeOp | PadOp] = []
    while isinstance(value.owner, TransposeOp | PadOp):
        chain.append(value.owner)
        value = value.owner.x

    def move(index: tuple[Expr, ...]) -> tuple[Expr, ...]:
        for op in reversed(chain):
            if isinstance(op, TransposeOp):
                perm: Sequence[int] = op.perm.data
                index = tuple(index[p] for p in perm)
            else:
                index = tuple(i + low for i, low in zip(index, op.low.data, strict=True))
        return index

    return value, move, [op for op in chain if isinstance(op, PadOp)]


class Results:
    """The results of a kernel whose strategy walks the index space of one root value."""

    def __init__(self, builder: TileBuilder, pull: Pull, returned: Sequence[SSAValue]) -> None:
        """Split every result into its core and its moves."""
        self.builder, self.pull = builder, pull
        self.rows = [
            (*core_of(value), buffer)
            for value, buffer in zip(returned, builder.outputs, strict=True)
        ]

    def store(self, index: Sequence[Expr], shape: tuple[int, int], bounds: Bounds) -> None:
        """Pull every core at ``index`` and store it where it belongs."""
        for core, move, _, buffer in self.rows:
            tile = self.pull.at(core, index, shape, tuple(bounds))
            tile = self.builder.broadcast(tile, shape)
            self.builder.store(tile, buffer, move(tuple(index)), bounds)

    def borders(self, width: int) -> None:
        """Zero the borders of padded results; call at the top level of the program."""
        for _, _, pads, buffer in self.rows:
            if pads:
                assert len(pads) == 1, "pads of pads are merged before"
                _zero_border(self.builder, pads[0], buffer, width)


def _zero_border(builder: TileBuilder, pad: PadOp, buffer: SSAValue, width: int) -> None:
    dims = spec(pad.y).dims
    for axis, (low, high) in enumerate(zip(pad.low.data, pad.high.data, strict=True)):
        for lo, hi in ((ZERO, low), (dims[axis] - high, dims[axis])):
            if lo != hi:
                limits = [(ZERO, d) for d in dims]
                limits[axis] = (lo, hi)
                _zero(builder, buffer, limits, [], width)


def _zero(
    builder: TileBuilder,
    buffer: SSAValue,
    limits: Sequence[tuple[Expr, Expr]],
    index: Sequence[Expr],
    width: int,
) -> None:
    """Zero the box between ``limits``, of whose axes the first have an index already."""
    lo, hi = limits[len(index)]
    if len(index) < len(limits) - 1:
        with builder.loop("z", lo, hi, 1, kind="serial" if index else "parallel") as loop:
            _zero(builder, buffer, limits, [*index, loop.iv], width)
        return
    with builder.loop("z", lo, hi, width) as loop:
        column = loop.iv + lane(1, width)
        bounds = ((column, hi),) if ((hi - lo) % width) != 0 else ()
        zero = builder.full(0, (1, width), buffer_of(buffer).dtype)
        builder.store(zero, buffer, [*index, column], bounds)
