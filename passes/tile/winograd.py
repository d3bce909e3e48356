"""Winograd convolution F(2x2, 3x3): 16 multiplications where the direct sum takes 36.

For 3x3 filters with stride 1 and channels last. The output is cut into 2x2 patches; a patch
reads 4x4 inputs. With the filters transformed at compile time, per block of patches:

1. transform the inputs: ``V = B^T d B``, kept in cache as ``[16][patches][C]``;
2. 16 products ``M = V U`` over the channels, a register tile at a time;
3. transform back: ``Y = A^T M A``, then the epilogue.

All constants of the transforms are 0, 1 and -1 (filters: 1/2), so the result differs from the
direct sum by rounding only. Source: Lavin, Gray 2015, arXiv:1509.09308.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.expr import Expr, as_expr, ceildiv
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, buffer_spec
from tapeout.passes.tile.product import row_blocks
from tapeout.passes.tile.pull import NotPullable, Pull
from tapeout.passes.tile.results import Results

Array = np.ndarray[Any, Any]
Matrix = Sequence[Sequence[int]]

INPUT: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
OUTPUT: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))
FILTER = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

PATCH = 2
SIDE = 4
# Patches of one task: transformed filters are read once for all of them.
MOST_PATCHES = 28
# Below this many channels or patches the transforms cost more than they save.
LEAST_CHANNELS = 32
LEAST_PATCHES = 32


@dataclass(frozen=True)
class PackTransformed:
    """``[O, C, 3, 3]`` to ``[16, O / width, C, width]`` transformed filters, zeros at the end."""

    width: int

    def __call__(self, array: Array) -> Array:
        """Transform and pack one set of filters."""
        outputs, channels = array.shape[:2]
        panels = -(-outputs // self.width)
        grown = np.einsum("ai,ocij,bj->aboc", FILTER, array.astype(np.float64), FILTER)
        padded = np.zeros((SIDE * SIDE, panels * self.width, channels), np.float32)
        padded[:, :outputs] = grown.reshape(SIDE * SIDE, outputs, channels)
        cut = padded.reshape(SIDE * SIDE, panels, self.width, channels)
        return np.ascontiguousarray(cut.transpose(0, 1, 3, 2))


def pays(op: ConvOp, machine: Machine) -> bool:
    """Whether the convolution has the form that this strategy serves, and gains by it."""
    x, w, y = spec(op.x), spec(op.w), spec(op.y)
    if x.rank != 4 or x.dtype is not f32 or not op.channels_last.data or op.groups.data != 1:
        return False
    steps = {*op.strides.data, *op.dilations.data}
    plain = steps == {1} and not any(op.pads.data)
    sizes = [d.constant for d in (*y.dims[1:], w.dims[1])]
    if not plain or w.dims[2:] != (as_expr(3), as_expr(3)) or None in sizes:
        return False
    height, width, outputs, channels = (int(s) for s in sizes if s is not None)
    patches = ceildiv(height, PATCH) * ceildiv(width, PATCH)
    return (
        channels % machine.lanes == 0
        and min(channels, outputs) >= LEAST_CHANNELS
        and int(patches) >= LEAST_PATCHES
    )


def lower_winograd(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a kernel whose root :func:`pays`; NotPullable for others."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, ConvOp))
    in_memory = isinstance(root.x, BlockArgument) and isinstance(root.w, BlockArgument)
    if not in_memory or not _is_constant(root.w, constants) or not pays(root, machine):
        raise NotPullable("not a convolution that gains by Winograd's algorithm")
    return _Winograd(kernel, machine).build()


def _is_constant(value: SSAValue, constants: Set[int]) -> bool:
    return isinstance(value, BlockArgument) and value.index in constants


class _Winograd:
    def __init__(self, kernel: KernelOp, machine: Machine) -> None:
        self.kernel, self.machine = kernel, machine
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, ConvOp))
        self.images, self.height, self.across, self.outputs = spec(self.root.y).dims
        self.channels = spec(self.root.x).dims[3]
        self.source = spec(self.root.x).dims
        self.per_row = ceildiv(self.across, PATCH)
        self.patches = self.per_row * ceildiv(self.height, PATCH)
        self.width = machine.tile_n

    def build(self) -> Lowered:
        root, arguments = self.root, self.kernel.body.block.args
        assert isinstance(root.w, BlockArgument), "filters are a constant operand"
        inputs = [(f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)]
        panels = ceildiv(self.outputs, self.width)
        packed = (as_expr(SIDE * SIDE), panels, self.channels, as_expr(self.width))
        inputs[root.w.index] = (f"x{root.w.index}", BufferSpec(packed, f32))
        outputs = [(f"y{i}", buffer_spec(v)) for i, v in enumerate(self.kernel.returned)]
        shape = ", ".join(map(str, spec(root.y).dims))
        title = f"Winograd convolution 3x3 -> [{shape}]"
        self.b = TileBuilder(self.kernel.sym_name.data, title, inputs, outputs)
        self.pull = Pull(self.b, dict(zip(arguments, self.b.inputs, strict=True)))
        self.results = Results(self.b, self.pull, self.kernel.returned)
        for lo, hi, size in row_blocks(self.patches, MOST_PATCHES):
            if lo != hi:
                self.blocks(lo, hi, size)
        self.results.borders(self.machine.lanes)
        return Lowered(self.b.program, {root.w.index: PackTransformed(self.width)})

    def blocks(self, lo: Expr, hi: Expr, size: int) -> None:
        """All blocks of ``size`` patches between two patch numbers."""
        with self.b.parallel("n", self.images) as n:
            with self.b.loop("p", lo, hi, size, kind="parallel") as p:
                grown = self.b.alloc([SIDE * SIDE, size, self.channels], f32)
                sums = self.b.alloc([SIDE * SIDE, size, self.width], f32)
                self.transform_inputs(n.iv, p.iv, size, grown)
                with self.b.loop("j", 0, self.outputs, self.width) as j, self.pull.scope():
                    self.products(j.iv, size, grown, sums)
                    self.transform_back(n.iv, p.iv, j.iv, size, sums)

    def corner(self, patch: Expr) -> tuple[Expr, Expr]:
        """Output row and column of a patch's first pixel, which is its first input's too."""
        return patch // self.per_row * PATCH, patch % self.per_row * PATCH

    def transform_inputs(self, n: Expr, first: Expr, size: int, grown: SSAValue) -> None:
        lanes = self.machine.lanes
        with self.b.loop("q", 0, size) as q:
            row, column = self.corner(first + q.iv)
            with self.b.loop("c", 0, self.channels, lanes) as c:
                channel = c.iv + lane(1, lanes)
                inside = [self.cut(row, column, dy, dx) for dy in range(SIDE) for dx in range(SIDE)]
                tiles = [
                    self.b.load(
                        self.pull.buffers[self.root.x],
                        [n, row + i // SIDE, column + i % SIDE, channel],
                        (1, lanes),
                        bounds,
                    )
                    for i, bounds in enumerate(inside)
                ]
                for i, tile in enumerate(self.sandwich(INPUT, tiles, SIDE)):
                    self.b.store(tile, grown, [as_expr(i), q.iv, channel])

    def cut(self, row: Expr, column: Expr, dy: int, dx: int) -> Bounds:
        """Bounds of one input of a patch: odd sizes leave the last patch without some."""
        bounds: list[tuple[Expr, Expr]] = []
        if dy >= PATCH and (self.height % PATCH) != 0:
            bounds.append((row + dy, self.source[1]))
        if dx >= PATCH and (self.across % PATCH) != 0:
            bounds.append((column + dx, self.source[2]))
        return tuple(bounds)

    def products(self, j: Expr, size: int, grown: SSAValue, sums: SSAValue) -> None:
        """The 16 products of one panel of output channels."""
        weights = self.pull.buffers[self.root.w]
        column = lane(1, self.width)
        with self.b.loop("e", 0, SIDE * SIDE) as e:
            for lo, hi, rows in row_blocks(as_expr(size), self.machine.tile_m):
                if lo == hi:
                    continue
                with self.b.loop("i", lo, hi, rows) as i:
                    zero = self.b.full(0, (rows, self.width), f32)
                    row = i.iv + lane(0, rows)
                    with self.b.loop("k", 0, self.channels, 1, [zero]) as k:
                        v = self.b.load(grown, [e.iv, row, k.iv], (rows, 1))
                        u = self.b.load(
                            weights, [e.iv, j // self.width, k.iv, column], (1, self.width)
                        )
                        k.next = [self.b.dot(v, u, k.carried[0])]
                    self.b.store(k.results[0], sums, [e.iv, row, column])

    def transform_back(self, n: Expr, first: Expr, j: Expr, size: int, sums: SSAValue) -> None:
        lanes_j = j + lane(1, self.width)
        with self.b.loop("q", 0, size) as q, self.pull.scope():
            row, column = self.corner(first + q.iv)
            shape = (1, self.width)
            tiles = [
                self.b.load(sums, [as_expr(i), q.iv, lane(1, self.width)], shape)
                for i in range(SIDE * SIDE)
            ]
            for i, tile in enumerate(self.sandwich(OUTPUT, tiles, SIDE)):
                at = [n, row + i // PATCH, column + i % PATCH, lanes_j]
                self.finish(at, tile, shape)

    def finish(self, at: list[Expr], tile: SSAValue, shape: tuple[int, int]) -> None:
        """Bias, epilogue and store of one pixel of a patch."""
        sizes = (self.height, self.across, self.outputs)
        steps = (PATCH, PATCH, self.width)
        bounds = tuple((i, n) for i, n, s in zip(at[1:], sizes, steps, strict=True) if (n % s) != 0)
        if self.root.bias is not None:
            bias = self.pull.at(self.root.bias, [at[3]], shape, bounds)
            tile = self.b.map("add", tile, bias)
        self.pull.made[self.root.y] = lambda i, s, b: tile
        self.results.store(at, shape, bounds)

    def sandwich(self, m: Matrix, tiles: Sequence[SSAValue], side: int) -> list[SSAValue]:
        """``m X m^T`` for a square ``X`` of tiles in row-major order."""
        left = [
            [self.combine(row, [tiles[k * side + c] for k in range(side)]) for c in range(side)]
            for row in m
        ]
        return [self.combine(row, line) for line in left for row in m]

    def combine(self, factors: Sequence[int], tiles: Sequence[SSAValue]) -> SSAValue:
        """A sum of tiles with factors 1, -1 and 0; the first that counts has factor 1 or -1."""
        total: SSAValue | None = None
        ordered = sorted(zip(factors, tiles, strict=True), key=lambda pair: -pair[0])
        for factor, tile in ordered:
            if factor == 0:
                continue
            if total is None:
                total = tile if factor > 0 else self.b.map("neg", tile)
            else:
                total = self.b.map("add" if factor > 0 else "sub", total, tile)
        assert total is not None, "a row of a transform is not all zero"
        return total
