"""Products in which every row names its own matrix: the rows of each expert, one expert at a time.

Rows are listed by expert. Then tasks are blocks of columns of one expert's matrix, which is read
for every ``CHUNK`` register tiles of rows once: a block of ``k`` of these rows is gathered side by
side, and multiplied by the panels of columns (packed as those of a product) with a loop for each
height of a register tile. Sums stay in scratch from block to block, so every element adds up in
the order of ``k``, whatever rows stand beside it. Rows go through the epilogue to where they came
from.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr, ceildiv, minimum
from tapeout.ir.ops.experts import ExpertMatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, index_operand, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.by_expert import COLUMNS, ByExpert
from tapeout.passes.tile.deep import CHUNK, LINE_BYTES, STEPS
from tapeout.passes.tile.kernel_io import (
    Lowered,
    Machine,
    Pack,
    accumulator,
    buffer_spec,
    sweep,
)
from tapeout.passes.tile.places import NotPullable, number
from tapeout.passes.tile.product import AHEAD_BYTES, PackColumns
from tapeout.passes.tile.pull import Pull

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PackExperts:
    """``[E, K, N]`` (``[E, N, K]`` if ``transposed``) to each expert's panels of columns."""

    width: int
    transposed: bool

    def __call__(self, array: Array) -> Array:
        """Pack one matrix after the other."""
        pack = PackColumns(self.width, self.transposed)
        n, k = array.shape[1:] if self.transposed else array.shape[:0:-1]
        made = np.empty((len(array), -(-n // self.width), k, self.width), array.dtype)
        for matrix, panels in zip(array, made, strict=True):
            panels[...] = pack(matrix)
        return made


def lower_experts(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a product by experts with its epilogue."""
    return _Experts(kernel, machine, constants).build()


@dataclass(frozen=True)
class _Count:
    """How many rows a chunk has, how many of them stand in full blocks, and the rest."""

    rows: SSAValue
    whole: SSAValue
    rest: SSAValue


class _Experts:
    def __init__(self, kernel: KernelOp, machine: Machine, constants: Set[int]) -> None:
        self.kernel, self.machine = kernel, machine
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, ExpertMatmulOp))
        self.tokens, self.n = spec(self.root.y).dims
        self.experts = spec(self.root.b).dims[0]
        length = spec(self.root.a).dims[1].constant
        if length is None:
            raise NotPullable("the inner size of a product by experts is a number")
        self.k = length
        self.width, self.rows = machine.tile_n, machine.tile_m
        self.columns = COLUMNS // self.width * self.width
        b = self.root.b
        self.packed = isinstance(b, BlockArgument) and b.index in constants
        self.dtype = accumulator(spec(self.root.y).dtype)
        self.steps = max(1, -(-self.k // max(1, -(-self.k // STEPS))))

    def build(self) -> Lowered:
        arguments = self.kernel.body.block.args
        inputs = [(f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)]
        packs: dict[int, Pack] = {}
        if self.packed:
            assert isinstance(self.root.b, BlockArgument), "only operands are packed"
            at, dtype = self.root.b.index, spec(self.root.b).dtype
            panels = (self.experts, ceildiv(self.n, self.width), self.k, self.width)
            inputs[at] = (f"x{at}", BufferSpec(tuple(map(as_expr, panels)), dtype))
            packs[at] = PackExperts(self.width, bool(self.root.transpose_b.data))
        outputs = [(f"y{i}", buffer_spec(v)) for i, v in enumerate(self.kernel.returned)]
        title = f"[{self.tokens}, {self.k}] x one of {self.experts} [{self.k}, {self.n}]"
        self.b = TileBuilder(self.kernel.sym_name.data, f"product {title}", inputs, outputs)
        self.pull = Pull(self.b, dict(zip(arguments, self.b.inputs, strict=True)))
        self.by_expert = ByExpert(self.b, self.pull, self.root.experts, self.experts)
        with self.b.parallel("j", self.n, self.columns) as j:
            with self.b.parallel("e", self.experts) as e, self.pull.scope():
                self.task(j.iv, e.iv)
        return Lowered(self.b.program, packs)

    def task(self, j: Expr, e: Expr) -> None:
        """Rows of an expert times a block of its columns."""
        b, chunk = self.b, CHUNK * self.rows
        lo, hi = self.by_expert.ends_of(e)
        # Rows stand an odd number of cache lines apart, or they would share sets of L1.
        line = LINE_BYTES // self.dtype.bytes
        apart = (-(-self.steps // line) | 1) * line
        self.near = b.alloc([chunk, apart], self.dtype)
        self.sums = b.alloc([chunk, self.columns], self.dtype)
        self.panel = None if self.packed else b.alloc([self.steps, self.width], self.dtype)
        last = minimum(j + self.columns, self.n)
        bounds = index_operand(0), index_operand(1)
        with b.loop("r", *bounds, chunk, indices=[lo, hi]) as r, self.pull.scope():
            left = b.map("min", b.map("sub", hi, number(b, r.iv)), number(b, chunk))
            whole = self.index_of(index_operand(0) // self.rows * self.rows, left)
            count = _Count(left, whole, b.map("sub", left, whole))
            with self.each(count) as i, b.loop("c", 0, self.columns, self.width) as c:
                zero = b.full(0, (1, self.width), self.dtype)
                b.store(zero, self.sums, [i, c.iv + lane(1, self.width)])
            with b.loop("q", 0, self.k, self.steps) as q, self.pull.scope():
                size = minimum(self.k - q.iv, self.steps)
                with self.each(count) as i:
                    self.gather(r.iv + i, i, q.iv, size)
                with b.loop("p", j, last, self.width) as p, self.pull.scope():
                    self.add(e, p.iv, p.iv - j, count, q.iv, size)
            with self.each(count) as i:
                self.finish(r.iv + i, i, j, last)

    def index_of(self, value: Expr, of: SSAValue) -> SSAValue:
        return self.b.index(value, (1, 1), [of])

    @contextmanager
    def each(self, count: _Count) -> Generator[Expr]:
        """The rows of a chunk, one by one."""
        with self.b.loop("i", 0, index_operand(0), indices=[count.rows]) as i, self.pull.scope():
            yield i.iv

    def gather(self, place: Expr, i: Expr, first: Expr, size: Expr) -> None:
        """Put ``size`` steps of ``k`` of a row beside those of the other rows, in f32 if narrow."""

        def part(at: Expr, width: int, bounds: Bounds, _: list[SSAValue]) -> list[SSAValue]:
            column, shape = at + lane(1, width), (1, width)
            tile = self.pull.at(self.root.a, [row, first + column], shape, tuple(bounds))
            tile = self.b.broadcast(self.b.convert(tile, self.dtype), shape)
            self.b.store(tile, self.near, [i, column], bounds)
            return []

        with self.by_expert.row(place) as row:
            sweep(self.b, self.pull, "k", 0, size, [self.machine.lanes], [[]], part)

    def add(self, e: Expr, j: Expr, c: Expr, count: _Count, q: Expr, size: Expr) -> None:
        """Add ``size`` steps of ``k`` from ``q`` on to the sums of a panel."""
        b, width = self.b, self.width
        if self.panel is not None:
            with b.loop("k", 0, size) as k, self.pull.scope():
                b.store(self.column_of(e, j, q + k.iv), self.panel, [k.iv, lane(1, width)])
        for rows, lo, hi in self.blocks():
            ends = [count.whole, count.rest]
            with b.loop("i", lo, hi, rows, indices=ends) as i, self.pull.scope():
                row, shape = i.iv + lane(0, rows), (rows, width)
                at = [row, c + lane(1, width)]
                with b.loop("k", 0, size, 1, [b.load(self.sums, at, shape)]) as k:
                    left = b.load(self.near, [row, k.iv], (rows, 1))
                    right = self.right(e, j, q, k.iv, ahead=rows < self.rows)
                    k.next = [b.dot(left, right, k.carried[0])]
                b.store(k.results[0], self.sums, at)

    def blocks(self) -> Iterator[tuple[int, Expr, Expr]]:
        """Loops that cover all rows: ``(size, lo, hi)`` of the index operands whole and rest.

        After full blocks the rest has the least of some sizes that holds it: each block reads the
        panel once more. What stands in scratch behind the last row is multiplied, and not stored.
        """
        whole, rest, below = index_operand(0), index_operand(1), 0
        yield self.rows, ZERO, whole
        for size in (*(s for s in (1, 2, 4, 8) if s < self.rows - 1), self.rows):
            fits = minimum(rest // (below + 1), 1) * (1 - minimum(rest // (size + 1), 1))
            yield size, whole, whole + fits
            below = size

    def right(self, e: Expr, j: Expr, q: Expr, k: Expr, *, ahead: bool) -> SSAValue:
        """A row of a panel; few rows of activations wait for memory, so they ask ``ahead``."""
        b, column = self.b, lane(1, self.width)
        if self.panel is not None:
            return b.load(self.panel, [k, column], (1, self.width))
        panels, at = self.pull.buffers[self.root.b], [e, j // self.width, q + k]
        if ahead:
            for first in range(0, self.width, LINE_BYTES // spec(self.root.b).dtype.bytes):
                b.prefetch(panels, [*at, as_expr(first)], AHEAD_BYTES)
        return b.convert(b.load(panels, [*at, column], (1, self.width)), self.dtype)

    def column_of(self, e: Expr, j: Expr, k: Expr) -> SSAValue:
        """A row of a panel of a matrix that is not packed."""
        column, shape = j + lane(1, self.width), (1, self.width)
        index = [e, column, k] if self.root.transpose_b.data else [e, k, column]
        bounds = ((column, self.n),) if self.n % self.width != 0 else ()
        tile = self.pull.at(self.root.b, index, shape, bounds)
        return self.b.broadcast(self.b.convert(tile, self.dtype), shape)

    def finish(self, place: Expr, i: Expr, first: Expr, last: Expr) -> None:
        """Epilogue and stores of a row."""
        b, lanes = self.b, self.machine.lanes
        with self.by_expert.row(place) as row:
            with b.loop("c", first, last, lanes) as c, self.pull.scope():
                column, shape = c.iv + lane(1, lanes), (1, lanes)
                bounds = ((column, self.n),) if self.n % lanes != 0 else ()
                total = b.load(self.sums, [i, column - first], shape)
                total = b.convert(total, spec(self.root.y).dtype)
                self.pull.made[self.root.y] = lambda i, s, b: total
                for value, buffer in zip(self.kernel.returned, b.outputs, strict=True):
                    tile = self.pull.at(value, [row, column], shape, bounds)
                    b.store(b.broadcast(tile, shape), buffer, [row, column], bounds)
