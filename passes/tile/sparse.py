"""Products with block-sparse matrices: blocks of rows, stripes of outputs, the blocks they have.

Loops, outside in: blocks of four vectors of rows of ``a``, and as many outputs as a vector has
lanes (these run in parallel), stripes of four outputs, blocks that are not zero. First ``a`` is
laid out anew, ``[M / width][K * width]``: a column of the matrix then meets one unbroken line. The
sums of some stripes go through cache and are turned there, so that epilogues and stores run along
the outputs, as those of a dense product do.

Of bytes, four blocks make one dot: their lines are interleaved in registers, and the order that
this leaves is undone beforehand, in the layout of ``a``. Source: arXiv:2306.16601.
"""

from __future__ import annotations

from collections.abc import Generator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.dtypes import DType, i32, i64, u16
from tapeout.ir.expr import ZERO, Expr, as_expr, ceildiv, minimum
from tapeout.ir.numeric import is_byte
from tapeout.ir.ops.sparse import BlockSparseMatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, index_operand, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.collapse import rebuilt
from tapeout.passes.tile.kernel_io import Lowered, Machine, Pack, accumulator, buffer_spec
from tapeout.passes.tile.places import NotPullable, clamped
from tapeout.passes.tile.pull import Pull

Array = np.ndarray[Any, Any]

ROWS = 4
"""Outputs of a block: with four vectors of rows, 16 accumulators."""
VECTORS = 4
QUAD = 4
"""Blocks of bytes that one dot takes."""
ADDRESS_SCALE = 8
"""Bytes to a unit of a place: the most that an address of x86 scales an index by, for nothing."""


@dataclass(frozen=True)
class PackStarts:
    """Starts of stripes counted in dots of ``depth`` blocks."""

    depth: int

    def __call__(self, starts: Array) -> Array:
        """Count."""
        assert not (starts % self.depth).any(), "stripes are filled up to whole dots"
        return starts // self.depth


@dataclass(frozen=True)
class PackColumns:
    """Columns ``[dots, depth]``, each as the place where its line begins.

    A line begins every ``step`` units of a place; ``dtype`` is what holds a place.
    """

    depth: int
    step: int
    inputs: int | None
    dtype: DType

    def __call__(self, columns: Array) -> Array:
        """Cut and scale."""
        last, most = int(columns.max(initial=0)), np.iinfo(self.dtype.numpy).max
        assert int(columns.min(initial=0)) >= 0, "a block lies outside of its matrix"
        assert self.inputs is None or last < max(self.inputs, 1), "a block lies beyond its matrix"
        assert last * self.step <= most, f"places are of {self.dtype.bits} bits"
        return (columns * self.step).astype(self.dtype.numpy).reshape(-1, self.depth)


@dataclass(frozen=True)
class PackValues:
    """Values ``[blocks, rows]`` as ``[dots, rows, depth]``: the steps of a dot side by side."""

    depth: int

    def __call__(self, values: Array) -> Array:
        """Cut and turn."""
        cut = values.reshape(-1, self.depth, values.shape[1])
        return np.ascontiguousarray(cut.transpose(0, 2, 1))


def lower_block_sparse(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a block-sparse product with its epilogue."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, BlockSparseMatmulOp))
    rank, fixed = spec(root.y).rank, {root.starts, root.columns, root.values}
    if rank > 2:
        kernel = rebuilt(kernel, rank, [list(range(rank - 1)), [rank - 1]], fixed) or kernel
    return _Sparse(kernel, machine, constants).build()


class _Sparse:
    def __init__(self, kernel: KernelOp, machine: Machine, constants: Set[int]) -> None:
        self.kernel, self.lanes = kernel, machine.lanes
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, BlockSparseMatmulOp))
        operands = (self.root.a, self.root.starts, self.root.columns, self.root.values)
        if not all(isinstance(v, BlockArgument) for v in operands):
            raise NotPullable("the blocks of a sparse product lie in memory")
        if spec(self.root.values).dims[1] != ROWS:
            raise NotPullable(f"a sparse product has blocks of {ROWS} outputs")
        self.batch, (self.m, self.k) = spec(self.root.a).dims[:-2], spec(self.root.a).dims[-2:]
        self.n: int = self.root.outputs.data
        self.width = VECTORS * self.lanes
        self.packed = all(
            isinstance(v, BlockArgument) and v.index in constants for v in operands[1:]
        )
        dots = QUAD if all(is_byte(spec(v).dtype) for v in (self.root.a, self.root.values)) else 1
        self.depth: int = dots if self.packed and self.root.group.data % dots == 0 else 1
        self.dtype = accumulator(spec(self.root.y).dtype)
        self.unit = ADDRESS_SCALE // spec(self.root.a).dtype.bytes
        short = self.k.constant is not None and self.k.constant * self.step <= 1 << u16.bits
        self.places = u16 if short else i32

    @property
    def step(self) -> int:
        """Units of a place from line to line."""
        return self.width // self.unit

    def build(self) -> Lowered:
        arguments = self.kernel.body.block.args
        inputs = [(f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)]
        packs = self.packs()
        for at in packs:
            inputs[at] = (f"x{at}", self.packed_spec(arguments[at]))
        outputs = [(f"y{i}", buffer_spec(v)) for i, v in enumerate(self.kernel.returned)]
        self.b = TileBuilder(self.kernel.sym_name.data, self.title(), inputs, outputs)
        self.pull = Pull(self.b, dict(zip(arguments, self.b.inputs, strict=True)))
        blocks = ceildiv(self.m, self.width)
        dims = (*self.batch, blocks, ceildiv(self.k, self.lanes) * self.lanes * self.width)
        self.lines = self.b.alloc(dims, spec(self.root.a).dtype, "shared")
        self.lay_out()
        self.multiply()
        return Lowered(self.b.program, packs)

    def title(self) -> str:
        blocks = spec(self.root.columns).dims[0]
        batch = f", batch [{', '.join(map(str, self.batch))}]" if self.batch else ""
        return (
            f"sparse product [{self.m}, {self.k}] x [{self.k}, {self.n}], "
            f"{blocks} blocks of {ROWS}{batch}"
        )

    def packs(self) -> dict[int, Pack]:
        """How the blocks are stored: by dots, where they are weights."""
        if not self.packed:
            return {}
        starts, columns, values = (
            v.index
            for v in (self.root.starts, self.root.columns, self.root.values)
            if isinstance(v, BlockArgument)
        )
        return {
            starts: PackStarts(self.depth),
            columns: PackColumns(self.depth, self.step, self.k.constant, self.places),
            values: PackValues(self.depth),
        }

    def packed_spec(self, value: SSAValue) -> BufferSpec:
        packed = {
            self.root.starts: BufferSpec(spec(self.root.starts).dims, spec(value).dtype),
            self.root.columns: BufferSpec((self.dots, as_expr(self.depth)), self.places),
            self.root.values: BufferSpec(
                (self.dots, as_expr(ROWS), as_expr(self.depth)), spec(value).dtype
            ),
        }
        return packed[value]

    @contextmanager
    def rows(self) -> Generator[tuple[list[Expr], Expr]]:
        """Parallel loops over batches and blocks of rows."""
        with ExitStack() as stack:
            batch = [stack.enter_context(self.b.parallel("b", size)).iv for size in self.batch]
            yield batch, stack.enter_context(self.b.parallel("i", self.m, self.width)).iv

    def within_rows(self, row: Expr) -> Bounds:
        return ((row, self.m),) if self.m % self.width != 0 else ()

    def row_of(self, place: Expr) -> Expr:
        """The row of a block that stands at a place of its lines."""
        if self.depth == 1:
            return place
        return self.lanes * (place % 16 // 4) + 4 * (place // 16) + place % 4

    def lay_out(self) -> None:
        """``a`` with columns as lines: bytes whole lines at a time, others square by square."""
        lanes, b, x = self.lanes, self.b, self.pull.buffers[self.root.a]
        turned = self.width if is_byte(spec(self.root.a).dtype) else lanes
        with self.rows() as (batch, i), b.parallel("k", self.k, lanes) as loop:
            column, cut = loop.iv + lane(1, lanes), self.k % lanes != 0
            for place in range(0, self.width, turned):
                row = i + self.row_of(place + lane(0, turned))
                bounds = (*self.within_rows(row), *([(column, self.k)] if cut else []))
                tile = b.load(x, [*batch, row, column], (turned, lanes), bounds)
                down, along = loop.iv + lane(0, lanes), place + lane(1, turned)
                at = [*batch, i // self.width, down * self.width + along]
                b.store(b.transpose(tile), self.lines, at)

    def multiply(self) -> None:
        """All sums, their epilogues and stores."""
        lanes, b = self.lanes, self.b
        with self.rows() as (batch, i), b.parallel("j", self.n, lanes) as loop:
            with self.pull.scope():
                sums = b.alloc([lanes, self.width], self.dtype)
                first = loop.iv // ROWS
                last = minimum(first + lanes // ROWS, -(-self.n // ROWS))
                with b.loop("n", first, last) as stripe, self.pull.scope():
                    at = [ROWS * (stripe.iv - first) + lane(0, ROWS), lane(1, self.width)]
                    b.store(self.stripe(batch, i, stripe.iv), sums, at)
                for place in range(0, self.width, lanes):
                    with self.pull.scope():
                        self.finish(batch, i + place, loop.iv, sums, place)

    def stripe(self, batch: list[Expr], i: Expr, stripe: Expr) -> SSAValue:
        """The sums of one stripe: ``[4, width]``."""
        starts, b = self.pull.buffers[self.root.starts], self.b
        ends = [self.place(b.load(starts, [stripe + n], (1, 1)), self.dots + 1) for n in (0, 1)]
        total = b.full(0, (ROWS, self.width), self.dtype)
        lo, hi = index_operand(0), index_operand(1)
        with b.loop("d", lo, hi, 1, [total], indices=ends) as loop, self.pull.scope():
            loop.next = [self.dot([*batch, i // self.width], loop.iv, loop.carried[0])]
        return loop.results[0]

    @property
    def dots(self) -> Expr:
        return spec(self.root.columns).dims[0] // self.depth

    def place(self, at: SSAValue, size: Expr) -> SSAValue:
        """A place that packing has checked, or one held inside."""
        return at if self.packed else clamped(self.b, self.b.convert(at, i64), size)

    def dot(self, before: list[Expr], d: Expr, total: SSAValue) -> SSAValue:
        """One block more, or four of bytes."""
        columns, values = (self.pull.buffers[v] for v in (self.root.columns, self.root.values))

        def row(step: int) -> SSAValue:
            at = [d, as_expr(step)] if self.packed else [d]
            column = self.place(self.b.load(columns, at, (1, 1)), self.k)
            first = index_operand(0) * (self.unit if self.packed else self.width)
            index = [*before, first + lane(1, self.width)]
            return self.b.load(self.lines, index, (1, self.width), indices=[column])

        if self.depth > 1:
            weights = self.b.load(
                values, [d, lane(0, ROWS), lane(1, self.depth)], (ROWS, self.depth)
            )
            return self.b.dot(
                weights, self.b.interleave([row(n) for n in range(self.depth)]), total
            )
        at = [d, lane(0, ROWS), ZERO] if self.packed else [d, lane(0, ROWS)]
        weights = self.b.convert(self.b.load(values, at, (ROWS, 1)), self.dtype)
        return self.b.dot(weights, self.b.convert(row(0), self.dtype), total)

    def finish(self, batch: list[Expr], i: Expr, j: Expr, sums: SSAValue, place: int) -> None:
        """Epilogue and stores of a square of vectors."""
        lanes, b = self.lanes, self.b
        row, column = i + lane(0, lanes), j + lane(1, lanes)
        cut = self.n % lanes != 0
        bounds = (*self.within_rows(row), *([(column, as_expr(self.n))] if cut else []))

        def turned(*_: object) -> SSAValue:
            tile = b.load(sums, [lane(0, lanes), place + lane(1, lanes)], (lanes, lanes))
            return b.convert(b.transpose(tile), spec(self.root.y).dtype)

        self.pull.made[self.root.y] = turned
        index = [*batch, row, column]
        for value, buffer in zip(self.kernel.returned, b.outputs, strict=True):
            tile = self.pull.at(value, index, (lanes, lanes), bounds)
            b.store(b.broadcast(tile, (lanes, lanes)), buffer, index, bounds)
