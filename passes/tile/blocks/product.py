"""Products: a block of the result from blocks of its operands, a step of ``k`` at a time."""

from __future__ import annotations

from collections.abc import Sequence, Set

from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO, Expr, ceildiv
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.ops.views import ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import lane, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, power_of_two
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.tiles import Tile, Tiles, row_major
from tapeout.passes.tile.kernel_io import Lowered, accumulator, start
from tapeout.passes.tile.places import Pairs, number
from tapeout.passes.tile.product import rows_joined
from tapeout.passes.tile.pull import Pull
from tapeout.passes.tile.results import Results


def lower_matmul(kernel: KernelOp, machine: BlockMachine, _: Set[int]) -> Lowered:
    """The tile program of a product with its epilogue."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, MatmulOp))
    if spec(root.b).rank == 2:
        kernel = rows_joined(kernel, root.y, {root.b})
    return Lowered(_Product(kernel, machine).b.program)


def zeroed(b: TileBuilder, x: SSAValue, bounds: Pairs, shape: tuple[int, int]) -> SSAValue:
    """A tile with zeros in the lanes beyond the bounds: what is computed there may be anything."""
    for e, n in bounds:
        inside = b.map("lt", number(b, e, shape), number(b, n))
        x = b.map("where", inside, x, b.full(0, (1, 1), tile_of(x).dtype))
    return x


def block(
    pull: Pull,
    value: SSAValue,
    index: Sequence[Expr],
    shape: tuple[int, int],
    kept: Pairs,
    summed: Pairs,
) -> SSAValue:
    """A block of an operand of a product, with zeros beyond the axis that is summed over.

    ``index`` may have more axes than the operand, whose leading ones broadcast.
    """
    dims = spec(value).dims
    tail = index[len(index) - len(dims) :]
    at = [
        ZERO if d == 1 and a < len(dims) - 2 else e
        for a, (d, e) in enumerate(zip(dims, tail, strict=True))
    ]
    x = pull.builder.broadcast(pull.at(value, at, shape, (*kept, *summed)), shape)
    return x if is_loaded(pull, value) else zeroed(pull.builder, x, summed, shape)


def is_loaded(pull: Pull, value: SSAValue) -> bool:
    """Whether a value lies in memory, under views that fill nothing in: loads give zeros there."""
    while isinstance(value.owner, TransposeOp | ReshapeOp | SliceOp):
        value = value.owner.x
    return value in pull.buffers


class _Product:
    def __init__(self, kernel: KernelOp, machine: BlockMachine) -> None:
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, MatmulOp))
        *batch, m, n = spec(self.root.y).dims
        self.k = spec(self.root.a).dims[-1]
        least = machine.least_dot
        shape = (
            power_of_two(m, machine.tile_m, least),
            power_of_two(n, machine.tile_n, least),
        )
        self.step = machine.step(self.k, spec(self.root.a).dtype)
        sizes = " x ".join(f"[{r}, {c}]" for r, c in ((m, self.k), (self.k, n)))
        title = f"product {sizes}" + (f", batch [{', '.join(map(str, batch))}]" if batch else "")
        self.b, self.pull = start(kernel, title)
        Tiles(
            self.b,
            self.pull,
            machine,
            Results(self.b, self.pull, kernel.returned),
            self.root.y,
            batch=batch,
            dims=(m, n),
            shape=shape,
            steps=ceildiv(self.k, self.step),
            bytes_read=spec(self.root.b).bytes,
            sums=self.sums,
            index=row_major,
        ).build()

    def sums(self, tile: Tile, first: Expr, end: Expr) -> SSAValue:
        """The sums of a tile over some steps."""
        b, root = self.b, self.root
        zero = b.full(0, tile.shape, accumulator(spec(root.y).dtype))
        with b.loop("k", first, end, 1, [zero]) as loop, self.pull.scope():
            start = loop.iv * self.step
            across, down = start + lane(1, self.step), start + lane(0, self.step)
            x = block(
                self.pull,
                root.a,
                [*tile.at, tile.row, across],
                (tile.rows, self.step),
                tile.kept,
                cut(across, self.k, self.step),
            )
            last = [tile.column, down] if root.transpose_b.data else [down, tile.column]
            y = block(
                self.pull,
                root.b,
                [*tile.at, *last],
                (self.step, tile.columns),
                tile.across,
                cut(down, self.k, self.step),
            )
            loop.next = [b.dot(x, y, loop.carried[0])]
        return loop.results[0]
