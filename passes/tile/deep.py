"""Products of many rows whose ``k`` is long: summed in blocks of ``k`` that stay in cache."""

from __future__ import annotations

from typing import Protocol

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import DType
from tapeout.ir.expr import ZERO, Expr, as_expr, minimum
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, lane
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Machine, sweep
from tapeout.passes.tile.pull import Pull

# Rows in register tiles, columns and steps of ``k`` that one task has in L2.
CHUNK = 8
COLUMNS = 512
STEPS = 512
LINE_BYTES = 64


class Product(Protocol):
    """What a task asks of the product that it belongs to."""

    root: MatmulOp
    b: TileBuilder
    pull: Pull
    machine: Machine
    dtype: DType
    width: int
    n: Expr
    k: Expr

    def batch_of(self, value: SSAValue, batch: list[Expr]) -> list[Expr]:
        """The place in an operand's leading axes."""
        ...

    def packed_row(self, j: Expr, k: Expr) -> SSAValue:
        """A row of a panel of packed weights."""
        ...

    def finish(self, index: list[Expr], size: int, total: SSAValue, bounds: Bounds) -> None:
        """Epilogue and store of a register tile."""
        ...


class Task:
    """One task of a product with a long ``k``: some rows, some panels, all of ``k`` in blocks.

    A block of rows is copied: in place, rows that are pages apart would push each other out of L1.
    """

    def __init__(
        self,
        of: Product,
        batch: list[Expr],
        j: Expr,
        columns: int,
        first: Expr,
        end: Expr,
        size: int,
    ) -> None:
        self.of, self.b, self.batch, self.size = of, of.b, batch, size
        self.j, self.first, self.end = j, first, end
        self.last = minimum(j + columns, of.n)
        self.count = -(-int(of.k) // STEPS)
        self.steps = -(-int(of.k) // self.count)
        room = -(-self.steps // of.machine.lanes) * of.machine.lanes
        # An odd number of cache lines apart.
        line = LINE_BYTES // of.dtype.bytes
        apart = (-(-room // line) | 1) * line
        self.rows = of.b.alloc([CHUNK * size, apart], of.dtype)
        self.sums = of.b.alloc([CHUNK * size, columns], of.dtype)

    def build(self) -> None:
        """The first block of ``k`` begins the sums, the last one finishes them."""
        final = self.steps * (self.count - 1)
        self.block(ZERO, self.steps, begins=True)
        if self.count > 2:
            with self.b.loop("q", self.steps, final, self.steps) as q, self.of.pull.scope():
                self.block(q.iv, self.steps)
        self.block(as_expr(final), int(self.of.k) - final, ends=True)

    def block(self, lo: Expr, steps: int, *, begins: bool = False, ends: bool = False) -> None:
        """Add ``steps`` of ``k`` to the sums of all rows and columns."""
        of, b, size, width = self.of, self.b, self.size, self.of.width
        with b.loop("r", 0, self.end - self.first, size) as r, of.pull.scope():
            self.copy(r.iv, lo, steps)
        with b.loop("p", self.j, self.last, width) as p, of.pull.scope():
            column = p.iv + lane(1, width)
            cut: Bounds = ((column, of.n),) if of.n % width != 0 else ()
            with b.loop("i", 0, self.end - self.first, size) as i, of.pull.scope():
                at, shape = [i.iv + lane(0, size), p.iv - self.j + lane(1, width)], (size, width)
                start = b.full(0, shape, of.dtype) if begins else b.load(self.sums, at, shape)
                with b.loop("k", 0, steps, 1, [start]) as k:
                    a = b.load(self.rows, [i.iv + lane(0, size), k.iv], (size, 1))
                    k.next = [b.dot(a, of.packed_row(p.iv, lo + k.iv), k.carried[0])]
                if ends:
                    total = b.convert(k.results[0], spec(of.root.y).dtype)
                    row = self.first + i.iv + lane(0, size)
                    of.finish([*self.batch, row, column], size, total, cut)
                else:
                    b.store(k.results[0], self.sums, at)

    def copy(self, r: Expr, lo: Expr, steps: int) -> None:
        """A register tile's rows, some steps of ``k``, to scratch."""
        of, b, size = self.of, self.b, self.size
        left = [*of.batch_of(of.root.a, self.batch), self.first + r + lane(0, size)]

        def part(first: Expr, width: int, bounds: Bounds, _: list[SSAValue]) -> list[SSAValue]:
            at = first + lane(1, width)
            tile = of.pull.at(of.root.a, [*left, lo + at], (size, width), tuple(bounds))
            b.store(b.broadcast(tile, (size, width)), self.rows, [r + lane(0, size), at], bounds)
            return []

        sweep(b, of.pull, "k", 0, as_expr(steps), [of.machine.lanes], [[]], part)
