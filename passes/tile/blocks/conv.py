"""Convolutions as products: rows are output pixels, the summed axis is taps and channels."""

from __future__ import annotations

from collections.abc import Sequence, Set

from xdsl.ir import SSAValue

from tapeout.ir.expr import Expr, product
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import lane
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, power_of_two, unraveled
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.product import block, is_loaded, zeroed
from tapeout.passes.tile.kernel_io import Lowered, accumulator, start
from tapeout.passes.tile.places import NotPullable
from tapeout.passes.tile.results import Results


def lower_conv(kernel: KernelOp, machine: BlockMachine, _: Set[int]) -> Lowered:
    """The tile program of a convolution with its epilogue."""
    return _Conv(kernel, machine).build()


class _Conv:
    def __init__(self, kernel: KernelOp, machine: BlockMachine) -> None:
        self.kernel = kernel
        self.root = root = next(op for op in kernel.body.block.ops if isinstance(op, ConvOp))
        self.last = bool(root.channels_last.data)
        self.groups = root.groups.data
        outputs, self.channels, *self.taps = spec(root.w).dims
        self.outputs = outputs // self.groups
        if self.groups > 1 and machine.least_dot > int(self.outputs):
            raise NotPullable("groups of a few channels make no product")
        dims = spec(root.y).dims
        self.pixels = (dims[0], *(dims[1:-1] if self.last else dims[2:]))
        self.rows, self.k = product(self.pixels), product([*self.taps, self.channels])
        least = machine.least_dot
        self.shape = (
            power_of_two(self.rows, machine.tile_m, least),
            power_of_two(self.outputs, machine.tile_n, least),
        )
        self.step = machine.step(self.k, spec(root.x).dtype)
        taps = "x".join(map(str, self.taps))
        shape = ", ".join(map(str, dims))
        self.b, self.pull = start(kernel, f"convolution {taps} -> [{shape}], {self.groups} groups")
        self.results = Results(self.b, self.pull, kernel.returned)

    def build(self) -> Lowered:
        b, (rows, columns) = self.b, self.shape
        with b.parallel("g", self.groups) as g, b.parallel("i", self.rows, rows) as i:
            with b.parallel("j", self.outputs, columns) as j:
                row, column = i.iv + lane(0, rows), j.iv + lane(1, columns)
                n, *places = unraveled(row, self.pixels)
                bounds = (*cut(row, self.rows, rows), *cut(column, self.outputs, columns))
                total = self.total(g.iv, row, column)
                self.pull.made[self.root.y] = lambda index, shape, bounds: total
                channel = g.iv * self.outputs + column
                index = [n, *places, channel] if self.last else [n, channel, *places]
                self.results.store(index, self.shape, bounds)
        self.results.borders(columns)
        return Lowered(b.program)

    def total(self, g: Expr, row: Expr, column: Expr) -> SSAValue:
        """The sums of a block, and the bias."""
        b, dtype = self.b, accumulator(spec(self.root.y).dtype)
        zero = b.full(0, self.shape, dtype)
        with b.loop("k", 0, self.k, self.step, [zero]) as loop, self.pull.scope():
            x = self.pixels_at(g, row, loop.iv + lane(1, self.step))
            w = self.filters_at(g, column, loop.iv + lane(0, self.step))
            loop.next = [b.dot(x, w, loop.carried[0])]
        total = loop.results[0]
        if self.root.bias is not None:
            bounds = cut(column, self.outputs, self.shape[1])
            at = [g * self.outputs + column]
            bias = self.pull.at(self.root.bias, at, self.shape, tuple(bounds))
            total = b.map("add", total, b.convert(bias, dtype))
        return b.convert(total, spec(self.root.y).dtype)

    def pixels_at(self, g: Expr, row: Expr, k: Expr) -> SSAValue:
        """What a block of output pixels reads under some taps and channels."""
        root, n = self.root, len(self.taps)
        image, *places = unraveled(row, self.pixels)
        *tap, c = unraveled(k, [*self.taps, self.channels])
        spatial = [
            places[i] * root.strides.data[i] - root.pads.data[i] + tap[i] * root.dilations.data[i]
            for i in range(n)
        ]
        source = g * self.channels + c
        at = [image, *spatial, source] if self.last else [image, source, *spatial]
        sizes = spec(root.x).dims[1:-1] if self.last else spec(root.x).dims[2:]
        pads: Sequence[int] = root.pads.data
        rims = tuple((spatial[i], sizes[i]) for i in range(n) if pads[i] or pads[n + i])
        summed = cut(k, self.k, self.step)
        bounds = (*cut(row, self.rows, self.shape[0]), *summed)
        shape = (self.shape[0], self.step)
        x = self.pull.within(root.x, at, shape, bounds, rims)
        x = self.b.broadcast(x, shape)
        return x if is_loaded(self.pull, root.x) else zeroed(self.b, x, summed, shape)

    def filters_at(self, g: Expr, column: Expr, k: Expr) -> SSAValue:
        """The filters of a block of output channels at some taps and channels."""
        *tap, c = unraveled(k, [*self.taps, self.channels])
        shape, summed = (self.step, self.shape[1]), cut(k, self.k, self.step)
        bounds = cut(column, self.outputs, self.shape[1])
        at = [g * self.outputs + column, c, *tap]
        return block(self.pull, self.root.w, at, shape, bounds, summed)
