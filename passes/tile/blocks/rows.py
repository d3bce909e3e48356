"""Pointwise kernels, reductions, and everything made of both along the same axes.

A tile has kept places as rows and reduced ones as columns; places run along several axes at once.
Where nothing is reduced, all axes are columns of one row. Rows of up to ``machine.row`` elements
are held whole: what a reduction has read, later ones and the results find in registers. Longer
rows, and those of unknown length, are read in chunks, once by each reduction and once by the
results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, ZERO, Expr, is_less, product
from tapeout.ir.ops.reduce import ReduceOp, identity
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import Bounds, ProgramOp, lane, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, power_of_two, unraveled
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.collapse import collapsed, iteration_dims
from tapeout.passes.tile.kernel_io import start
from tapeout.passes.tile.places import Pairs
from tapeout.passes.tile.row_folds import held
from tapeout.passes.tile.row_space import COMBINE
from tapeout.passes.tile.rows import title


def lower_rows(kernel: KernelOp, machine: BlockMachine) -> ProgramOp:
    """The tile program of a kernel of pointwise, view and reduce operators."""
    return _Rows(collapsed(kernel), machine).build()


class _Rows:
    def __init__(self, kernel: KernelOp, machine: BlockMachine) -> None:
        self.kernel = kernel
        self.b, self.pull = start(kernel, title(kernel))
        self.dims = iteration_dims(kernel)
        self.reduces = [op for op in kernel.body.block.ops if isinstance(op, ReduceOp)]
        rank = len(self.dims)
        reduced = {a % rank for op in self.reduces for a in op.axes.data}
        self.along = sorted(reduced) if reduced else list(range(rank))
        self.kept = [a for a in range(rank) if a not in self.along]
        self.length = product(self.dims[a] for a in self.along)
        self.count = product(self.dims[a] for a in self.kept)
        widest = machine.row if reduced else machine.elements
        self.width = power_of_two(self.length, widest)
        self.is_whole = is_less(self.length, self.width + 1)
        if reduced and not self.is_whole:
            self.width = machine.elements
        self.rows = power_of_two(self.count, max(1, machine.elements // self.width))

    def build(self) -> ProgramOp:
        b = self.b
        if not self.reduces:
            with b.parallel("i", self.length, self.width) as loop:
                self.store(range(len(self.kernel.returned)), ZERO, loop.iv, ())
            return b.program
        with b.parallel("i", self.count, self.rows) as loop:
            row = loop.iv + lane(0, self.rows)
            kept = cut(row, self.count, self.rows)
            for op in self.reduces:
                self.pull.made[op.y] = held(self.reduced(op, row, kept))
            full, short = self.results()
            self.store(short, row, None, kept)
            if full:
                self.each_chunk(lambda first: self.store(full, row, first, kept))
        return b.program

    def each_chunk(self, body: Callable[[Expr], None]) -> None:
        """Run ``body`` at the first place of every chunk of the reduced axes."""
        if self.is_whole:
            body(ZERO)
            return
        with self.b.loop("k", 0, self.length, self.width) as loop, self.pull.scope():
            body(loop.iv)

    def reduced(self, op: ReduceOp, row: Expr, kept: Pairs) -> SSAValue:
        """One value for each row."""
        fn, dtype = op.fn.data, spec(op.x).dtype
        empty = identity(fn, dtype.numpy)
        if self.is_whole:
            return self.b.reduce(fn, self.operand(op, row, ZERO, kept, empty), 1)
        start = self.b.full(empty, (self.rows, self.width), dtype)
        with self.b.loop("k", 0, self.length, self.width, [start]) as loop, self.pull.scope():
            x = self.operand(op, row, loop.iv, kept, empty)
            loop.next = [self.b.map(COMBINE.get(fn, fn), loop.carried[0], x)]
        return self.b.reduce(fn, loop.results[0], 1)

    def operand(self, op: ReduceOp, row: Expr, first: Expr, kept: Pairs, empty: float) -> SSAValue:
        """The elements of a chunk, and the identity beyond the end of the row."""
        b, shape = self.b, (self.rows, self.width)
        index, beyond = self.place(row, first)
        x = self.pull.at(op.x, index, shape, (*kept, *beyond))
        x = b.broadcast(x, shape)
        for e, n in beyond:
            inside = b.map("lt", b.index(e, (1, self.width)), b.index(n, (1, 1)))
            x = b.map("where", inside, x, b.full(empty, (1, 1), tile_of(x).dtype))
        return x

    def place(self, row: Expr, first: Expr | None) -> tuple[list[Expr], Bounds]:
        """The index of a tile along every axis, and what cuts its columns; first of all if None."""
        column = ZERO if first is None else first + lane(1, self.width)
        index = [ZERO] * len(self.dims)
        for axes, place in ((self.kept, row), (self.along, column)):
            dims = [self.dims[a] for a in axes]
            for axis, at in zip(axes, unraveled(place, dims), strict=True):
                index[axis] = at
        return index, () if first is None else cut(column, self.length, self.width)

    def results(self) -> tuple[list[int], list[int]]:
        """The results that run along all axes, and those that have one value per row."""
        everything = range(len(self.kernel.returned))
        full = [i for i in everything if spec(self.kernel.returned[i]).dims == self.dims]
        return full, [i for i in everything if i not in full]

    def store(self, results: Sequence[int], row: Expr, first: Expr | None, kept: Pairs) -> None:
        """Pull results at a tile and store them."""
        index, beyond = self.place(row, first)
        rows = self.rows if self.reduces else 1
        shape, bounds = (rows, 1 if first is None else self.width), (*kept, *beyond)
        for i in results:
            value = self.kernel.returned[i]
            dims, at = spec(value).dims, index
            if len(dims) < len(at):
                at = [e for a, e in enumerate(at) if a in self.kept]
            at = [ZERO if d == ONE else e for d, e in zip(dims, at, strict=True)]
            tile = self.b.broadcast(self.pull.at(value, at, shape, bounds), shape)
            self.b.store(tile, self.b.outputs[i], at, bounds)
