"""Matrix products: a register tile of the result stays put while one axis streams past it.

Constant right-hand sides are packed at compile time into panels ``[N / tile_n][K][tile_n]``, so
that the inner loop reads them in one unbroken line; of bytes, four steps of ``k`` lie side by
side, ``[N / tile_n][K / 4][tile_n][4]``, and one dot takes them all; of bf16 two, on machines with
dots of such pairs. Loops, outside in: batch, panels of columns (these run in parallel), blocks of
rows, ``k``. Leading axes of ``a`` join its rows when ``b`` has none. Where rows of ``a`` are too
long to stay in L2, ``k`` is cut into blocks outside of a task's panels, and sums wait in scratch
(Goto and van de Geijn 2008, doi:10.1145/1356052.1356053).

Floats below 32 bits that no dot takes are multiplied in f32. A block of rows is widened into
scratch once per panel; so is the panel where several blocks share it. Else it is widened in
registers: it is read once then, and reading is what takes the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr, ceildiv, is_at_least, is_less, minimum
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, ProgramOp, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile import deep
from tapeout.passes.tile.collapse import rebuilt
from tapeout.passes.tile.kernel_io import (
    Lowered,
    Machine,
    Pack,
    accumulator,
    buffer_spec,
    depth,
)
from tapeout.passes.tile.pull import Pull
from tapeout.passes.tile.widened import widen_rows

Array = np.ndarray[Any, Any]

# Blocks of rows that one task takes: their part of ``a`` stays in cache over all panels.
CHUNK = 16
# With fewer blocks of rows, writing a widened panel would cost more than it saves.
LEAST_BLOCKS = 3
# How far before its use a row of packed weights is asked for, where memory sets the pace.
AHEAD_BYTES = 1024
PAGE_BYTES = 4096


@dataclass(frozen=True)
class PackColumns:
    """``[K, N]`` (``[N, K]`` if ``transposed``) to panels ``[N / width, K / depth, width, depth]``.

    With a depth of 1 the last axis is left out. Zeros fill the last panel and the last step.
    """

    width: int
    transposed: bool
    depth: int = 1

    def __call__(self, array: Array) -> Array:
        """Pack one matrix."""
        matrix = array.T if self.transposed else array
        k, n = matrix.shape
        panels, steps = -(-n // self.width), -(-k // self.depth)
        padded = np.zeros((steps * self.depth, panels * self.width), array.dtype)
        padded[:k, :n] = matrix
        cut = padded.reshape(steps, self.depth, panels, self.width).transpose(2, 0, 3, 1)
        return np.ascontiguousarray(cut[..., 0] if self.depth == 1 else cut)


def steps_of(
    b: TileBuilder,
    length: Expr,
    depth: int,
    total: SSAValue,
    step: Callable[[Expr, Bounds, SSAValue], SSAValue],
) -> SSAValue:
    """Sum over ``length`` in dots of ``depth``; what the last one lacks counts as zero.

    ``step(s, bounds, total)`` adds the products of step ``s``, from ``s * depth`` on.
    """
    whole = length // depth
    if whole != 0:
        with b.loop("k", 0, whole, 1, [total]) as loop:
            loop.next = [step(loop.iv, (), loop.carried[0])]
        total = loop.results[0]
    if length % depth == 0:
        return total
    assert length.constant is not None, "bytes are packed of a known length"
    return step(whole, ((whole * depth + lane(1, depth), length),), total)


def lower_matmul(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a product with its epilogue; ``constants`` are weight operands."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, MatmulOp))
    is_weight = isinstance(root.b, BlockArgument) and root.b.index in constants
    if is_weight and spec(root.b).rank == 2:
        kernel = rows_joined(kernel, root.y, {root.b})
    return Product(kernel, machine, constants).build()


def row_blocks(rows: Expr, most: int) -> Iterator[tuple[Expr, Expr, int]]:
    """Cut ``rows`` into runs ``(lo, hi, size)`` of blocks of at most ``most`` rows.

    A known count is cut evenly (128 by 14 is 9 blocks of 13 and one of 11); an unknown one into
    full blocks, then a rest in falling powers of two.
    """
    count = rows.constant
    if count is not None:
        blocks = -(-count // most)
        size = -(-count // max(blocks, 1))
        whole = count // max(size, 1) * size
        if whole:
            yield ZERO, as_expr(whole), size
        if count - whole:
            yield as_expr(whole), as_expr(count), count - whole
        return
    at = ZERO
    sizes = [most, *(s for s in (8, 4, 2, 1) if s < most)]
    for size in sizes:
        end = at + (rows - at) // size * size
        yield at, end, size
        at = end


def rows_joined(kernel: KernelOp, y: SSAValue, weights: Set[SSAValue]) -> KernelOp:
    """Merge the leading axes of a product ``y`` with its rows, where its weights have none."""
    rank = spec(y).rank
    if rank < 3:
        return kernel
    return rebuilt(kernel, rank, [list(range(rank - 1)), [rank - 1]], weights) or kernel


@dataclass(frozen=True)
class _Left:
    """``size`` rows of ``a``: their index, and where they lie in f32 if they were widened."""

    at: list[Expr]
    size: int
    widened: SSAValue | None


class Product:
    """A product in the making: what its strategies share."""

    def __init__(self, kernel: KernelOp, machine: Machine, constants: Set[int]) -> None:
        self.kernel, self.machine = kernel, machine
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, MatmulOp))
        self.dims = spec(self.root.y).dims
        self.m, self.n = self.dims[-2:]
        self.k = spec(self.root.a).dims[-1]
        self.rank = len(self.dims)
        narrow = is_less(self.m, 7)
        self.width = machine.tile_n * (2 if narrow else 1)
        self.rows = 6 if narrow else machine.tile_m
        b = self.root.b
        self.packed = isinstance(b, BlockArgument) and b.index in constants and spec(b).rank == 2
        self.depth = depth(self.root.a, b, machine.pairs) if self.packed else 1
        self.dtype = accumulator(spec(self.root.y).dtype)
        self.widens = self.depth == 1 and spec(self.root.a).dtype is not self.dtype

    def build(self) -> Lowered:
        """The tile program, and the layouts of its weights."""
        arguments = self.kernel.body.block.args
        inputs = [(f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)]
        packs: dict[int, Pack] = {}
        if self.packed:
            assert isinstance(self.root.b, BlockArgument), "only operands are packed"
            at = self.root.b.index
            deep = [as_expr(self.depth)] if self.depth > 1 else []
            dims = (ceildiv(self.n, self.width), ceildiv(self.k, self.depth), as_expr(self.width))
            inputs[at] = (f"x{at}", BufferSpec((*dims, *deep), spec(self.root.b).dtype))
            packs[at] = PackColumns(self.width, bool(self.root.transpose_b.data), self.depth)
        outputs = [(f"y{i}", buffer_spec(v)) for i, v in enumerate(self.kernel.returned)]
        self.b = TileBuilder(self.kernel.sym_name.data, self.title(), inputs, outputs)
        self.pull = Pull(self.b, dict(zip(arguments, self.b.inputs, strict=True)))
        self.batch_loops([])
        return Lowered(self.b.program, packs)

    def title(self) -> str:
        """Sizes, for the head of the program."""
        shape = " x ".join(f"[{r}, {c}]" for r, c in ((self.m, self.k), (self.k, self.n)))
        batch = ", ".join(map(str, self.dims[:-2]))
        return f"product {shape}" + (f", batch [{batch}]" if batch else "")

    @property
    def program(self) -> ProgramOp:
        """The program that is built."""
        return self.b.program

    def batch_loops(self, batch: list[Expr]) -> None:
        """Loops over leading axes, and inside of them those over rows and columns."""
        if len(batch) < self.rank - 2:
            with self.b.parallel("b", self.dims[len(batch)]) as loop:
                self.batch_loops([*batch, loop.iv])
            return
        chunk = CHUNK * self.rows
        if self.is_deep(chunk):
            self.deep_loops(batch)
            return
        if is_less(self.m, chunk + 1) or self.needs_panel():
            with self.b.parallel("j", self.n, self.width) as loop, self.pull.scope():
                self.panel(batch, loop.iv, ZERO, self.m)
            return
        with self.b.parallel("c", self.m, chunk) as rows:
            with self.b.parallel("j", self.n, self.width) as loop, self.pull.scope():
                self.panel(batch, loop.iv, rows.iv, minimum(rows.iv + chunk, self.m))

    def is_deep(self, chunk: int) -> bool:
        """Whether many rows are too long for L2, or so far apart that they share sets of L1."""
        if not self.packed or self.depth > 1 or self.widens or is_less(self.m, chunk + 1):
            return False
        if self.k.constant is None:
            return False
        length = self.k.constant * self.dtype.bytes
        return chunk * length > self.machine.l2_bytes or length % PAGE_BYTES == 0

    def deep_loops(self, batch: list[Expr]) -> None:
        """Rows in whole register tiles with ``k`` cut into blocks, then the other rows.

        Sums are kept in scratch from block to block: every element adds up in the order of ``k``.
        The other rows read all weights once more, so where rows turn out to be few, all are those.
        """
        _, whole, size = next(row_blocks(self.m, self.rows))
        whole = whole * minimum(self.m // (CHUNK * self.rows + 1), 1)
        chunk, columns = deep.CHUNK * size, deep.COLUMNS // self.width * self.width
        with self.b.parallel("c", whole, chunk) as rows:
            with self.b.parallel("j", self.n, columns) as loop, self.pull.scope():
                end = minimum(rows.iv + chunk, whole)
                deep.Task(self, batch, loop.iv, columns, rows.iv, end, size).build()
        if whole != self.m:
            with self.b.parallel("j", self.n, self.width) as loop, self.pull.scope():
                self.panel(batch, loop.iv, whole, self.m)

    def needs_panel(self) -> bool:
        """Whether ``b`` is laid out anew for each panel, which all rows then share."""
        if self.packed:
            return self.widens and is_at_least(self.m, LEAST_BLOCKS * self.rows)
        return bool(self.root.transpose_b.data)

    def panel(self, batch: list[Expr], j: Expr, first: Expr, end: Expr) -> None:
        """Rows from ``first`` to ``end`` of one panel of columns."""
        column = j + lane(1, self.width)
        cut = (self.n % self.width) != 0
        bounds: Bounds = ((column, self.n),) if cut else ()
        local = None
        if self.needs_panel():
            local = self.widen_panel(j) if self.packed else self.pack_panel(batch, column, bounds)
        rows = self.b.alloc([self.rows, self.k], self.dtype) if self.widens else None
        for lo, hi, size in row_blocks(end - first, self.rows):
            if lo == hi:
                continue
            with self.b.loop("i", lo, hi, size) as loop, self.pull.scope():
                row = first + loop.iv + lane(0, size)
                left = _Left([*self.batch_of(self.root.a, batch), row], size, rows)
                if rows is not None:
                    self.widen(left, rows)
                total = self.inner(left, batch, j, local, bounds)
                self.finish([*batch, row, column], size, total, bounds)

    def widen(self, left: _Left, scratch: SSAValue) -> None:
        """The rows of a block as the inner loop multiplies them."""

        def rows(at: Expr, shape: tuple[int, int], bounds: Bounds) -> SSAValue:
            return self.pull.at(self.root.a, [*left.at, at], shape, tuple(bounds))

        widen_rows(self.b, self.pull, scratch, left.size, self.machine.lanes, rows)

    def packed_row(self, j: Expr, k: Expr) -> SSAValue:
        """The columns of a panel of packed weights at one ``k``."""
        panels = self.pull.buffers[self.root.b]
        return self.b.load(panels, [j // self.width, k, lane(1, self.width)], (1, self.width))

    def is_from_memory(self) -> bool:
        """Whether the weights are more than what L2 holds."""
        k, n = self.k.constant, self.n.constant
        size = spec(self.root.b).dtype.bytes * (k or 0) * (n or 0)
        return size > self.machine.l2_bytes

    def ask_for_row(self, j: Expr, k: Expr) -> None:
        """Ask for packed weights before their turn: hardware does not look past a page."""
        panels = self.pull.buffers[self.root.b]
        line = deep.LINE_BYTES // spec(self.root.b).dtype.bytes
        for first in range(0, self.width, line):
            self.b.prefetch(panels, [j // self.width, k, as_expr(first)], AHEAD_BYTES)

    def widen_panel(self, j: Expr) -> SSAValue:
        """A panel of packed weights as the inner loop multiplies it."""
        local = self.b.alloc([self.k, self.width], self.dtype)
        with self.b.loop("k", 0, self.k) as loop, self.pull.scope():
            tile = self.b.convert(self.packed_row(j, loop.iv), self.dtype)
            self.b.store(tile, local, [loop.iv, lane(1, self.width)])
        return local

    def pack_panel(self, batch: list[Expr], column: Expr, bounds: Bounds) -> SSAValue:
        """A transposed activation panel, laid out as the inner loop reads it."""
        local = self.b.alloc([self.k, self.width], self.dtype)
        with self.b.loop("k", 0, self.k) as loop, self.pull.scope():
            index = [*self.batch_of(self.root.b, batch), column, loop.iv]
            tile = self.pull.at(self.root.b, index, (1, self.width), tuple(bounds))
            self.b.store(self.b.convert(tile, self.dtype), local, [loop.iv, lane(1, self.width)])
        return local

    def inner(
        self,
        left: _Left,
        batch: list[Expr],
        j: Expr,
        local: SSAValue | None,
        bounds: Bounds,
    ) -> SSAValue:
        """The sum over ``k`` for one register tile."""
        if self.depth > 1:
            return self.deep(left, j)
        column = lane(1, self.width)
        start = self.b.full(0, (left.size, self.width), self.dtype)
        with self.b.loop("k", 0, self.k, 1, [start]) as loop, self.pull.scope():
            if left.widened is not None:
                a = self.b.load(left.widened, [lane(0, left.size), loop.iv], (left.size, 1))
            else:
                a = self.pull.at(self.root.a, [*left.at, loop.iv], (left.size, 1))
            if local is not None:
                b = self.b.load(local, [loop.iv, column], (1, self.width))
            elif self.packed:
                b = self.packed_row(j, loop.iv)
                if left.size == 1 and self.is_from_memory():
                    self.ask_for_row(j, loop.iv)
            else:
                at = [*self.batch_of(self.root.b, batch), loop.iv, j + column]
                b = self.pull.at(self.root.b, at, (1, self.width), tuple(bounds))
            b = self.b.convert(b, self.dtype)
            loop.next = [self.b.dot(a, b, loop.carried[0])]
        return self.b.convert(loop.results[0], spec(self.root.y).dtype)

    def deep(self, left: _Left, j: Expr) -> SSAValue:
        """The sum over ``k`` in steps of several."""
        x, panels = self.pull.buffers[self.root.a], self.pull.buffers[self.root.b]

        def step(s: Expr, bounds: Bounds, total: SSAValue) -> SSAValue:
            k = s * self.depth + lane(1, self.depth)
            a = self.b.load(x, [*left.at, k], (left.size, self.depth), bounds)
            at = [j // self.width, s, lane(1, self.width), lane(0, self.depth)]
            return self.b.dot(a, self.b.load(panels, at, (self.depth, self.width)), total)

        total = self.b.full(0, (left.size, self.width), self.dtype)
        total = steps_of(self.b, self.k, self.depth, total, step)
        return self.b.convert(total, spec(self.root.y).dtype)

    def batch_of(self, value: SSAValue, batch: list[Expr]) -> list[Expr]:
        """Batch indices of an operand, whose axes broadcast."""
        own = spec(value).dims[:-2]
        tail = batch[len(batch) - len(own) :]
        return [ZERO if d == 1 else i for d, i in zip(own, tail, strict=True)]

    def finish(self, index: list[Expr], size: int, total: SSAValue, bounds: Bounds) -> None:
        """Epilogue and stores of one register tile."""
        self.pull.made[self.root.y] = lambda i, s, b: total
        for value, buffer in zip(self.kernel.returned, self.b.outputs, strict=True):
            tile = self.pull.at(value, index, (size, self.width), tuple(bounds))
            tile = self.b.broadcast(tile, (size, self.width))
            self.b.store(tile, buffer, index, bounds)
