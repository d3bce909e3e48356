"""Products with weights of few bits: exact sums of a group, scaled when the group is done.

A group is cut into *units*, the ``k`` that one dot takes. Codes are cut into planes of 8, 4, 2 or
1 bits, as on a CPU (see :class:`~tapeout.passes.tile.grouped.Layout`), and a byte of a plane holds
the codes of as many units as fit: unpacking is a shift and a mask, and no code leaves its place in
a register. A *block* is the fewest units that fill whole bytes of every plane. What a dot needs of
the matrix lies together: ``[panels of columns][blocks][bytes of a block][columns][k of a unit]``.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.dtypes import f32, i8, i32, u8
from tapeout.ir.expr import ZERO, Expr, as_expr, ceildiv
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, power_of_two
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.product import block
from tapeout.passes.tile.blocks.tiles import Tile, Tiles, row_major
from tapeout.passes.tile.grouped import Array, Layout, PackScales, panels_of
from tapeout.passes.tile.kernel_io import Lowered, Pack, start
from tapeout.passes.tile.places import Pairs
from tapeout.passes.tile.product import rows_joined
from tapeout.passes.tile.pull import NotPullable
from tapeout.passes.tile.results import Results


@dataclass(frozen=True)
class Units:
    """Codes ``[N, K]`` packed for dots of ``step`` neighbours and ``width`` columns."""

    layout: Layout
    step: int
    width: int

    @property
    def of_group(self) -> int:
        """Units of a group, a power of two: the last ones may be zeros."""
        return power_of_two(as_expr(-(-self.layout.group // self.step)), self.layout.group)

    @property
    def groups(self) -> int:
        """Groups that a block may span."""
        return max(1, self.layout.block // self.of_group)

    def blocks(self, groups: int) -> int:
        """Blocks of a line of so many groups."""
        return -(-groups // self.groups) * self.groups * self.of_group // self.layout.block

    def dims(self, n: int, groups: int) -> tuple[int, int, int, int, int]:
        """The packed array: ``[panels, blocks, bytes, width, step]``."""
        panels = panels_of(n, self.width)
        return panels, self.blocks(groups), self.layout.vectors, self.width, self.step

    def __call__(self, codes: Array) -> Array:
        """Pack one matrix."""
        n, k = codes.shape
        count, size = k // self.layout.group, self.layout.group
        packed = np.zeros(self.dims(n, count), np.uint8)
        panels, blocks, _, width, step = packed.shape
        groups = blocks * self.layout.block // self.of_group
        whole = np.zeros((panels * width, groups, self.of_group * step), np.uint8)
        whole[:n, :count, :size] = codes.reshape(n, count, size)
        units = whole.reshape(panels, width, blocks, self.layout.block, step)
        for unit in range(self.layout.block):
            for byte, low, plane in self.layout.fields(unit):
                field = units[:, :, :, unit] >> plane.at & (1 << plane.bits) - 1
                packed[:, :, byte] |= (field << low).transpose(0, 2, 1, 3)
        return packed


def lower_grouped(kernel: KernelOp, machine: BlockMachine, constants: Set[int]) -> Lowered:
    """The tile program of a product of groups with its epilogue."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, GroupedMatmulOp))
    weights = {v for v in (root.codes, root.scale, root.zero) if v is not None}
    if not all(isinstance(v, BlockArgument) and v.index in constants for v in weights):
        raise NotPullable("codes that are no weights cannot be packed")
    made = _Grouped(rows_joined(kernel, root.y, weights), machine)
    return Lowered(made.b.program, made.packs)


class _Grouped:
    def __init__(self, kernel: KernelOp, machine: BlockMachine) -> None:
        ops = kernel.body.block.ops
        self.root = next(op for op in ops if isinstance(op, GroupedMatmulOp))
        *batch, m, n = spec(self.root.y).dims
        k = spec(self.root.codes).dims[1]
        self.k, self.size = k, self.root.group.data
        self.count = int(k) // self.size
        least = machine.least_dot
        shape = (
            power_of_two(m, machine.tile_m, least),
            power_of_two(n, machine.tile_n, least),
        )
        self.step = machine.step(as_expr(self.size), spec(self.root.a).dtype)
        layout = Layout(self.root.bits.data, self.size)
        self.units = Units(layout, self.step, shape[1])
        packed: dict[SSAValue, tuple[Pack, tuple[int, ...]]] = {
            self.root.codes: (self.units, self.units.dims(int(n), self.count))
        }
        panels = panels_of(int(n), shape[1])
        for value in (self.root.scale, self.root.zero):
            if value is not None:
                dims = (panels, int(spec(value).dims[1]), shape[1])
                packed[value] = (PackScales(shape[1]), dims)
        arguments = list(kernel.body.block.args)
        self.packs = {arguments.index(v): pack for v, (pack, _) in packed.items()}  # type: ignore[arg-type]
        buffers = {
            arguments.index(v): BufferSpec(tuple(map(as_expr, dims)), spec(v).dtype)  # type: ignore[arg-type]
            for v, (_, dims) in packed.items()
        }
        weights = f"[{k}, {n}] of {layout.bits} bits in groups of {self.size}"
        self.b, self.pull = start(kernel, f"product [{m}, {k}] x {weights}", buffers)
        Tiles(
            self.b,
            self.pull,
            machine,
            Results(self.b, self.pull, kernel.returned),
            self.root.y,
            batch=batch,
            dims=(m, n),
            shape=shape,
            steps=ceildiv(self.count, self.units.groups),
            bytes_read=k * n * layout.bits // 8,
            sums=self.sums,
            index=row_major,
        ).build()

    def sums(self, tile: Tile, first: Expr, end: Expr) -> SSAValue:
        """The scaled sums of some groups, a block at a time; a long group has blocks of its own."""
        b, units, panel = self.b, self.units, tile.j // tile.columns
        zero = b.full(0, tile.shape, f32)
        with b.loop("g", first, end, 1, [zero]) as loop:
            total = loop.carried[0]
            codes = [] if units.of_group > units.layout.block else self.codes(panel, loop.iv)
            for n in range(units.groups):
                with self.pull.scope():
                    g = loop.iv * units.groups + n
                    exist = cut(g, as_expr(self.count), units.groups)
                    sums = self.group(tile, g, codes[n * units.of_group :], exist)
                    left = self.of_row(self.root.a_scale, tile, g, exist)
                    right = b.convert(self.of_column(self.root.scale, panel, g, exist), f32)
                    scale = b.map("mul", left, right)
                    total = b.map("fma", b.convert(sums, f32), scale, total)
            loop.next = [total]
        return loop.results[0]

    def of_row(self, value: SSAValue, tile: Tile, g: Expr, exist: Pairs) -> SSAValue:
        """What rows have of a group, or of all groups."""
        g = ZERO if spec(value).dims[-1] == 1 else g
        return self.pull.at(value, [*tile.at, tile.row, g], tile.shape, (*tile.kept, *exist))

    def of_column(self, value: SSAValue, panel: Expr, g: Expr, bounds: Pairs) -> SSAValue:
        """What columns have of a group, or of all groups."""
        g = ZERO if spec(value).dims[-1] == 1 else g
        index = [panel, g, lane(1, self.units.width)]
        return self.b.load(self.pull.buffers[value], index, (1, self.units.width), bounds)

    def codes(self, panel: Expr, at: Expr) -> list[SSAValue]:
        """The codes of every unit of a block."""
        b, root, columns, layout = self.b, self.root, self.units.width, self.units.layout
        place = [lane(1, columns), lane(0, self.step)]
        packed = [
            b.load(self.pull.buffers[root.codes], [panel, at, byte, *place], (self.step, columns))
            for byte in range(layout.vectors)
        ]
        found: list[SSAValue] = []
        for unit in range(layout.block):
            fields = [
                b.field(packed[byte], low, plane.bits, plane.at)
                for byte, low, plane in layout.fields(unit)
            ]
            codes = reduce(partial(b.map, "add"), fields)
            if root.step.data != 1:
                codes = b.map("mul", codes, b.full(root.step.data, (1, 1), u8))
            # Tensor cores take signed bytes: what fits is one, and needs no correction.
            fits = (1 << layout.bits) * root.step.data <= 1 << 7
            found.append(b.convert(codes, i8) if fits else codes)
        return found

    def group(self, tile: Tile, g: Expr, codes: Sequence[SSAValue], exist: Pairs) -> SSAValue:
        """The integer sums of one group, zero points included."""
        b, root, units, panel = self.b, self.root, self.units, tile.j // tile.columns
        sums = self.of_row(root.sums, tile, g, exist)
        if root.zero is None:
            point = b.full(-root.point.data, (1, 1), i32)
        else:
            point = b.map("neg", b.convert(self.of_column(root.zero, panel, g, exist), i32))
        total = b.broadcast(b.map("mul", point, sums), tile.shape)
        if codes:
            for unit in range(units.of_group):
                total = self.dot(tile, g, as_expr(unit), codes[unit], total)
            return total
        block = units.layout.block
        blocks = units.of_group // block
        with b.loop("s", 0, blocks, 1, [total]) as loop, self.pull.scope():
            total = loop.carried[0]
            for n, each in enumerate(self.codes(panel, g * blocks + loop.iv)):
                total = self.dot(tile, g, loop.iv * block + n, each, total)
            loop.next = [total]
        return loop.results[0]

    def dot(self, tile: Tile, g: Expr, unit: Expr, codes: SSAValue, total: SSAValue) -> SSAValue:
        """One unit more. Codes beyond the end of a group are zeros, whatever they meet."""
        along = g * self.size + unit * self.step + lane(1, self.step)
        whole = self.units.of_group * self.step == self.size
        beyond = () if whole and self.count % self.units.groups == 0 else ((along, self.k),)
        shape, index = (tile.rows, self.step), [*tile.at, tile.row, along]
        return self.b.dot(
            block(self.pull, self.root.a, index, shape, tile.kept, beyond), codes, total
        )
