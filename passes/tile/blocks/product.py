"""Products: a block of the result from blocks of its operands, a step of ``k`` at a time."""

from __future__ import annotations

from collections.abc import Sequence, Set

from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO, Expr, product
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.ops.views import ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import lane, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, power_of_two, unraveled
from tapeout.passes.tile.blocks.machine import BlockMachine
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
    return _Product(kernel, machine).build()


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
        self.kernel = kernel
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, MatmulOp))
        *self.batch, self.m, self.n = spec(self.root.y).dims
        self.k = spec(self.root.a).dims[-1]
        least = machine.least_dot
        self.shape = (
            power_of_two(self.m, machine.tile_m, least),
            power_of_two(self.n, machine.tile_n, least),
        )
        self.step = machine.step(self.k, spec(self.root.a).dtype)
        sizes = " x ".join(f"[{r}, {c}]" for r, c in ((self.m, self.k), (self.k, self.n)))
        batch = f", batch [{', '.join(map(str, self.batch))}]" if self.batch else ""
        self.b, self.pull = start(kernel, f"product {sizes}{batch}")
        self.results = Results(self.b, self.pull, kernel.returned)

    def build(self) -> Lowered:
        """The tile program."""
        b, (rows, columns) = self.b, self.shape
        with b.parallel("b", product(self.batch)) as outer:
            at = unraveled(outer.iv, self.batch)
            with b.parallel("i", self.m, rows) as i, b.parallel("j", self.n, columns) as j:
                row, column = i.iv + lane(0, rows), j.iv + lane(1, columns)
                total = self.total(at, row, column)
                self.pull.made[self.root.y] = lambda index, shape, bounds: total
                bounds = (*cut(row, self.m, rows), *cut(column, self.n, columns))
                self.results.store([*at, row, column], self.shape, bounds)
        self.results.borders(columns)
        return Lowered(b.program)

    def total(self, at: Sequence[Expr], row: Expr, column: Expr) -> SSAValue:
        """The sums of a block."""
        b, (rows, columns) = self.b, self.shape
        dtype = accumulator(spec(self.root.y).dtype)
        zero = b.full(0, self.shape, dtype)
        with b.loop("k", 0, self.k, self.step, [zero]) as loop, self.pull.scope():
            across, down = loop.iv + lane(1, self.step), loop.iv + lane(0, self.step)
            x = block(
                self.pull,
                self.root.a,
                [*at, row, across],
                (rows, self.step),
                cut(row, self.m, rows),
                cut(across, self.k, self.step),
            )
            last = [column, down] if self.root.transpose_b.data else [down, column]
            y = block(
                self.pull,
                self.root.b,
                [*at, *last],
                (self.step, columns),
                cut(column, self.n, columns),
                cut(down, self.k, self.step),
            )
            loop.next = [b.dot(x, y, loop.carried[0])]
        return b.convert(loop.results[0], spec(self.root.y).dtype)
