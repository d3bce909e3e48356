"""The tiles of a product: one to a program, or, where these would be few, a part of one.

A small result has few tiles, which may not keep a device busy. Then what a tile sums is cut into
parts, each by a program of its own; a second function adds the parts in their order, so that the
result is the same bits every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr, ceildiv, maximum, minimum, product
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import lane
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, unraveled
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.kernel_io import accumulator
from tapeout.passes.tile.places import Pairs
from tapeout.passes.tile.pull import Pull
from tapeout.passes.tile.results import Results
from tapeout.passes.tile.row_folds import held

LEAST_STEPS = 4
"""Steps of a part: fewer are not worth a second function."""


@dataclass(frozen=True)
class Tile:
    """``rows`` x ``columns`` elements of a result of ``dims [m, n]``, from ``i`` and ``j`` on.

    ``at``: which of the results, where there are several.
    """

    at: Sequence[Expr]
    i: Expr
    j: Expr
    rows: int
    columns: int
    dims: tuple[Expr, Expr]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    @property
    def row(self) -> Expr:
        """The row of each lane."""
        return self.i + lane(0, self.rows)

    @property
    def column(self) -> Expr:
        """The column of each lane."""
        return self.j + lane(1, self.columns)

    @property
    def kept(self) -> Pairs:
        """What cuts the rows."""
        return cut(self.row, self.dims[0], self.rows)

    @property
    def across(self) -> Pairs:
        """What cuts the columns."""
        return cut(self.column, self.dims[1], self.columns)


Sums = Callable[[Tile, Expr, Expr], SSAValue]
"""The sums of a tile over the steps from one to another, in the accumulator's type."""


@dataclass(frozen=True)
class Tiles:
    """Builds the loops over the tiles of ``y``, which is ``[m, n]`` for every place of ``batch``.

    A tile sums ``steps``; together they read a matrix of ``bytes_read``. ``index`` is where a tile
    of the result stands, ``ended`` what its sums become before the epilogue.
    """

    b: TileBuilder
    pull: Pull
    machine: BlockMachine
    results: Results
    y: SSAValue
    batch: Sequence[Expr]
    dims: tuple[Expr, Expr]
    shape: tuple[int, int]
    steps: Expr
    bytes_read: Expr
    sums: Sums
    index: Callable[[Tile], Sequence[Expr]]
    ended: Callable[[Tile, SSAValue], SSAValue] = lambda _, sums: sums

    def build(self) -> None:
        """All tiles. Where rows may turn out few or many, there is code for both."""
        m, least = self.dims[0], self.machine.least_dot
        if m.constant is not None:
            self.known(m.constant)
        else:
            parts = self.parts(least, least)
            # 1 where rows are few enough for parts, else 0.
            few = minimum(as_expr(least) // maximum(m, 1), 1) if parts > 1 else ZERO
            if few.constant != 0:
                self.in_parts(m * few, minimum(m, least), least, parts)
            self.whole(m * (1 - few))
        self.results.borders(self.shape[1])

    def known(self, m: int) -> None:
        """A known number of rows."""
        parts = self.parts(m, self.shape[0])
        if parts > 1:
            self.in_parts(as_expr(m), as_expr(m), self.shape[0], parts)
        else:
            self.whole(as_expr(m))

    def parts(self, m: int, rows: int) -> int:
        """Parts of the sums of ``m`` rows, which move no more bytes than the matrix has."""
        n, steps = self.dims[1].constant, self.steps.constant
        if self.batch or not m or not n or not steps:
            return 1
        tiles = -(-m // rows) * -(-n // self.shape[1])
        moved = 2 * accumulator(spec(self.y).dtype).bytes * m * n
        most = (self.bytes_read.constant or 0) // moved
        return max(1, min(self.machine.programs // tiles, steps // LEAST_STEPS, most))

    def whole(self, m: Expr) -> None:
        """A program for every tile."""
        with self.b.parallel("b", product(self.batch)) as outer:
            at = unraveled(outer.iv, self.batch)
            with self.b.parallel("i", m, self.shape[0]) as i:
                with self.b.parallel("j", self.dims[1], self.shape[1]) as j, self.pull.scope():
                    tile = Tile(at, i.iv, j.iv, *self.shape, self.dims)
                    self.finish(tile, self.sums(tile, ZERO, self.steps))

    def in_parts(self, m: Expr, most: Expr, size: int, parts: int) -> None:
        """A program for every part of a tile; then one for every tile, which adds the parts.

        There are ``m`` rows, never more than ``most``; a tile has ``size``.
        """
        b, n, columns = self.b, self.dims[1], self.shape[1]
        each = ceildiv(self.steps, parts)
        dtype = accumulator(spec(self.y).dtype)
        kept = b.alloc([as_expr(parts), most, n], dtype, "shared")
        with b.parallel("i", m, size) as i, b.parallel("j", n, columns) as j:
            with b.parallel("p", parts) as p, self.pull.scope():
                tile = Tile((), i.iv, j.iv, size, columns, (most, n))
                end = minimum((p.iv + 1) * each, self.steps)
                sums = self.sums(tile, p.iv * each, end)
                b.store(sums, kept, [p.iv, tile.row, tile.column], (*tile.kept, *tile.across))
        with b.parallel("i", m, size) as i, b.parallel("j", n, columns) as j, self.pull.scope():
            tile = Tile((), i.iv, j.iv, size, columns, (most, n))
            bounds = (*tile.kept, *tile.across)
            zero = b.full(0, tile.shape, dtype)
            with b.loop("p", 0, parts, 1, [zero]) as p:
                part = b.load(kept, [p.iv, tile.row, tile.column], tile.shape, bounds)
                p.next = [b.map("add", p.carried[0], part)]
            self.finish(tile, p.results[0])

    def finish(self, tile: Tile, sums: SSAValue) -> None:
        """Epilogue and stores."""
        total = self.b.convert(self.ended(tile, sums), spec(self.y).dtype)
        self.pull.made[self.y] = held(total)
        self.results.store(self.index(tile), tile.shape, (*tile.kept, *tile.across))


def row_major(tile: Tile) -> Sequence[Expr]:
    """The place of a tile of a result ``[*, m, n]``."""
    return [*tile.at, tile.row, tile.column]
