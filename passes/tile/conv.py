"""Convolution with channels last: a product whose rows are output pixels.

Weights are packed as ``[groups][panels of output channels][taps * channels][tile_n]``. A register
tile is a run of output pixels (in one row, or several whole rows when they are short) by
``tile_n`` output channels. Padding has become a ``nn.pad`` of the input before this (pass
``explicit-padding``), so that no tap needs a check. In the input a row of kernel positions along
the last spatial axis is one unbroken run of ``kernel * channels`` elements: one loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr, ceildiv
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, accumulator, buffer_spec
from tapeout.passes.tile.product import row_blocks
from tapeout.passes.tile.pull import NotPullable, Pull
from tapeout.passes.tile.results import Results

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PackFilters:
    """``[O, C, *K]`` to ``[groups, O / groups / width, prod(K) * C, width]``, zeros at the end."""

    width: int
    groups: int

    def __call__(self, array: Array) -> Array:
        """Pack one set of filters."""
        outputs, channels = array.shape[:2]
        per_group = outputs // self.groups
        panels = -(-per_group // self.width)
        taps = np.moveaxis(array.reshape(self.groups, per_group, channels, -1), 2, 3)
        flat = taps.reshape(self.groups, per_group, -1)
        padded = np.zeros((self.groups, panels * self.width, flat.shape[2]), array.dtype)
        padded[:, :per_group] = flat
        cut = padded.reshape(self.groups, panels, self.width, -1)
        return np.ascontiguousarray(cut.transpose(0, 1, 3, 2))


def lower_conv(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a channels-last convolution with constant filters."""
    return _Conv(kernel, machine, constants).build()


@dataclass(frozen=True)
class _Block:
    """Pixels of one register tile: ``rows`` output rows from ``row``, ``size`` each from ``at``."""

    row: Expr
    rows: int
    at: Expr
    size: int

    @property
    def pixels(self) -> int:
        return self.rows * self.size

    def place(self) -> tuple[Expr, Expr]:
        """Output row and column of a lane."""
        pixel = lane(0, self.pixels)
        return self.row + pixel // self.size, self.at + pixel % self.size


class _Conv:
    def __init__(self, kernel: KernelOp, machine: Machine, constants: Set[int]) -> None:
        self.kernel, self.machine = kernel, machine
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, ConvOp))
        root = self.root
        if not (isinstance(root.x, BlockArgument) and isinstance(root.w, BlockArgument)):
            raise NotPullable("a convolution reads its input from memory")
        if root.w.index not in constants:
            raise NotPullable("filters are packed when compiling")
        if not root.channels_last.data or any(root.pads.data):
            raise NotPullable("rows of taps are unbroken with channels last and explicit pads")
        self.dims = spec(root.y).dims
        self.groups = root.groups.data
        self.per_group = spec(root.w).dims[0] // self.groups
        self.channels = spec(root.w).dims[1]
        self.taps = [int(d) for d in spec(root.w).dims[2:]]
        self.merged = root.dilations.data[-1] == 1 and self.groups == 1
        self.width = machine.tile_n
        small = self.per_group.constant
        if small is not None and small <= machine.lanes and machine.tile_n > machine.lanes:
            self.width = machine.lanes

    def build(self) -> Lowered:
        root, arguments = self.root, self.kernel.body.block.args
        assert isinstance(root.x, BlockArgument), "checked above"
        assert isinstance(root.w, BlockArgument), "checked above"
        inputs = [(f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)]
        x = buffer_spec(root.x)
        if self.merged:
            flat = BufferSpec((*x.dims[:-2], x.dims[-2] * x.dims[-1]), x.dtype)
            inputs[root.x.index] = (f"x{root.x.index}", flat)
        taps = as_expr(int(np.prod(self.taps))) * self.channels
        panels = ceildiv(self.per_group, self.width)
        dims = (as_expr(self.groups), panels, taps, as_expr(self.width))
        inputs[root.w.index] = (f"x{root.w.index}", BufferSpec(dims, x.dtype))
        outputs = [(f"y{i}", buffer_spec(v)) for i, v in enumerate(self.kernel.returned)]
        self.b = TileBuilder(self.kernel.sym_name.data, self.title(), inputs, outputs)
        self.pull = Pull(self.b, dict(zip(arguments, self.b.inputs, strict=True)))
        self.results = Results(self.b, self.pull, self.kernel.returned)
        self.loops()
        self.results.borders(self.machine.lanes)
        pack = PackFilters(self.width, self.groups)
        return Lowered(self.b.program, {root.w.index: pack})

    def title(self) -> str:
        shape = ", ".join(map(str, self.dims))
        taps = "x".join(map(str, self.taps))
        return f"convolution {taps} -> [{shape}], {self.groups} groups"

    def loops(self) -> None:
        """Image, group, panel of output channels, outer spatial axes; then blocks of pixels."""
        with self.b.parallel("n", self.dims[0]) as n, self.b.parallel("g", self.groups) as g:
            with self.b.parallel("j", self.per_group, self.width) as j, self.pull.scope():
                self.spatial(n.iv, g.iv, j.iv, [])

    def spatial(self, n: Expr, g: Expr, j: Expr, outer: list[Expr]) -> None:
        sizes = self.dims[1:-1]
        if len(outer) < len(sizes) - 2:
            with self.b.parallel("s", sizes[len(outer)]) as loop:
                self.spatial(n, g, j, [*outer, loop.iv])
            return
        for block in self.blocks(sizes):
            self.tile(n, g, j, outer, block)

    def blocks(self, sizes: Sequence[Expr]) -> Iterator[_Block]:
        """Loops over register tiles of pixels; the body of each runs while it is open."""
        most = self.machine.tile_m * self.machine.tile_n // self.width
        most = min(most, self.machine.tile_m)
        width, one_row = sizes[-1], len(sizes) == 1
        count = width.constant
        rows = 1 if one_row or count is None else max(1, most // max(count, 1))
        if rows > 1:
            assert count is not None, "several rows only of known size"
            for lo, hi, step in row_blocks(sizes[-2], rows):
                if lo != hi:
                    with self.b.loop("r", lo, hi, step) as loop, self.pull.scope():
                        yield _Block(loop.iv, step, ZERO, count)
            return
        # Rows are parallel too: few output channels alone would leave threads idle.
        with self.b.parallel("r", 1 if one_row else sizes[-2]) as row, self.pull.scope():
            for lo, hi, step in row_blocks(width, most):
                if lo != hi:
                    with self.b.loop("c", lo, hi, step) as loop, self.pull.scope():
                        yield _Block(row.iv, 1, loop.iv, step)

    def tile(self, n: Expr, g: Expr, j: Expr, outer: list[Expr], block: _Block) -> None:
        """One register tile: all taps and channels, then the epilogue."""
        dtype = spec(self.root.y).dtype
        start = self.b.full(0, (block.pixels, self.width), accumulator(dtype))
        row, column = block.place()
        at = [*outer, row, column] if len(self.dims) > 3 else [*outer, column]
        total = self.reduce(n, g, j, at, [], start, (block.pixels, self.width))
        channel = g * self.per_group + j + lane(1, self.width)
        cut = (self.per_group % self.width) != 0
        bounds: Bounds = ((j + lane(1, self.width), self.per_group),) if cut else ()
        if self.root.bias is not None:
            bias = self.pull.at(self.root.bias, [channel], (1, self.width), tuple(bounds))
            total = self.b.map("add", total, self.b.convert(bias, accumulator(dtype)))
        total = self.b.convert(total, dtype)
        self.pull.made[self.root.y] = lambda i, s, b: total
        self.results.store([n, *at, channel], (block.pixels, self.width), bounds)

    def reduce(
        self,
        n: Expr,
        g: Expr,
        j: Expr,
        at: list[Expr],
        tap: list[Expr],
        total: SSAValue,
        shape: tuple[int, int],
    ) -> SSAValue:
        """Loops over kernel positions and channels around one step of the product."""
        axis = len(tap)
        last = axis == len(self.taps) - 1
        count = self.taps[axis]
        if last and self.merged:
            return self.run(n, g, j, at, tap, total, shape, self.channels * count, ZERO)
        with self.b.loop("t", 0, count, 1, [total]) as loop, self.pull.scope():
            inner = [*tap, loop.iv]
            if last:
                flat = self.run(n, g, j, at, inner, loop.carried[0], shape, self.channels, loop.iv)
            else:
                flat = self.reduce(n, g, j, at, inner, loop.carried[0], shape)
            loop.next = [flat]
        return loop.results[0]

    def run(
        self,
        n: Expr,
        g: Expr,
        j: Expr,
        at: list[Expr],
        tap: list[Expr],
        total: SSAValue,
        shape: tuple[int, int],
        length: Expr,
        last_tap: Expr,
    ) -> SSAValue:
        """The innermost loop: an unbroken run of the input against a column of the panel."""
        root = self.root
        x, w = self.pull.buffers[root.x], self.pull.buffers[root.w]
        position = ZERO
        for t, count in zip(tap, self.taps, strict=False):
            position = position * count + t
        if len(tap) < len(self.taps):
            position = position * self.taps[-1]
        strides, dilations = root.strides.data, root.dilations.data
        moved = [
            o * s + t * d
            for o, s, d, t in zip(at, strides, dilations, [*tap, ZERO][: len(at)], strict=True)
        ]
        with self.b.loop("k", 0, length, 1, [total]) as loop:
            if self.merged:
                index = [n, *moved[:-1], moved[-1] * self.channels + loop.iv]
            else:
                index = [n, *moved, g * self.channels + loop.iv]
            a = self.b.load(x, index, (shape[0], 1))
            k = position * self.channels + loop.iv
            b = self.b.load(w, [g, j // self.width, k, lane(1, self.width)], (1, self.width))
            dtype = accumulator(spec(root.y).dtype)
            a, b = self.b.convert(a, dtype), self.b.convert(b, dtype)
            loop.next = [self.b.dot(a, b, loop.carried[0])]
        return loop.results[0]
