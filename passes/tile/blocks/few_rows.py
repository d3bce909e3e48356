"""Products with a few rows, as a step of decoding has them: sums along lanes, without dots.

What takes time is to read the matrix, and a dot would fill most of its rows with zeros. A program
has some of the columns. Its lanes run along a line of memory: along ``k`` where the matrix is
stored transposed, else along the columns. Every lane sums what it meets; the sums of lanes are
added once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from xdsl.ir import SSAValue

from tapeout.ir.expr import Expr, as_expr, product
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import lane
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, power_of_two, unraveled
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.product import block
from tapeout.passes.tile.kernel_io import Lowered, accumulator, start
from tapeout.passes.tile.product import rows_joined
from tapeout.passes.tile.pull import NotPullable
from tapeout.passes.tile.results import Results
from tapeout.passes.tile.row_folds import held

LINE_BYTES = 128
"""Of memory, which lanes side by side read at once."""
MOST = 4
"""Rows from which on dots pay."""


def lower_few_rows(kernel: KernelOp, machine: BlockMachine, _: Set[int]) -> Lowered:
    """The tile program of a product of a few rows with its epilogue."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, MatmulOp))
    if spec(root.b).rank == 2:
        kernel = rows_joined(kernel, root.y, {root.b})
    return _FewRows(kernel, machine).build()


class _FewRows:
    def __init__(self, kernel: KernelOp, machine: BlockMachine) -> None:
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, MatmulOp))
        *self.batch, m, self.n = spec(self.root.y).dims
        if m.constant is None or m.constant > MOST:
            raise NotPullable("a product of more than a few rows")
        self.m, self.k = m.constant, spec(self.root.a).dims[-1]
        self.summed = 1 if self.root.transpose_b.data else 0
        """The axis of a tile that runs along ``k``."""
        line = LINE_BYTES // spec(self.root.b).dtype.bytes
        self.columns = power_of_two(self.n, machine.elements // line if self.summed else line)
        self.step = power_of_two(self.k, machine.elements // self.columns)
        sizes = " x ".join(f"[{r}, {c}]" for r, c in ((m, self.k), (self.k, self.n)))
        batch = f", batch [{', '.join(map(str, self.batch))}]" if self.batch else ""
        self.b, self.pull = start(kernel, f"product of few rows {sizes}{batch}")
        self.results = Results(self.b, self.pull, kernel.returned)

    def shape(self, columns: int, step: int) -> tuple[int, int]:
        """A tile: ``k`` along the summed axis, columns along the other."""
        return (columns, step) if self.summed else (step, columns)

    def build(self) -> Lowered:
        """The tile program."""
        b = self.b
        with b.parallel("b", product(self.batch)) as outer:
            at = unraveled(outer.iv, self.batch)
            with b.parallel("j", self.n, self.columns) as j:
                column = j.iv + lane(1 - self.summed, self.columns)
                bounds = cut(column, self.n, self.columns)
                for row, total in enumerate(self.totals(at, column)):
                    with self.pull.scope():
                        self.pull.made[self.root.y] = held(total)
                        index = [*at, as_expr(row), column]
                        self.results.store(index, self.shape(self.columns, 1), bounds)
        self.results.borders(self.columns)
        return Lowered(b.program)

    def totals(self, at: Sequence[Expr], column: Expr) -> list[SSAValue]:
        """The sums of every row."""
        b, dtype = self.b, accumulator(spec(self.root.y).dtype)
        whole = self.shape(self.columns, self.step)
        zeros = [b.full(0, whole, dtype) for _ in range(self.m)]
        with b.loop("k", 0, self.k, self.step, zeros) as loop, self.pull.scope():
            along = loop.iv + lane(self.summed, self.step)
            beyond = cut(along, self.k, self.step)
            last = [column, along] if self.summed else [along, column]
            within = cut(column, self.n, self.columns)
            w = b.convert(block(self.pull, self.root.b, [*at, *last], whole, within, beyond), dtype)
            loop.next = []
            for row, total in enumerate(loop.carried):
                place = [*at, as_expr(row), along]
                x = block(self.pull, self.root.a, place, self.shape(1, self.step), (), beyond)
                loop.next.append(b.multiply_add(b.convert(x, dtype), w, total))
        sums = [b.reduce("sum", total, self.summed) for total in loop.results]
        return [b.convert(total, spec(self.root.y).dtype) for total in sums]
