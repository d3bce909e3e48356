"""Exact counts of a tile program: arithmetic, and bytes to and from each memory level.

A byte counts where its lane is inside the bounds of the load or store. Arithmetic counts for
every lane of a tile, inside the bounds or not: a core computes them all. Work on indices counts
as the arithmetic that ``tile.map`` does with it; conversions, broadcasts and addresses are free.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from xdsl.ir import Block, Operation

from tapeout.ir.expr import Expr, Symbol, is_at_least, is_less
from tapeout.ir.scalars import SCALARS
from tapeout.ir.tile import ops
from tapeout.ir.tile.lanes import mask
from tapeout.ir.tile.ops import bounds_of, buffer_of, index_position, lane_axis, tile_of

Bytes = Mapping[str, int]
"""Bytes by memory level."""

TABLE_BYTES = 32
"""What the table of a step of ``tile.look_up`` takes: 16 entries in halves."""


class DataDecides(ValueError):
    """How much a program does depends on its data: no count holds for all of it."""


@dataclass(frozen=True)
class Counts:
    """What one run of a program does."""

    flops: int = 0
    loaded: Bytes = field(default_factory=dict[str, int])
    stored: Bytes = field(default_factory=dict[str, int])

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.flops + other.flops,
            _added(self.loaded, other.loaded),
            _added(self.stored, other.stored),
        )

    def times(self, n: int) -> Counts:
        """As often as ``n`` times."""
        scaled = [{level: n * b for level, b in t.items()} for t in (self.loaded, self.stored)]
        return Counts(self.flops * n, *scaled)


def count(program: ops.ProgramOp, symbols: Mapping[str, int]) -> Counts:
    """The counts for these values of a program's symbols.

    Loops on whose variable nothing inside depends are multiplied, others gone through. Raises
    DataDecides where a bound reads a tile.
    """
    return _Counter().block(program.body.block, dict(symbols))


def flops(op: Operation) -> int:
    """Arithmetic of one tile operator: a function's own count per lane, two per step of a dot.

    What is looked up is added: one.
    """
    match op:
        case ops.MapOp():
            return SCALARS[op.fn.data].flops * math.prod(tile_of(op.y).shape)
        case ops.ReduceOp():
            return math.prod(tile_of(op.x).shape) - math.prod(tile_of(op.y).shape)
        case ops.DotOp():
            return 2 * math.prod(tile_of(op.y).shape) * tile_of(op.a).shape[1]
        case ops.LookUpOp():
            return math.prod(tile_of(op.y).shape) * op.steps * op.bits
        case _:
            return 0


class _Counter:
    def __init__(self) -> None:
        self.needs: dict[Operation, frozenset[str]] = {}
        self.known: dict[tuple[Operation, tuple[int, ...]], Counts] = {}

    def block(self, block: Block, symbols: dict[str, int]) -> Counts:
        total = Counts()
        for op in block.ops:
            total = total + self.operator(op, symbols)
        return total

    def operator(self, op: Operation, symbols: dict[str, int]) -> Counts:
        if isinstance(op, ops.LookUpOp):
            return Counts(flops(op), _looked_up(op))
        if not isinstance(op, ops.ForOp | ops.LoadOp | ops.StoreOp):
            return Counts(flops(op))
        key = op, tuple(symbols[name] for name in sorted(self.needed(op)))
        if key not in self.known:
            found = self.loop(op, symbols) if isinstance(op, ops.ForOp) else _moved(op, symbols)
            self.known[key] = found
        return self.known[key]

    def loop(self, op: ops.ForOp, symbols: dict[str, int]) -> Counts:
        lo, hi, step = (e.evaluate(symbols) for e in op.range.data)
        block, name = op.body.block, op.symbol.name
        if not any(name in self.needed(inner) for inner in block.ops):
            return self.block(block, {**symbols, name: lo}).times(len(range(lo, hi, step)))
        total = Counts()
        for i in range(lo, hi, step):
            total = total + self.block(block, {**symbols, name: i})
        return total

    def needed(self, op: Operation) -> frozenset[str]:
        """Names of the symbols on which the counts of an operator depend."""
        if op not in self.needs:
            names = {s.name for e in _deciding(op) for s in e.symbols() if lane_axis(s) is None}
            if isinstance(op, ops.ForOp):
                inside = {n for inner in op.body.block.ops for n in self.needed(inner)}
                names |= inside - {op.symbol.name}
            self.needs[op] = frozenset(names)
        return self.needs[op]


def _deciding(op: Operation) -> Iterator[Expr]:
    """Expressions that decide how much an operator does."""
    exprs: list[Expr] = []
    if isinstance(op, ops.ForOp):
        exprs = list(op.range.data)
    elif isinstance(op, ops.LoadOp | ops.StoreOp):
        exprs = [e for pair in _open_bounds(op) for e in pair]
    if any(index_position(s) is not None for e in exprs for s in e.symbols()):
        raise DataDecides(f"{op.name}: a tile decides {', '.join(map(str, exprs))}")
    yield from exprs


def _open_bounds(op: ops.LoadOp | ops.StoreOp) -> list[tuple[Expr, Expr]]:
    """Bounds that are not known to hold always."""
    return [(e, n) for e, n in bounds_of(op) if not (is_at_least(e, 0) and is_less(e, n))]


def _moved(op: ops.LoadOp | ops.StoreOp, symbols: Mapping[str, int]) -> Counts:
    tile = tile_of(op.y if isinstance(op, ops.LoadOp) else op.value)

    def known(s: Symbol) -> int:
        return symbols[s.name]

    lanes = int(mask(_open_bounds(op), tile.shape, known).sum())
    moved = {buffer_of(op.buffer).space: lanes * buffer_of(op.buffer).dtype.bytes}
    return Counts(loaded=moved) if isinstance(op, ops.LoadOp) else Counts(stored=moved)


def _looked_up(op: ops.LookUpOp) -> Bytes:
    """The codes, and a table for each row."""
    rows, columns = tile_of(op.y).shape
    codes, tables = op.bits * op.steps // 2 * columns, rows * op.steps * TABLE_BYTES
    return _added({buffer_of(op.codes).space: codes}, {buffer_of(op.tables).space: tables})


def _added(a: Bytes, b: Bytes) -> Bytes:
    return {level: a.get(level, 0) + b.get(level, 0) for level in {**a, **b}}
