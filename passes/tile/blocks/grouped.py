"""Products with weights of few bits: exact sums of a group, scaled when the group is done."""

from __future__ import annotations

from collections.abc import Sequence, Set

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, i32
from tapeout.ir.expr import ZERO, Expr, as_expr, product
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import lane, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, power_of_two, unraveled
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.product import block
from tapeout.passes.tile.kernel_io import Lowered, start
from tapeout.passes.tile.places import Pairs
from tapeout.passes.tile.product import rows_joined
from tapeout.passes.tile.results import Results


def lower_grouped(kernel: KernelOp, machine: BlockMachine, _: Set[int]) -> Lowered:
    """The tile program of a product of groups with its epilogue."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, GroupedMatmulOp))
    weights = {v for v in (root.codes, root.scale, root.zero) if v is not None}
    return _Grouped(rows_joined(kernel, root.y, weights), machine).build()


class _Grouped:
    def __init__(self, kernel: KernelOp, machine: BlockMachine) -> None:
        ops = kernel.body.block.ops
        self.root = next(op for op in ops if isinstance(op, GroupedMatmulOp))
        *self.batch, self.m, self.n = spec(self.root.y).dims
        self.size = as_expr(self.root.group.data)
        k = spec(self.root.codes).dims[1]
        self.groups = k // self.root.group.data
        least = machine.least_dot
        self.shape = (
            power_of_two(self.m, machine.tile_m, least),
            power_of_two(self.n, machine.tile_n, least),
        )
        self.step = machine.step(self.size, spec(self.root.a).dtype)
        weights = f"[{k}, {self.n}] of {self.root.bits.data} bits in groups of {self.size}"
        self.b, self.pull = start(kernel, f"product [{self.m}, {k}] x {weights}")
        self.results = Results(self.b, self.pull, kernel.returned)

    def build(self) -> Lowered:
        """The tile program."""
        b, (rows, columns) = self.b, self.shape
        with b.parallel("b", product(self.batch)) as outer:
            at = unraveled(outer.iv, self.batch)
            with b.parallel("i", self.m, rows) as i, b.parallel("j", self.n, columns) as j:
                row, column = i.iv + lane(0, rows), j.iv + lane(1, columns)
                total = self.total([*at, row], column)
                self.pull.made[self.root.y] = lambda index, shape, bounds: total
                bounds = (*cut(row, self.m, rows), *cut(column, self.n, columns))
                self.results.store([*at, row, column], self.shape, bounds)
        self.results.borders(columns)
        return Lowered(b.program)

    def total(self, at: Sequence[Expr], column: Expr) -> SSAValue:
        """The scaled sums of all groups."""
        b = self.b
        kept = cut(at[-1], self.m, self.shape[0])
        across = cut(column, self.n, self.shape[1])
        zero = b.full(0, self.shape, f32)
        with b.loop("g", 0, self.groups, 1, [zero]) as loop, self.pull.scope():
            sums = self.group(at, column, loop.iv, kept, across)
            left = self.of_group(self.root.a_scale, at, loop.iv, kept)
            right = b.convert(self.of_group(self.root.scale, [column], loop.iv, across), f32)
            scale = b.map("mul", left, right)
            loop.next = [b.map("fma", b.convert(sums, f32), scale, loop.carried[0])]
        return loop.results[0]

    def of_group(self, value: SSAValue, at: Sequence[Expr], g: Expr, bounds: Pairs) -> SSAValue:
        """Scales, sums or zero points of a group; some are those of all groups."""
        g = ZERO if spec(value).dims[-1] == 1 else g
        return self.pull.at(value, [*at, g], self.shape, bounds)

    def group(
        self, at: Sequence[Expr], column: Expr, g: Expr, kept: Pairs, across: Pairs
    ) -> SSAValue:
        """The integer sums of one group, zero points included."""
        b, root, (rows, columns) = self.b, self.root, self.shape
        sums = self.of_group(root.sums, at, g, kept)
        if root.zero is None:
            point = b.full(-root.point.data, (1, 1), i32)
        else:
            point = b.map("neg", b.convert(self.of_group(root.zero, [column], g, across), i32))
        first = b.broadcast(b.map("mul", point, sums), self.shape)
        with b.loop("k", 0, self.size, self.step, [first]) as loop, self.pull.scope():
            right, down = loop.iv + lane(1, self.step), loop.iv + lane(0, self.step)
            x = block(
                self.pull,
                root.a,
                [*at, g * self.size + right],
                (rows, self.step),
                kept,
                cut(right, self.size, self.step),
            )
            codes = block(
                self.pull,
                root.codes,
                [column, g * self.size + down],
                (self.step, columns),
                across,
                cut(down, self.size, self.step),
            )
            if root.step.data != 1:
                codes = b.map("mul", codes, b.full(root.step.data, (1, 1), tile_of(codes).dtype))
            loop.next = [b.dot(x, codes, loop.carried[0])]
        return loop.results[0]
