"""Recurrences whose state outlives a run: a tile of the state stays in registers over all tokens.

For each sequence, and for each channel or head of it, a block of the state is loaded once, meets
the sequence's tokens one after the other, and is stored. Where a run was cut into several, the
same operations run in the same order.
"""

from __future__ import annotations

from collections.abc import Set

from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.dtypes import f32, i64
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.ops.recurrence import StateConvOp, StateScanOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, index_operand, lane
from tapeout.ir.types import IntsAttr, spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, start
from tapeout.passes.tile.places import number
from tapeout.passes.tile.product import row_blocks
from tapeout.passes.tile.pull import Pull

REST = 2
"""Rows of a register tile that are kept for what is not the state: a token, its result."""


def lower_state_conv(kernel: KernelOp, machine: Machine, _: Set[int] = frozenset()) -> Lowered:
    """The tile program of a causal convolution with a state."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, StateConvOp))
    tokens, channels = spec(root.x).dims
    sequences, before = spec(root.state).dims[0], int(spec(root.state).dims[1])
    b, pull = start(kernel, f"causal convolution [{tokens}, {channels}] of {before + 1} taps")
    y, state = _results(kernel, b, root.y, root.after, root.state)
    width = machine.lanes
    _clear(b, y, [tokens], channels, width)
    with b.parallel("b", sequences) as s, b.parallel("c", channels, width) as c, pull.scope():
        column = c.iv + lane(1, width)
        cut = ((column, channels),) if channels % width != 0 else ()

        def line(value: SSAValue, at: list[Expr]) -> SSAValue:
            return b.broadcast(pull.at(value, [*at, column], (1, width), cut), (1, width))

        taps = [line(root.weight, [as_expr(k)]) for k in range(before + 1)]
        window = [b.load(state, [s.iv, as_expr(k), column], (1, width), cut) for k in range(before)]
        span = _span(b, pull, root.start, root.stop, s.iv, tokens)
        with b.loop("t", *_ENDS, 1, window, indices=span) as t, pull.scope():
            seen = [*t.carried, line(root.x, [t.iv])]
            total = b.map("mul", seen[0], taps[0])
            for x, tap in zip(seen[1:], taps[1:], strict=True):
                total = b.map("fma", x, tap, total)
            b.store(total, y, [t.iv, column], cut)
            t.next = seen[1:]
        for k, value in enumerate(t.results):
            b.store(value, state, [s.iv, as_expr(k), column], cut)
    return Lowered(b.program)


def lower_state_scan(kernel: KernelOp, machine: Machine, _: Set[int] = frozenset()) -> Lowered:
    """The tile program of a scan with a state per head."""
    return _Scan(kernel, machine).build()


class _Scan:
    def __init__(self, kernel: KernelOp, machine: Machine) -> None:
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, StateScanOp))
        self.tokens, self.heads, self.depth = spec(self.root.x).dims
        self.sequences, _, self.size, _ = spec(self.root.state).dims
        self.groups = spec(self.root.b).dims[1]
        self.width, self.rows = machine.tile_n, max(1, machine.tile_m - REST)
        shape = f"[{self.tokens}, {self.heads}, {self.depth}]"
        self.b, self.pull = start(kernel, f"scan {shape} with states of {self.size}")
        self.y, self.state = _results(kernel, self.b, self.root.y, self.root.after, self.root.state)

    def build(self) -> Lowered:
        b = self.b
        _clear(b, self.y, [self.tokens, self.heads], self.depth, self.width)
        with b.parallel("b", self.sequences) as s, b.parallel("h", self.heads) as h:
            span = _span(b, self.pull, self.root.start, self.root.stop, s.iv, self.tokens)
            for lo, hi, size in row_blocks(self.size, self.rows):
                if lo == hi:
                    continue
                with b.loop("n", lo, hi, size) as n, b.loop("p", 0, self.depth, self.width) as p:
                    with self.pull.scope():
                        self.block((s.iv, h.iv), n.iv + lane(0, size), size, p.iv, span)
        return Lowered(b.program)

    def block(
        self, at: tuple[Expr, Expr], row: Expr, size: int, first: Expr, span: list[SSAValue]
    ) -> None:
        """All tokens on ``size`` rows of a head's state, a register tile wide."""
        b, root, (s, h), width = self.b, self.root, at, self.width
        column, group = first + lane(1, width), h // (self.heads // self.groups)
        cut: Bounds = ((column, self.depth),) if self.depth % width != 0 else ()
        state = b.load(self.state, [s, h, row, column], (size, width), cut)
        with b.loop("t", *_ENDS, 1, [state], indices=span) as t, self.pull.scope():
            x = b.broadcast(self.pull.at(root.x, [t.iv, h, column], (1, width), cut), (1, width))
            decay = self.pull.at(root.decay, [t.iv, h], (1, 1))
            inward, outward = (
                self.pull.at(v, [t.iv, group, row], (size, 1)) for v in (root.b, root.c)
            )
            kept = b.map("mul", t.carried[0], decay)
            new = b.map("fma", inward, x, kept)
            read = b.reduce("sum", b.map("mul", new, outward), 0)
            index = [t.iv, h, column]
            before = b.load(self.y, index, (1, width), cut)
            b.store(b.map("add", before, read), self.y, index, cut)
            t.next = [new]
        b.store(t.results[0], self.state, [s, h, row, column], cut)


_ENDS = (index_operand(0), index_operand(1))


def _results(
    kernel: KernelOp, b: TileBuilder, y: SSAValue, after: SSAValue, state: SSAValue
) -> tuple[SSAValue, SSAValue]:
    """The buffers of both results, of which the second begins as the state."""
    assert isinstance(state, BlockArgument), "a state lies in memory"
    numbers = [-1, -1]
    returned = list(kernel.returned)
    numbers[returned.index(after)] = state.index
    b.program.begins = IntsAttr(tuple(numbers))
    return b.outputs[returned.index(y)], b.outputs[returned.index(after)]


def _clear(b: TileBuilder, y: SSAValue, rows: list[Expr], columns: Expr, width: int) -> None:
    """0 everywhere: tokens of no sequence are not visited."""
    with b.parallel("t", rows[0]) as t:
        inner = [t.iv]
        for size in rows[1:]:
            with b.loop("h", 0, size) as h:
                _clear_row(b, y, [*inner, h.iv], columns, width)
        if not rows[1:]:
            _clear_row(b, y, inner, columns, width)


def _clear_row(b: TileBuilder, y: SSAValue, at: list[Expr], columns: Expr, width: int) -> None:
    with b.loop("z", 0, columns, width) as z:
        column = z.iv + lane(1, width)
        cut = ((column, columns),) if columns % width != 0 else ()
        b.store(b.full(0, (1, width), f32), y, [*at, column], cut)


def _span(
    b: TileBuilder, pull: Pull, first: SSAValue, last: SSAValue, s: Expr, tokens: Expr
) -> list[SSAValue]:
    """The tokens of a sequence, inside of those that there are."""
    found = [b.convert(pull.at(v, [s], (1, 1)), i64) for v in (first, last)]
    low = b.map("max", found[0], number(b, 0))
    return [low, b.map("min", found[1], number(b, tokens))]
