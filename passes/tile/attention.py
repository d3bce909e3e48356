"""Attention for blocks of queries: scores of a block stay in cache, never in memory.

Per batch and head, keys are laid out once in panels ``[T / tile_n][D][tile_n]``. Then, block by
block of queries: scores against all panels with the row maxima on the way, exponentials with
the row sums, and the product with the values, divided by the sums at the end.
"""

from __future__ import annotations

import math
from collections.abc import Set

from xdsl.ir import SSAValue

from tapeout.ir.expr import Expr, ceildiv
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import Bounds, lane
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, accumulator, start
from tapeout.passes.tile.product import row_blocks
from tapeout.passes.tile.results import Results
from tapeout.passes.tile.scores import masked, scaled


def lower_attention(kernel: KernelOp, machine: Machine, _: Set[int] = frozenset()) -> Lowered:
    """The tile program of an attention kernel."""
    return _Attention(kernel, machine).build()


class _Attention:
    def __init__(self, kernel: KernelOp, machine: Machine) -> None:
        self.kernel, self.machine = kernel, machine
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, AttentionOp))
        self.batch, self.heads, self.queries, self.depth = spec(self.root.q).dims
        self.groups, self.keys = spec(self.root.k).dims[1:3]
        self.values = spec(self.root.v).dims[3]
        self.dtype = accumulator(spec(self.root.q).dtype)
        self.width = machine.tile_n
        shape = ", ".join(map(str, spec(self.root.q).dims))
        self.b, self.pull = start(kernel, f"attention of [{shape}] on {self.keys} keys")
        self.results = Results(self.b, self.pull, kernel.returned)

    def build(self) -> Lowered:
        with self.b.parallel("b", self.batch) as b, self.b.parallel("h", self.heads) as h:
            group = h.iv // (self.heads // self.groups)
            panels = ceildiv(self.keys, self.width)
            packed = self.b.alloc([panels, self.depth, self.width], self.dtype)
            scores = self.b.alloc([self.machine.tile_m, panels * self.width], self.dtype)
            self.pack(packed, b.iv, group)
            for lo, hi, size in row_blocks(self.queries, self.machine.tile_m):
                if lo == hi:
                    continue
                with self.b.loop("i", lo, hi, size) as loop, self.pull.scope():
                    at = (b.iv, h.iv, loop.iv + lane(0, size))
                    top = self.score(packed, scores, at, size)
                    total = self.exponentials(scores, top, size)
                    self.output(scores, total, at, group, size)
        return Lowered(self.b.program)

    def pack(self, packed: SSAValue, b: Expr, group: Expr) -> None:
        """Keys into panels; lanes past the last key hold zeros."""
        with self.b.loop("p", 0, ceildiv(self.keys, self.width)) as p:
            with self.b.loop("d", 0, self.depth) as d, self.pull.scope():
                key = p.iv * self.width + lane(1, self.width)
                bounds = ((key, self.keys),) if (self.keys % self.width) != 0 else ()
                tile = self.pull.at(self.root.k, [b, group, key, d.iv], (1, self.width), bounds)
                tile = self.b.convert(tile, self.dtype)
                self.b.store(tile, packed, [p.iv, d.iv, lane(1, self.width)])

    def score(
        self, packed: SSAValue, scores: SSAValue, at: tuple[Expr, Expr, Expr], size: int
    ) -> SSAValue:
        """Scaled, masked scores of a block of queries; returns the maximum of each row."""
        low = self.b.full(-math.inf, (size, self.width), self.dtype)
        with self.b.loop("t", 0, self.keys, self.width, [low]) as t, self.pull.scope():
            zero = self.b.full(0, (size, self.width), self.dtype)
            with self.b.loop("d", 0, self.depth, 1, [zero]) as d, self.pull.scope():
                q = self.pull.at(self.root.q, [*at, d.iv], (size, 1))
                index = [t.iv // self.width, d.iv, lane(1, self.width)]
                k = self.b.load(packed, index, (1, self.width))
                d.next = [self.b.dot(self.b.convert(q, self.dtype), k, d.carried[0])]
            key = t.iv + lane(1, self.width)
            beyond = ((key, self.keys),) if (self.keys % self.width) != 0 else ()
            s = scaled(self.b, self.root, d.results[0])
            s = masked(self.pull, self.root, s, at, key, (), beyond)
            self.b.store(s, scores, [lane(0, size), key])
            t.next = [self.b.map("max", t.carried[0], s)]
        return self.b.reduce("max", t.results[0], 1)

    def number(self, value: float) -> SSAValue:
        return self.b.full(value, (1, 1), self.dtype)

    def exponentials(self, scores: SSAValue, top: SSAValue, size: int) -> SSAValue:
        """Scores to ``exp(score - maximum)`` in place; returns the sum of each row, 1 for 0."""
        hidden = self.b.map("eq", top, self.number(-math.inf))
        top = self.b.map("where", hidden, self.number(0), top)
        zero = self.b.full(0, (size, self.width), self.dtype)
        with self.b.loop("t", 0, self.keys, self.width, [zero]) as t:
            index = [lane(0, size), t.iv + lane(1, self.width)]
            s = self.b.load(scores, index, (size, self.width))
            grown = self.b.map("exp", self.b.map("sub", s, top))
            self.b.store(grown, scores, index)
            t.next = [self.b.map("add", t.carried[0], grown)]
        total = self.b.reduce("sum", t.results[0], 1)
        none = self.b.map("eq", total, self.number(0))
        return self.b.map("where", none, self.number(1), total)

    def output(
        self,
        scores: SSAValue,
        total: SSAValue,
        at: tuple[Expr, Expr, Expr],
        group: Expr,
        size: int,
    ) -> None:
        """The product with the values, in register tiles of columns."""
        with self.b.loop("e", 0, self.values, self.width) as e, self.pull.scope():
            column = e.iv + lane(1, self.width)
            cut = (self.values % self.width) != 0
            bounds: Bounds = ((column, self.values),) if cut else ()
            zero = self.b.full(0, (size, self.width), self.dtype)
            with self.b.loop("t", 0, self.keys, 1, [zero]) as t, self.pull.scope():
                p = self.b.load(scores, [lane(0, size), t.iv], (size, 1))
                index = [at[0], group, t.iv, column]
                v = self.pull.at(self.root.v, index, (1, self.width), tuple(bounds))
                t.next = [self.b.dot(p, self.b.convert(v, self.dtype), t.carried[0])]
            y = self.b.map("div", t.results[0], total)
            y = self.b.convert(y, spec(self.root.y).dtype)
            self.pull.made[self.root.y] = lambda i, s, b: y
            self.results.store([*at, column], (size, self.width), bounds)
