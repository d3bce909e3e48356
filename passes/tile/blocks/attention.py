"""Attention that never writes its scores: a running maximum and sum rescale what was added up.

Source: Dao, arXiv:2307.08691.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set

from xdsl.ir import SSAValue

from tapeout.ir.expr import Expr, minimum
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import lane
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.axes import cut, power_of_two
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.product import block
from tapeout.passes.tile.kernel_io import Lowered, accumulator, start
from tapeout.passes.tile.places import NotPullable
from tapeout.passes.tile.results import Results
from tapeout.passes.tile.scores import masked, scaled

DEEPEST = 256
"""Elements of a head that are held at once."""


def lower_attention(kernel: KernelOp, machine: BlockMachine, _: Set[int]) -> Lowered:
    """The tile program of an attention with its epilogue."""
    return _Attention(kernel, machine).build()


class _Attention:
    def __init__(self, kernel: KernelOp, machine: BlockMachine) -> None:
        self.kernel = kernel
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, AttentionOp))
        self.batch, self.heads, self.queries, self.depth = spec(self.root.q).dims
        self.groups, self.keys = spec(self.root.k).dims[1:3]
        self.values = spec(self.root.v).dims[3]
        self.dtype = accumulator(spec(self.root.q).dtype)
        least = machine.least_dot
        self.deep = power_of_two(self.depth, DEEPEST, least)
        self.columns = power_of_two(self.values, DEEPEST, least)
        for size, held in ((self.depth, self.deep), (self.values, self.columns)):
            if size.constant is None or size.constant > held:
                raise NotPullable(f"a head of up to {DEEPEST} elements is held at once")
        self.rows = power_of_two(self.queries, machine.tile_m, least)
        self.step = power_of_two(self.keys, machine.tile_n, least)
        shape = ", ".join(map(str, spec(self.root.q).dims))
        self.b, self.pull = start(kernel, f"attention of [{shape}] on {self.keys} keys")
        self.results = Results(self.b, self.pull, kernel.returned)

    def build(self) -> Lowered:
        """The tile program."""
        b = self.b
        with b.parallel("b", self.batch) as n, b.parallel("h", self.heads) as h:
            with b.parallel("i", self.queries, self.rows) as i:
                row, column = i.iv + lane(0, self.rows), lane(1, self.columns)
                at = [n.iv, h.iv, row]
                y = b.convert(self.head(at, i.iv), spec(self.root.y).dtype)
                self.pull.made[self.root.y] = lambda index, shape, bounds: y
                bounds = (
                    *cut(row, self.queries, self.rows),
                    *cut(column, self.values, self.columns),
                )
                self.results.store([*at, column], (self.rows, self.columns), bounds)
        self.results.borders(self.columns)
        return Lowered(b.program)

    def head(self, at: Sequence[Expr], i: Expr) -> SSAValue:
        """The result of a block of queries."""
        b, rows = self.b, self.rows
        n, h, row = at
        group = h // (self.heads // self.groups)
        kept = cut(row, self.queries, self.rows)
        q = block(
            self.pull,
            self.root.q,
            [*at, lane(1, self.deep)],
            (rows, self.deep),
            kept,
            cut(lane(1, self.deep), self.depth, self.deep),
        )
        top = b.full(-math.inf, (rows, 1), self.dtype)
        total = b.full(0, (rows, 1), self.dtype)
        sums = b.full(0, (rows, self.columns), self.dtype)
        with (
            b.loop("t", 0, self.last_key(i), self.step, [top, total, sums]) as t,
            self.pull.scope(),
        ):
            top, total, sums = t.carried
            down, across = t.iv + lane(0, self.step), t.iv + lane(1, self.step)
            k = block(
                self.pull,
                self.root.k,
                [n, group, across, lane(0, self.deep)],
                (self.deep, self.step),
                cut(across, self.keys, self.step),
                cut(lane(0, self.deep), self.depth, self.deep),
            )
            s = b.dot(q, k, b.full(0, (rows, self.step), self.dtype))
            s = scaled(b, self.root, s)
            s = masked(self.pull, self.root, s, at, across, kept, cut(across, self.keys, self.step))
            higher = b.map("max", top, b.reduce("max", s, 1))
            # A row without a key keeps -inf, from which nothing can be taken away.
            none = b.map("eq", higher, self.number(-math.inf))
            base = b.map("where", none, self.number(0), higher)
            p = b.map("exp", b.map("sub", s, base))
            shrunk = b.map("exp", b.map("sub", top, base))
            column = lane(1, self.columns)
            v = block(
                self.pull,
                self.root.v,
                [n, group, down, column],
                (self.step, self.columns),
                cut(column, self.values, self.columns),
                cut(down, self.keys, self.step),
            )
            sums = b.dot(b.convert(p, spec(self.root.v).dtype), v, b.map("mul", sums, shrunk))
            total = b.map("fma", total, shrunk, b.reduce("sum", p, 1))
            t.next = [higher, total, sums]
        _, total, sums = t.results
        none = b.map("eq", total, self.number(0))
        return b.map("div", sums, b.map("where", none, self.number(1), total))

    def last_key(self, i: Expr) -> Expr:
        """Keys that a block of queries sees."""
        if not self.root.causal.data:
            return self.keys
        return minimum(self.keys, i + self.rows + self.root.causal_offset.data[0])

    def number(self, value: float) -> SSAValue:
        return self.b.full(value, (1, 1), self.dtype)
