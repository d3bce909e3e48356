"""Convolution with channels last: a product whose rows are output pixels.

Weights are packed as ``[groups][panels of output channels][runs][steps of a run][tile_n]``: a run
is the channels under one kernel position, or under a row of positions (below), and a step one
element of it, or of bytes four side by side, of bf16 perhaps two (see :mod:`product`). A register
tile is a run of output pixels (in one row, or several whole rows when they are short) by
``tile_n`` output channels. Padding has become a ``nn.pad`` of the input before this (pass
``explicit-padding``), so that no tap needs a check. In the input a row of kernel positions along
the last spatial axis is one unbroken run of ``kernel * channels`` elements: one loop. Narrow floats
that no dot takes are widened as in :mod:`product`, each run before it is multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr, ceildiv
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, accumulator, buffer_spec, depth
from tapeout.passes.tile.product import row_blocks, steps_of
from tapeout.passes.tile.pull import NotPullable, Pull
from tapeout.passes.tile.results import Results
from tapeout.passes.tile.widened import widen_rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PackFilters:
    """``[O, C, *K]`` to ``[groups, O / groups / width, runs, steps, width, depth]``.

    ``runs`` of the ``prod(K) * C`` elements of a filter are cut into steps of ``depth``; with a
    depth of 1 the last axis is left out. Zeros fill the last panel and the last step of a run.
    """

    width: int
    groups: int
    runs: int
    depth: int = 1

    def __call__(self, array: Array) -> Array:
        """Pack one set of filters."""
        outputs, channels = array.shape[:2]
        per_group = outputs // self.groups
        taps = np.moveaxis(array.reshape(self.groups, per_group, channels, -1), 2, 3)
        runs = taps.reshape(self.groups, per_group, self.runs, -1)
        panels, steps = -(-per_group // self.width), -(-runs.shape[3] // self.depth)
        rounded = (self.groups, panels * self.width, self.runs, steps * self.depth)
        padded = np.zeros(rounded, array.dtype)
        padded[:, :per_group, :, : runs.shape[3]] = runs
        cut = padded.reshape(self.groups, panels, self.width, self.runs, steps, self.depth)
        cut = cut.transpose(0, 1, 3, 4, 2, 5)
        return np.ascontiguousarray(cut[..., 0] if self.depth == 1 else cut)


def lower_conv(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a channels-last convolution with constant filters."""
    return _Conv(kernel, machine, constants).build()


class _Panel(NamedTuple):
    """Image, group, and first output channel of a panel of filters."""

    n: Expr
    g: Expr
    j: Expr


@dataclass(frozen=True)
class _Tile:
    """A register tile: where its panel and its output pixels are, and its shape."""

    panel: _Panel
    at: tuple[Expr, ...]
    shape: tuple[int, int]


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
        self.depth = depth(root.x, root.w, machine)
        # A run: all channels under one kernel position, or under a row of positions.
        across = self.taps[-1] if self.merged else 1
        self.length = self.channels * across
        self.runs = math.prod(self.taps) // across
        self.widened: SSAValue | None = None
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
        panels, steps = ceildiv(self.per_group, self.width), ceildiv(self.length, self.depth)
        dims = [self.groups, panels, self.runs, steps, self.width, *self.deep]
        packed = BufferSpec(tuple(map(as_expr, dims)), spec(root.w).dtype)
        inputs[root.w.index] = (f"x{root.w.index}", packed)
        outputs = [(f"y{i}", buffer_spec(v)) for i, v in enumerate(self.kernel.returned)]
        self.b = TileBuilder(self.kernel.sym_name.data, self.title(), inputs, outputs)
        self.pull = Pull(self.b, dict(zip(arguments, self.b.inputs, strict=True)))
        self.results = Results(self.b, self.pull, self.kernel.returned)
        wide = accumulator(spec(root.y).dtype)
        if self.depth == 1 and x.dtype is not wide:
            self.widened = self.b.alloc([self.machine.tile_m, self.length], wide)
        self.loops()
        self.results.borders(self.machine.lanes)
        pack = PackFilters(self.width, self.groups, self.runs, self.depth)
        return Lowered(self.b.program, {root.w.index: pack})

    @property
    def deep(self) -> list[int]:
        """The innermost axis of packed filters, where a dot takes several steps."""
        return [self.depth] if self.depth > 1 else []

    def title(self) -> str:
        shape = ", ".join(map(str, self.dims))
        taps = "x".join(map(str, self.taps))
        return f"convolution {taps} -> [{shape}], {self.groups} groups"

    def loops(self) -> None:
        """Image, group, panel of output channels, outer spatial axes; then blocks of pixels."""
        with self.b.parallel("n", self.dims[0]) as n, self.b.parallel("g", self.groups) as g:
            with self.b.parallel("j", self.per_group, self.width) as j, self.pull.scope():
                self.spatial(_Panel(n.iv, g.iv, j.iv), [])

    def spatial(self, panel: _Panel, outer: list[Expr]) -> None:
        sizes = self.dims[1:-1]
        if len(outer) < len(sizes) - 2:
            with self.b.parallel("s", sizes[len(outer)]) as loop:
                self.spatial(panel, [*outer, loop.iv])
            return
        for block in self.blocks(sizes):
            row, column = block.place()
            at = (*outer, row, column) if len(sizes) > 1 else (*outer, column)
            self.tile(_Tile(panel, at, (block.pixels, self.width)))

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

    def tile(self, tile: _Tile) -> None:
        """One register tile: all taps and channels, then the epilogue."""
        dtype, (_, g, j) = spec(self.root.y).dtype, tile.panel
        total = self.taps_of(tile, [], self.b.full(0, tile.shape, accumulator(dtype)))
        channel = g * self.per_group + j + lane(1, self.width)
        cut = (self.per_group % self.width) != 0
        bounds: Bounds = ((j + lane(1, self.width), self.per_group),) if cut else ()
        if self.root.bias is not None:
            bias = self.pull.at(self.root.bias, [channel], (1, self.width), tuple(bounds))
            total = self.b.map("add", total, self.b.convert(bias, accumulator(dtype)))
        total = self.b.convert(total, dtype)
        self.pull.made[self.root.y] = lambda i, s, b: total
        self.results.store([tile.panel.n, *tile.at, channel], tile.shape, bounds)

    def taps_of(self, tile: _Tile, tap: list[Expr], total: SSAValue) -> SSAValue:
        """Loops over kernel positions around runs of channels; merged, a run is a row of taps."""
        count = self.taps[len(tap)]
        last = len(tap) == len(self.taps) - 1
        if last and self.merged:
            return self.run(tile, [*tap, ZERO], total)
        with self.b.loop("t", 0, count, 1, [total]) as loop, self.pull.scope():
            inner, carried = [*tap, loop.iv], loop.carried[0]
            if last:
                loop.next = [self.run(tile, inner, carried)]
            else:
                loop.next = [self.taps_of(tile, inner, carried)]
        return loop.results[0]

    def run(self, tile: _Tile, tap: list[Expr], total: SSAValue) -> SSAValue:
        """The innermost loop: an unbroken run of the input against a column of the panel."""
        x, w = self.pull.buffers[self.root.x], self.pull.buffers[self.root.w]
        n, g, j = tile.panel
        dtype = accumulator(spec(self.root.y).dtype)
        pixel, size = self.position(tile.at, tap), tile.shape[0]
        place = [g, j // self.width, self.flat(tap)]

        def rows(at: Expr, shape: tuple[int, int], bounds: Bounds) -> SSAValue:
            if self.merged:
                index = [n, *pixel[:-1], pixel[-1] * self.channels + at]
            else:
                index = [n, *pixel, g * self.channels + at]
            return self.b.load(x, index, shape, bounds)

        if self.widened is not None:
            widen_rows(self.b, self.pull, self.widened, size, self.machine.lanes, rows)

        def step(s: Expr, bounds: Bounds, total: SSAValue) -> SSAValue:
            at = s * self.depth + lane(1, self.depth)
            if self.widened is None:
                a = rows(at, (size, self.depth), bounds)
            else:
                a = self.b.load(self.widened, [lane(0, size), at], (size, 1))
            deep = [lane(0, self.depth)] if self.deep else []
            panel = [*place, s, lane(1, self.width), *deep]
            b = self.b.load(w, panel, (self.depth, self.width))
            if self.depth == 1:
                b = self.b.convert(b, dtype)
            return self.b.dot(a, b, total)

        return steps_of(self.b, self.length, self.depth, total, step)

    def flat(self, tap: Sequence[Expr]) -> Expr:
        """The number of the run at a kernel position, in row-major order."""
        number = ZERO
        counted = self.taps[:-1] if self.merged else self.taps
        for t, count in zip(tap, counted, strict=False):
            number = number * count + t
        return number

    def position(self, at: Sequence[Expr], tap: Sequence[Expr]) -> list[Expr]:
        """The input pixel under a kernel position."""
        strides: Sequence[int] = self.root.strides.data
        dilations: Sequence[int] = self.root.dilations.data
        return [o * s + t * d for o, s, d, t in zip(at, strides, dilations, tap, strict=True)]
