"""Windows with channels last that mix no channels: depthwise convolution and pooling.

Vectors run along the channels; a register tile is a run of output pixels by a few vectors. The
kernel positions are loops around one multiply-add, maximum or sum. Positions outside the input
are masked: a tap is inside for all channels of a pixel or for none.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr, ceildiv, maximum, minimum
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.ops.reduce import identity
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, Pack, accumulator, buffer_spec
from tapeout.passes.tile.product import row_blocks
from tapeout.passes.tile.pull import NotPullable, Pull
from tapeout.passes.tile.results import Results

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PackDepthwise:
    """``[C, 1, *K]`` to ``[prod(K), C]``."""

    def __call__(self, array: Array) -> Array:
        """Pack one set of filters."""
        return np.ascontiguousarray(array.reshape(array.shape[0], -1).T)


def is_depthwise(op: ConvOp) -> bool:
    """Whether every output channel reads exactly its own input channel."""
    return op.groups.data > 1 and spec(op.w).dims[0] == op.groups.data and spec(op.w).dims[1] == 1


def lower_window(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a depthwise convolution or pool with its epilogue."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, ConvOp | PoolOp))
    if not isinstance(root.x, BlockArgument):
        raise NotPullable("windows are read from memory")
    if isinstance(root, ConvOp):
        packed = isinstance(root.w, BlockArgument) and root.w.index in constants
        if not (is_depthwise(root) and root.channels_last.data and packed):
            raise NotPullable("depthwise filters are packed for channels that come last")
    return _Window(kernel, machine).build()


class _Window:
    def __init__(self, kernel: KernelOp, machine: Machine) -> None:
        self.kernel, self.machine = kernel, machine
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, ConvOp | PoolOp))
        root = self.root
        self.taps = (
            [int(d) for d in spec(root.w).dims[2:]]
            if isinstance(root, ConvOp)
            else list(root.kernel.data)
        )
        self.fn = root.fn.data if isinstance(root, PoolOp) else "sum"
        self.last = bool(root.channels_last.data)
        self.dims = spec(root.y).dims
        self.source = spec(root.x).dims
        self.dtype = accumulator(spec(root.y).dtype)

    @property
    def spatial_axes(self) -> range:
        """Positions of the spatial axes."""
        return range(1, len(self.dims) - 1) if self.last else range(2, len(self.dims))

    def build(self) -> Lowered:
        root, arguments = self.root, self.kernel.body.block.args
        inputs = [(f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)]
        packs: dict[int, Pack] = {}
        if isinstance(root, ConvOp):
            assert isinstance(root.w, BlockArgument), "filters are constant operands"
            at = root.w.index
            dims = (as_expr(int(np.prod(self.taps))), self.dims[-1])
            inputs[at] = (f"x{at}", BufferSpec(dims, spec(root.w).dtype))
            packs[at] = PackDepthwise()
        outputs = [(f"y{i}", buffer_spec(v)) for i, v in enumerate(self.kernel.returned)]
        self.b = TileBuilder(self.kernel.sym_name.data, self.title(), inputs, outputs)
        self.pull = Pull(self.b, dict(zip(arguments, self.b.inputs, strict=True)))
        self.results = Results(self.b, self.pull, self.kernel.returned)
        self.outer([])
        self.results.borders(self.machine.lanes)
        return Lowered(self.b.program, packs)

    def title(self) -> str:
        taps = "x".join(map(str, self.taps))
        what = "depthwise convolution" if isinstance(self.root, ConvOp) else f"{self.fn} pool"
        return f"{what} {taps} -> [{', '.join(map(str, self.dims))}]"

    def outer(self, index: list[Expr]) -> None:
        """Parallel loops over all axes but the last two."""
        if len(index) < len(self.dims) - 2:
            with self.b.parallel("p", self.dims[len(index)]) as loop:
                self.outer([*index, loop.iv])
            return
        lanes = self.machine.lanes
        wide = 2 * lanes
        at = ZERO
        size = self.dims[-1]
        whole = size // wide * wide
        for lo, hi, width in ((at, whole, wide), (whole, size, lanes)):
            if lo == hi:
                continue
            with self.b.loop("j", lo, hi, width) as loop, self.pull.scope():
                column = loop.iv + lane(1, width)
                cut = ((hi - lo) % width) != 0
                bounds: Bounds = ((column, hi),) if cut else ()
                self.pixels(index, column, width, bounds)

    def pixels(self, index: list[Expr], column: Expr, width: int, bounds: Bounds) -> None:
        """Blocks along the axis before the last, which is pixels when channels are last."""
        most = 4 if self.last else 1
        for lo, hi, size in row_blocks(self.dims[-2], most):
            if lo == hi:
                continue
            with self.b.loop("i", lo, hi, size) as loop, self.pull.scope():
                at = [*index, loop.iv + lane(0, size), column]
                total = self.window(at, (size, width), bounds)
                self.pull.made[self.root.y] = lambda i, s, b, total=total: total
                self.results.store(at, (size, width), bounds)

    def window(self, at: list[Expr], shape: tuple[int, int], bounds: Bounds) -> SSAValue:
        """All kernel positions of one register tile."""
        start = identity("max" if self.fn == "max" else "sum", self.dtype.numpy)
        total = self.tap_loops(at, [], self.b.full(start, shape, self.dtype), shape, bounds)
        if self.fn == "mean":
            count = self.b.convert(self.b.index(self.count(at), shape), self.dtype)
            total = self.b.map("div", total, count)
        if isinstance(self.root, ConvOp) and self.root.bias is not None:
            bias = self.pull.at(self.root.bias, [at[-1]], (1, shape[1]), tuple(bounds))
            total = self.b.map("add", total, self.b.convert(bias, self.dtype))
        return self.b.convert(total, spec(self.root.y).dtype)

    def tap_loops(
        self,
        at: list[Expr],
        tap: list[Expr],
        total: SSAValue,
        shape: tuple[int, int],
        bounds: Bounds,
    ) -> SSAValue:
        if len(tap) == len(self.taps):
            return self.step(at, tap, total, shape, bounds)
        with self.b.loop("t", 0, self.taps[len(tap)], 1, [total]) as loop, self.pull.scope():
            loop.next = [self.tap_loops(at, [*tap, loop.iv], loop.carried[0], shape, bounds)]
        return loop.results[0]

    def positions(self, at: list[Expr], tap: list[Expr]) -> list[tuple[int, Expr]]:
        """Per spatial axis, the axis and the input position of a tap."""
        root, n = self.root, len(self.taps)
        return [
            (
                axis,
                at[axis] * root.strides.data[i]
                - root.pads.data[i]
                + tap[i] * root.dilations.data[i],
            )
            for i, axis in zip(range(n), self.spatial_axes, strict=True)
        ]

    def step(
        self,
        at: list[Expr],
        tap: list[Expr],
        total: SSAValue,
        shape: tuple[int, int],
        bounds: Bounds,
    ) -> SSAValue:
        """Combine the elements under one kernel position."""
        root, index, inside = self.root, list(at), list(bounds)
        high = root.pads.data[len(self.taps) :]
        for i, (axis, position) in enumerate(self.positions(at, tap)):
            index[axis] = position
            if root.pads.data[i] or high[i] or isinstance(root, PoolOp):
                inside.append((position, self.source[axis]))
        if isinstance(root, ConvOp):
            x = self.b.load(self.pull.buffers[root.x], index, shape, inside)
            place = ZERO
            for t, count in zip(tap, self.taps, strict=True):
                place = place * count + t
            w = self.b.load(self.pull.buffers[root.w], [place, at[-1]], (1, shape[1]), bounds)
            x, w = self.b.convert(x, self.dtype), self.b.convert(w, self.dtype)
            return self.b.multiply_add(x, w, total)
        fill = identity("max" if self.fn == "max" else "sum", self.dtype.numpy)
        x = self.b.load(self.pull.buffers[root.x], index, shape, inside, fill)
        return self.b.map(
            "max" if self.fn == "max" else "add", total, self.b.convert(x, self.dtype)
        )

    def count(self, at: list[Expr]) -> Expr:
        """How many positions of a window lie inside the input."""
        root, total = self.root, as_expr(1)
        for i, axis in enumerate(self.spatial_axes):
            d, k = root.dilations.data[i], self.taps[i]
            first = at[axis] * root.strides.data[i] - root.pads.data[i]
            low = maximum(0, ceildiv(-first, d))
            high = minimum(k, ceildiv(self.source[axis] - first, d))
            total = total * maximum(0, high - low)
        return total
