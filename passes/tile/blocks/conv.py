"""Convolutions as products: rows are output pixels, the summed axis is taps and channels."""

from __future__ import annotations

from collections.abc import Sequence, Set

from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr, ceildiv, product
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import lane, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, power_of_two, unraveled
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.product import block, is_loaded, zeroed
from tapeout.passes.tile.blocks.tiles import Tile, Tiles
from tapeout.passes.tile.kernel_io import Lowered, accumulator, start
from tapeout.passes.tile.places import NotPullable
from tapeout.passes.tile.results import Results


def lower_conv(kernel: KernelOp, machine: BlockMachine, _: Set[int]) -> Lowered:
    """The tile program of a convolution with its epilogue."""
    return Lowered(_Conv(kernel, machine).b.program)


class _Conv:
    def __init__(self, kernel: KernelOp, machine: BlockMachine) -> None:
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
        shape = (
            power_of_two(self.rows, machine.tile_m, least),
            power_of_two(self.outputs, machine.tile_n, least),
        )
        self.step = machine.step(self.k, spec(root.x).dtype)
        taps = "x".join(map(str, self.taps))
        sizes = ", ".join(map(str, dims))
        self.b, self.pull = start(kernel, f"convolution {taps} -> [{sizes}], {self.groups} groups")
        Tiles(
            self.b,
            self.pull,
            machine,
            Results(self.b, self.pull, kernel.returned),
            root.y,
            batch=() if self.groups == 1 else (as_expr(self.groups),),
            dims=(self.rows, self.outputs),
            shape=shape,
            steps=ceildiv(self.k, self.step),
            bytes_read=spec(root.w).bytes,
            sums=self.sums,
            index=self.index,
            ended=self.with_bias,
        ).build()

    def index(self, tile: Tile) -> Sequence[Expr]:
        """The place of a tile of pixels and channels in the result."""
        n, *places = unraveled(tile.row, self.pixels)
        channel = group_of(tile) * self.outputs + tile.column
        return [n, *places, channel] if self.last else [n, channel, *places]

    def sums(self, tile: Tile, first: Expr, end: Expr) -> SSAValue:
        """The sums of a tile over some steps."""
        b, dtype = self.b, accumulator(spec(self.root.y).dtype)
        zero = b.full(0, tile.shape, dtype)
        with b.loop("k", first, end, 1, [zero]) as loop, self.pull.scope():
            start = loop.iv * self.step
            x = self.pixels_at(tile, start + lane(1, self.step))
            w = self.filters_at(tile, start + lane(0, self.step))
            loop.next = [b.dot(x, w, loop.carried[0])]
        return loop.results[0]

    def with_bias(self, tile: Tile, sums: SSAValue) -> SSAValue:
        """Sums and the bias."""
        if self.root.bias is None:
            return sums
        at = [group_of(tile) * self.outputs + tile.column]
        bias = self.pull.at(self.root.bias, at, tile.shape, tuple(tile.across))
        return self.b.map("add", sums, self.b.convert(bias, tile_of(sums).dtype))

    def pixels_at(self, tile: Tile, k: Expr) -> SSAValue:
        """What a block of output pixels reads under some taps and channels."""
        root, n = self.root, len(self.taps)
        image, *places = unraveled(tile.row, self.pixels)
        *tap, c = unraveled(k, [*self.taps, self.channels])
        spatial = [
            places[i] * root.strides.data[i] - root.pads.data[i] + tap[i] * root.dilations.data[i]
            for i in range(n)
        ]
        source = group_of(tile) * self.channels + c
        at = [image, *spatial, source] if self.last else [image, source, *spatial]
        sizes = spec(root.x).dims[1:-1] if self.last else spec(root.x).dims[2:]
        pads: Sequence[int] = root.pads.data
        rims = tuple((spatial[i], sizes[i]) for i in range(n) if pads[i] or pads[n + i])
        summed = cut(k, self.k, self.step)
        bounds, shape = (*tile.kept, *summed), (tile.rows, self.step)
        x = self.pull.within(root.x, at, shape, bounds, rims)
        x = self.b.broadcast(x, shape)
        return x if is_loaded(self.pull, root.x) else zeroed(self.b, x, summed, shape)

    def filters_at(self, tile: Tile, k: Expr) -> SSAValue:
        """The filters of a block of output channels at some taps and channels."""
        *tap, c = unraveled(k, [*self.taps, self.channels])
        shape, summed = (self.step, tile.columns), cut(k, self.k, self.step)
        at = [group_of(tile) * self.outputs + tile.column, c, *tap]
        return block(self.pull, self.root.w, at, shape, tile.across, summed)


def group_of(tile: Tile) -> Expr:
    """The group of channels that a tile belongs to."""
    return tile.at[0] if tile.at else ZERO
